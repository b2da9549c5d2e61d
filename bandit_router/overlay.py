"""What operators set while the router runs, laid over the file; the database keeps it.

The file stays as it was written: taking a setting out of the overlay brings the file's back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.config_challengers import ChampionSetting, TrialSetting
from bandit_router.errors import ConfigError

MODEL = "model:"
BUDGET = "policy.budget_usd_per_request"
FROZEN = "exploration.frozen"
TRIAL = "trial"
CHAMPION = "champion"


class ModelState(StrEnum):
    """What an operator said of a model."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ModelSetting:
    """config: of a model that the file does not have; None leaves the file's as it is."""

    state: ModelState
    config: ModelConfig | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """budget_set: whether ``budget_usd`` counts; None is a budget too, namely none.
    frozen: choose what looks best, and try nothing. trial: of a challenger, if one is on trial.
    champion: the promoted challenger that serves, None where the file's policy does."""

    models: Mapping[str, ModelSetting] = field(default_factory=dict)
    budget_set: bool = False
    budget_usd: float | None = None
    frozen: bool = False
    trial: TrialSetting | None = None
    champion: ChampionSetting | None = None


def overlay_of(settings: Mapping[str, Any]) -> Overlay:
    """The overlay from stored settings by name; unknown names are a newer version's."""
    models = {}
    for name, value in settings.items():
        if name.startswith(MODEL):
            config = value.get("config")
            models[name.removeprefix(MODEL)] = ModelSetting(
                ModelState(value["state"]), ModelConfig(**config) if config else None
            )
    return Overlay(
        models=models,
        budget_set=BUDGET in settings,
        budget_usd=settings.get(BUDGET),
        frozen=bool(settings.get(FROZEN, False)),
        trial=TrialSetting(**settings[TRIAL]) if settings.get(TRIAL) else None,
        champion=ChampionSetting(**settings[CHAMPION]) if settings.get(CHAMPION) else None,
    )


def setting_of(model: ModelSetting) -> dict[str, Any]:
    """A model's setting as it is stored."""
    config = model.config.model_dump(mode="json") if model.config else None
    return {"state": model.state.value, "config": config}


def overlaid(config: RouterConfig, overlay: Overlay) -> RouterConfig:
    """The file's configuration under the overlay, validated anew.

    A model that both have is the file's. Raises ConfigError where the two do not go together.
    """
    models = [*config.models]
    named = {model.name for model in models}
    models += [
        setting.config
        for name, setting in sorted(overlay.models.items())
        if setting.config is not None and name not in named
    ]
    kept = []
    for model in models:
        setting = overlay.models.get(model.name)
        if setting is None:
            kept.append(model)
        elif setting.state is not ModelState.RETIRED:
            paused = setting.state is ModelState.PAUSED
            kept.append(model.model_copy(update={"paused": paused}))
    config = _championed(config, overlay.champion)
    sections = {name: getattr(config, name) for name in RouterConfig.model_fields}
    policy = config.policy
    if overlay.budget_set:
        policy = policy.model_copy(update={"budget_usd_per_request": overlay.budget_usd})
    if kept and not any(not (model.paused or model.last_resort) for model in kept):
        raise ConfigError(
            "no model would be left to choose from: every one is paused, retired or a last "
            "resort; resume or add one first"
        )
    try:
        return RouterConfig(**{**sections, "models": tuple(kept), "policy": policy})
    except ValidationError as error:
        told = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"what operators set does not fit the file: {told}") from error


def _championed(config: RouterConfig, champion: ChampionSetting | None) -> RouterConfig:
    """The configuration under which the promoted challenger serves."""
    if champion is None:
        return config
    try:
        return config.varied(champion.policy, champion.exploration, learned_as=champion.line)
    except ValueError as error:
        raise ConfigError(
            f"'{champion.name}', which was promoted, does not fit the file: {error}"
        ) from error
