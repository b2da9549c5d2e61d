"""Which models a request leaves, and the reason for each of the others."""

from __future__ import annotations

from typing import Any

import pytest

from bandit_router.config import ModelConfig
from bandit_router.eligibility import DEFAULT_OUTPUT_TOKENS, check_known, eligible_models
from bandit_router.errors import NoEligibleModel, UnknownModel
from bandit_router.types import Controls, MaskReason, RoutingRequest, Tier


def model(name: str, **changes: Any) -> ModelConfig:
    values = {"name": name, "base_url": "http://127.0.0.1:1/v1"}
    return ModelConfig.model_validate({**values, **changes})


MODELS = (
    model("small", context_window_tokens=1000),
    model("large", capabilities=["tools", "vision"], tier="large"),
    model("resting", paused=True),
    model("local", local=True, last_resort=True),
)


def request(**changes: Any) -> RoutingRequest:
    return RoutingRequest(**{"messages": ({"role": "user", "content": "hello"},), **changes})


def nobody_cools(_: str) -> bool:
    return False


def test_each_model_left_out_says_why() -> None:
    eligible, masked = eligible_models(MODELS, request(), 10, nobody_cools)
    assert eligible.tolist() == [True, True, False, False]
    assert masked == {"resting": MaskReason.PAUSED, "local": MaskReason.LAST_RESORT}


@pytest.mark.parametrize(
    ("asked", "input_tokens", "name", "reason"),
    [
        (request(candidates=("large",)), 10, "small", MaskReason.NOT_A_CANDIDATE),
        (
            request(required_capabilities=frozenset({"tools"})),
            10,
            "small",
            MaskReason.CAPABILITY,
        ),
        (request(max_output_tokens=991), 10, "small", MaskReason.CONTEXT_WINDOW),
        (request(), 1000 - DEFAULT_OUTPUT_TOKENS + 1, "small", MaskReason.CONTEXT_WINDOW),
        (
            request(controls=Controls(exclude=frozenset({"small"}))),
            10,
            "small",
            MaskReason.EXCLUDED,
        ),
        (request(controls=Controls(minimum_tier=Tier.MEDIUM)), 10, "small", MaskReason.BELOW_TIER),
    ],
)
def test_constraints_mask(
    asked: RoutingRequest, input_tokens: int, name: str, reason: MaskReason
) -> None:
    eligible, masked = eligible_models(MODELS, asked, input_tokens, nobody_cools)
    assert masked[name] is reason
    assert eligible.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("asked", "input_tokens"),
    [
        (request(max_output_tokens=990), 10),
        (request(), 1000 - DEFAULT_OUTPUT_TOKENS),
        (request(candidates=("small", "large")), 10),
    ],
)
def test_what_just_fits_is_eligible(asked: RoutingRequest, input_tokens: int) -> None:
    eligible, _ = eligible_models(MODELS, asked, input_tokens, nobody_cools)
    assert eligible[0]


def test_models_that_cool_down_are_left_alone() -> None:
    eligible, masked = eligible_models(MODELS, request(), 10, lambda name: name == "large")
    assert eligible.tolist() == [True, False, False, False]
    assert masked["large"] is MaskReason.COOLING_DOWN


def test_cool_downs_that_alone_would_leave_nothing_are_ignored() -> None:
    eligible, masked = eligible_models(MODELS, request(), 10, lambda _: True)
    assert eligible.tolist() == [True, True, False, False]
    assert MaskReason.COOLING_DOWN not in masked.values()
    # Also where constraints left just one.
    asked = request(candidates=("large",))
    eligible, masked = eligible_models(MODELS, asked, 10, lambda name: name == "large")
    assert eligible.tolist() == [False, True, False, False]


def test_nothing_left_is_told_with_every_reason() -> None:
    asked = request(candidates=("small", "local"), required_capabilities=frozenset({"vision"}))
    with pytest.raises(NoEligibleModel) as caught:
        eligible_models(MODELS, asked, 123, nobody_cools)
    told = str(caught.value)
    assert "about 123 tokens" in told
    for part in (
        "small: capability",
        "large: not_a_candidate",
        "resting: paused",
        "local: last_resort",
    ):
        assert part in told


def test_an_unknown_candidate_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UnknownModel, match=r"no model 'tiny'; this router has large, local") as e:
        eligible_models(MODELS, request(candidates=("small", "tiny")), 10, nobody_cools)
    assert e.value.param == "models"
    with pytest.raises(UnknownModel) as caught:
        check_known(("gpt",), MODELS, param="model")
    assert caught.value.param == "model"
