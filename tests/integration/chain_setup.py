"""A fallback chain over real providers, with patience short enough for tests."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bandit_router.breakers import Breakers
from bandit_router.circuit import settings_of
from bandit_router.clock import SystemClock
from bandit_router.completion import FallbackChain
from bandit_router.config import FallbackConfig, ModelConfig
from bandit_router.protocols import ModelCall
from bandit_router.providers.openai_compatible import OpenAICompatibleProvider
from bandit_router.providers.registry import build_providers, close_providers

DECISION = UUID("01890000-0000-7000-8000-000000000001")
BODY: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}


def fallback(**changes: Any) -> FallbackConfig:
    quick = {
        "deadline_s": 10.0,
        "attempt_timeout_s": 0.4,
        "first_token_timeout_s": 0.3,
        "idle_timeout_s": 0.3,
        "num_retries": 1,
        "backoff_s": 0.01,
        "max_backoff_s": 2.0,
        "allowed_fails": 100,
        "minimum_calls": 1000,
    }
    return FallbackConfig(**{**quick, **changes})


def http_model(name: str, base_url: str, **changes: Any) -> ModelConfig:
    prices = {"input_usd_per_million": 1.0, "output_usd_per_million": 2.0}
    return ModelConfig(name=name, base_url=base_url, **{**prices, **changes})


@dataclass
class Bench:
    chain: FallbackChain
    breakers: Breakers
    slept_s: list[float] = field(default_factory=list)


@contextlib.asynccontextmanager
async def chain_over(
    *models: ModelConfig, environ: Mapping[str, str] | None = None, **changes: Any
) -> AsyncIterator[Bench]:
    """A chain over these models; waits between retries are noted and not slept."""
    config, clock = fallback(**changes), SystemClock()
    providers = build_providers(models, environ=environ or {}, clock=clock)
    named = {model.name: model for model in models}
    breakers = Breakers(named, settings_of(config), clock)
    slept_s: list[float] = []

    async def sleep(duration_s: float) -> None:
        slept_s.append(duration_s)

    chain = FallbackChain(
        named,
        providers,
        config,
        breakers=breakers,
        clock=clock,
        rng=random.Random(1),
        sleep=sleep,
    )
    try:
        yield Bench(chain, breakers, slept_s)
    finally:
        await close_providers(providers)


@contextlib.asynccontextmanager
async def provider_at(base_url: str, **changes: Any) -> AsyncIterator[OpenAICompatibleProvider]:
    provider = OpenAICompatibleProvider(
        http_model("m", base_url, **changes), api_key="k-1", clock=SystemClock()
    )
    try:
        yield provider
    finally:
        await provider.close()


def call_of(body: dict[str, Any] | None = None, **changes: Any) -> ModelCall:
    patience = {"timeout_s": 5.0, "first_token_timeout_s": 0.3, "idle_timeout_s": 0.3}
    return ModelCall(body=body or BODY, context={}, **{**patience, **changes})
