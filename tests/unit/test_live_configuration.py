"""What may change while the router runs, and how the overlay lies over the file."""

from __future__ import annotations

from typing import Any

import pytest

from bandit_router.config import RouterConfig
from bandit_router.errors import ConfigError
from bandit_router.overlay import (
    BUDGET,
    FROZEN,
    MODEL,
    ModelSetting,
    ModelState,
    overlaid,
    overlay_of,
    setting_of,
)
from service.live import changed_sections


def make_config(**sections: Any) -> RouterConfig:
    models = [{"name": name, "base_url": "http://127.0.0.1:1/v1"} for name in ("small", "large")]
    return RouterConfig.model_validate({"models": models, **sections})


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"features": {"text": "none"}}, "features"),
        ({"server": {"port": 1}}, "server"),
        ({"policy": {"name": "linucb"}}, "policy.name"),
        ({"fallback": {"cooldown_time_s": 1.0}}, "breakers"),
        ({"fallback": {"probe_share": 0.5}}, "breakers"),
        ({"learner": {"interval_s": 9.0}}, "learner"),
    ],
)
def test_what_needs_a_restart_is_refused_by_name(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        changed_sections(make_config(), make_config(**section))


def test_what_is_live_is_named() -> None:
    changes = {"policy": {"value_of_second": 0.1}, "fallback": {"num_retries": 3}}
    assert set(changed_sections(make_config(), make_config(**changes))) == {"policy", "fallback"}
    paid = {"limits": {"tenant": {"usd_per_day": 1.0}}, "sessions": {"sticky": False}}
    assert set(changed_sections(make_config(), make_config(**paid))) == set(paid)
    assert changed_sections(make_config(), make_config()) == ()


def test_the_overlay_survives_its_storage_and_the_file_stays_as_it_was() -> None:
    config = make_config()
    new = config.models[0].model_copy(update={"name": "new"})
    stored = {
        MODEL + "new": setting_of(ModelSetting(ModelState.ACTIVE, new)),
        MODEL + "small": setting_of(ModelSetting(ModelState.PAUSED)),
        BUDGET: None,
        FROZEN: True,
        "of a newer version": 1,
    }
    overlay = overlay_of(stored)
    assert overlay.frozen
    whole = overlaid(make_config(policy={"budget_usd_per_request": 1.0}), overlay)
    assert [(m.name, m.paused) for m in whole.models] == [
        ("small", True),
        ("large", False),
        ("new", False),
    ]
    assert whole.policy.budget_usd_per_request is None
    assert overlaid(config, overlay_of({})) == config


def test_an_overlay_that_leaves_nothing_to_choose_is_refused() -> None:
    gone = setting_of(ModelSetting(ModelState.RETIRED))
    paused = setting_of(ModelSetting(ModelState.PAUSED))
    with pytest.raises(ConfigError, match="no model would be left"):
        overlaid(make_config(), overlay_of({MODEL + "small": gone, MODEL + "large": paused}))
    fixed = make_config(policy={"name": "fixed", "model": "small"})
    with pytest.raises(ConfigError, match="does not fit the file"):
        overlaid(fixed, overlay_of({MODEL + "small": gone}))
