"""What an operator is told, and proof that the log is true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from core_samples import folded, make_policy, make_problem, make_rows

from bandit_router import snapshot
from bandit_router.activity import ActivityLog
from bandit_router.breakers import Breakers
from bandit_router.circuit import BreakerSettings
from bandit_router.clock import SystemClock
from bandit_router.config import RouterConfig
from bandit_router.features import build_extractor
from bandit_router.ids import uuid7
from bandit_router.inspection import Z95, arm_reports, check_pmf, coefficients, typical_request
from bandit_router.learning import LearnedState, init_state
from bandit_router.protocols import SnapshotRecord
from bandit_router.router import Router, policy_of, problem_of
from bandit_router.serving import Serving
from bandit_router.types import Decision, MaskReason, Mode, RoutingRequest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASKED = RoutingRequest(messages=({"role": "user", "content": "Add 3 and 4, then explain."},))
PRICES = (0.1, 1.0, 10.0)


def make_config(**changes: Any) -> RouterConfig:
    models = [
        {
            "name": name,
            "base_url": "http://127.0.0.1:1/v1",
            "input_usd_per_million": price,
            "output_usd_per_million": 4 * price,
        }
        for name, price in zip(("small", "medium", "large"), PRICES, strict=True)
    ]
    last = {"name": "local", "provider": "llama_cpp", "local": True, "last_resort": True}
    values = {
        "models": [*models, last],
        "features": {"text": "none", "metadata": []},
        "policy": {"budget_usd_per_request": 1e-3},
    }
    return RouterConfig.model_validate({**values, **changes})


class House:
    """A router and everything that it and an inspection need."""

    def __init__(self, config: RouterConfig, row_count: int = 90, version: int = 5) -> None:
        self.extractor = build_extractor(config.features)
        self.problem = problem_of(config, self.extractor)
        self.policy = policy_of(config)
        state = init_state(self.problem, self.policy)
        state = folded(self.problem, self.policy, make_rows(self.problem, row_count), state)
        self.record = SnapshotRecord(
            version=version,
            created_at=NOON,
            policy=self.policy.name,
            extractor_version=self.extractor.version,
            cursor=(1, 1),
            reason="fold",
            payload=snapshot.to_bytes(self.problem, self.policy, state),
        )
        self.router = Router(
            config,
            self.extractor,
            self.problem,
            self.policy,
            Serving(version, state),
            breakers=Breakers({}, BreakerSettings(), SystemClock()),
            activity=ActivityLog(len(self.problem.arms)),
            secret=b"secret",
        )
        self._bits = np.random.default_rng(1)

    def decide(self, request: RoutingRequest = ASKED, step: int = 0) -> Decision:
        moment = NOON + timedelta(milliseconds=step)
        made = uuid7(moment, int.from_bytes(self._bits.bytes(10), "big"))
        return self.router.decide(request, decision_id=made, now=moment)


@pytest.fixture
def house() -> House:
    return House(make_config())


def test_a_fresh_decision_is_recomputed_to_the_bit(house: House) -> None:
    for step in range(20):
        decision = house.decide(step=step)
        found = check_pmf(house.problem, house.policy, decision, house.record)
        assert found.equal is True
        assert found.reason is None
        assert found.recomputed is not None
        assert found.recomputed.tobytes() == decision.pmf.tobytes()
        assert decision.propensity == decision.pmf[decision.arms.index(decision.chosen)]


def test_decisions_before_any_snapshot_can_be_recomputed_too() -> None:
    house = House(make_config(), row_count=0, version=0)
    found = check_pmf(house.problem, house.policy, house.decide(), None)
    assert found.equal is True


def test_a_decision_among_some_models_can_be_recomputed(house: House) -> None:
    decision = house.decide(replace(ASKED, candidates=("small", "large")))
    assert decision.masked["medium"] is MaskReason.NOT_A_CANDIDATE
    assert check_pmf(house.problem, house.policy, decision, house.record).equal is True


def test_a_tampered_decision_is_found_out(house: House) -> None:
    decision = house.decide()
    wrong = decision.pmf[[1, 0, 2, 3]]
    odd = decision.features.copy()
    odd[0] += 3.0
    for tampered in (
        replace(decision, pmf=wrong),
        replace(decision, features=odd),
        replace(decision, price_of_dollar=decision.price_of_dollar + 1e4),
    ):
        found = check_pmf(house.problem, house.policy, tampered, house.record)
        assert found.equal is False
        assert found.largest_difference is not None
        assert found.largest_difference > 1e-6


def test_another_snapshot_does_not_explain_a_decision(house: House) -> None:
    other = House(make_config(), row_count=60)
    found = check_pmf(house.problem, house.policy, house.decide(), other.record)
    assert found.equal is False


def test_what_cannot_be_recomputed_says_why(house: House) -> None:
    decision = house.decide()
    problem, policy, record = house.problem, house.policy, house.record
    overridden = house.decide(replace(ASKED, override="large"))
    assert overridden.mode is Mode.OVERRIDE
    elsewhere = replace(decision, policy="linucb")
    longer = replace(decision, features=np.zeros(3, dtype=np.float32))
    renamed = replace(decision, arms=("a", "b", "c", "d"))
    damaged = replace(record, payload=b"")
    for told, given, reason in (
        (overridden, record, "mode is override"),
        (elsewhere, record, "'linucb' made it, 'thompson' serves now"),
        (decision, None, "snapshot 5 is no longer kept"),
        (decision, damaged, "cannot be read"),
        (replace(longer, snapshot_version=0), None, "other features"),
        (replace(renamed, snapshot_version=0), None, "other models"),
    ):
        found = check_pmf(problem, policy, told, given)
        assert found.equal is None
        assert found.recomputed is None
        assert found.reason is not None
        assert reason in found.reason


def test_ten_thousand_decisions_are_as_frequent_as_their_logged_pmf() -> None:
    # Looks and floors go by counts, which move; without them every decision has the same pmf.
    house = House(make_config(exploration={"enabled": False}), row_count=9)
    count = 10_000
    first = house.decide()
    chosen = np.zeros(4)
    for step in range(count):
        decision = house.decide(step=step)
        assert decision.pmf.tobytes() == first.pmf.tobytes()
        chosen[decision.arms.index(decision.chosen)] += 1
    assert np.count_nonzero(first.pmf) == 3
    standard_error = np.sqrt(first.pmf * (1.0 - first.pmf) / count)
    assert (np.abs(chosen / count - first.pmf) <= 4.0 * standard_error).all()


def learned() -> tuple[Any, Any, LearnedState]:
    problem, policy = make_problem(), make_policy()
    return problem, policy, folded(problem, policy, make_rows(problem, 120))


def test_reports_say_what_is_believed_of_each_model() -> None:
    problem, policy, state = learned()
    reports = arm_reports(problem, policy, state)
    assert [report.model for report in reports] == list(problem.arms)
    beliefs = policy.beliefs(state.policy, typical_request(state))
    for k, report in enumerate(reports):
        assert report.quality == pytest.approx(float(beliefs.mean[k]))
        assert report.quality_high - report.quality_low == pytest.approx(2 * Z95 * beliefs.sd[k])
        assert report.effective_sample_size == pytest.approx(40.0)
        assert report.pulls == 40
        assert report.share == pytest.approx(1 / 3)
        assert [c.feature for c in report.coefficients] == ["bias", "x0", "x1", "x2", "x3"]
    assert reports[0].quality < reports[2].quality
    assert reports[0].cost_usd < reports[2].cost_usd
    assert reports[0].latency_s < reports[2].latency_s


def test_coefficients_carry_their_intervals() -> None:
    _, _, state = learned()
    arm = state.policy.arms[1]
    found = coefficients(state.policy, 1, state.basis.names)
    for i, coefficient in enumerate(found):
        assert coefficient.mean == pytest.approx(arm.mean[i])
        half = Z95 * np.sqrt(arm.covariance[i, i])
        assert coefficient.low == pytest.approx(arm.mean[i] - half)
        assert coefficient.high == pytest.approx(arm.mean[i] + half)


def test_intervals_of_quality_hold_the_truth() -> None:
    # Mean rewards of 0.5, 0.6 and 0.7; make_rows clips nothing of note.
    _, _, state = learned()
    reports = arm_reports(*learned())
    for k, report in enumerate(reports):
        assert report.quality_low < 0.5 + 0.1 * k < report.quality_high
    assert typical_request(state)[0] == 1.0


def test_before_any_request_reports_are_the_prior() -> None:
    problem, policy = make_problem(), make_policy()
    state = init_state(problem, policy)
    np.testing.assert_array_equal(typical_request(state), [1.0, 0.0, 0.0, 0.0, 0.0])
    for report in arm_reports(problem, policy, state):
        assert report.quality == pytest.approx(0.5)
        assert report.share == report.pulls == 0
        assert report.effective_sample_size == 0.0
