"""Which class serves which kind of provider. A new kind is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.protocols import Clock, Provider
from bandit_router.providers.litellm import LitellmProvider
from bandit_router.providers.llama_cpp import LlamaCppProvider
from bandit_router.providers.openai_compatible import OpenAICompatibleProvider, resolve_key
from bandit_router.providers.recording_file import RecordingFiles
from bandit_router.providers.replayed import FaultPlan, Recording, ReplayedProvider


@dataclass(frozen=True, slots=True)
class ProviderParts:
    """What the doors hand to every factory.

    environ: where API keys are found. recordings: the outcome matrix of a replayed model.
    faults: the plan that replayed models fail by.
    """

    environ: Mapping[str, str]
    clock: Clock
    recordings: Callable[[ModelConfig], Recording]
    faults: FaultPlan | None = None


def _openai_compatible(model: ModelConfig, parts: ProviderParts) -> Provider:
    return OpenAICompatibleProvider(
        model, api_key=resolve_key(model, parts.environ), clock=parts.clock
    )


def _litellm(model: ModelConfig, parts: ProviderParts) -> Provider:
    return LitellmProvider(model, api_key=resolve_key(model, parts.environ), clock=parts.clock)


def _llama_cpp(model: ModelConfig, parts: ProviderParts) -> Provider:
    return LlamaCppProvider(model, clock=parts.clock)


def _replayed(model: ModelConfig, parts: ProviderParts) -> Provider:
    return ReplayedProvider(model, parts.recordings(model), faults=parts.faults)


FACTORIES: Mapping[ProviderKind, Callable[[ModelConfig, ProviderParts], Provider]] = {
    ProviderKind.OPENAI_COMPATIBLE: _openai_compatible,
    ProviderKind.LITELLM: _litellm,
    ProviderKind.LLAMA_CPP: _llama_cpp,
    ProviderKind.REPLAYED: _replayed,
}


def build_providers(
    models: Iterable[ModelConfig],
    *,
    environ: Mapping[str, str],
    clock: Clock,
    recordings: Callable[[ModelConfig], Recording] | None = None,
    faults: FaultPlan | None = None,
) -> dict[str, Provider]:
    """One provider per model, by name; opens no connection and loads no model yet.

    recordings: where replayed models find theirs; by default in the file that ``path`` names.
    Raises ConfigError for a missing key, file or package.
    """
    parts = ProviderParts(environ, clock, recordings or RecordingFiles().of, faults)
    return {model.name: FACTORIES[model.provider](model, parts) for model in models}


async def close_providers(providers: Mapping[str, Provider]) -> None:
    """Close them all; the service calls this last."""
    for provider in providers.values():
        await provider.close()
