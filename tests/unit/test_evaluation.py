"""Evaluation on logged traffic, against a world whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from bandit_router.errors import DataError
from bandit_router.ope import (
    LoggedRounds,
    Options,
    RefusalReason,
    difference,
    evaluate,
    logged_rounds,
    logging_policy,
    round_values,
)
from bandit_router.policies import PolicyOptions, build_policy
from bandit_router.snapshot import to_bytes
from bandit_router.types import FloatArray
from simulations.evaluate_command import evaluate_specs
from simulations.evaluate_report import evaluation_content
from simulations.evaluation import Evaluation, evaluate_rounds
from simulations.frozen import frozen_policy
from simulations.logs.checks import checked, with_types
from simulations.logs.rounds import Log, load_log
from simulations.report import Level, Role
from simulations.targets import TargetPmf, parse_target
from simulations.world import Traffic, named_world, simulate_traffic

OFFICE = named_world("office")


def logged(traffic: Traffic, segment: str | None = None) -> Log:
    return load_log(checked(with_types(traffic.log.lazy(), "log"), "log")[0], segment=segment)


def true_values(traffic: Traffic, pmf: FloatArray) -> Mapping[str, float]:
    return {
        "reward": float((pmf * traffic.expected_quality).sum(axis=1).mean()),
        "cost_usd": float((pmf * traffic.matrix.cost_usd).sum(axis=1).mean()),
    }


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return simulate_traffic(
        OFFICE,
        1500,
        np.random.default_rng(3),
        policy="epsilon_greedy",
        budget_usd=1e-3,
        feedback_rate=0.7,
    )


@pytest.fixture(scope="module")
def evaluation(traffic: Traffic) -> Evaluation:
    log = logged(traffic, "task")
    return evaluate_specs(log, ["random", "mix:mini=0.5,grand=0.5"], segment="task")


def test_the_log_itself_is_estimated_by_its_mean(traffic: Traffic, evaluation: Evaluation) -> None:
    cost = evaluation.target("logged").values["cost_usd"]
    assert cost.value == pytest.approx(traffic.log["cost_usd"].mean(), rel=0.05)
    assert evaluation.target("logged").gains["reward"].value == 0.0
    assert evaluation.target("logged").diagnostics.effective_sample_size == 1500


def drawn_rounds(seed: int, count: int) -> tuple[LoggedRounds, FloatArray]:
    """A log whose probabilities depend on the request, and the true mean rewards."""
    rng = np.random.default_rng(seed)
    contexts = OFFICE.contexts(count, rng)
    matrix, truth = OFFICE.matrix(contexts, rng), OFFICE.expected_quality(contexts)
    pmf = rng.dirichlet(np.ones(4), OFFICE.topic_share.size)[contexts.topic] * 0.8 + 0.05
    arm = (rng.random((count, 1)) > pmf.cumsum(axis=1)).sum(axis=1).clip(max=3)
    reward = matrix.quality[np.arange(count), arm]
    reward[rng.random(count) < 0.2] = np.nan
    return logged_rounds(
        arms=OFFICE.arms, arm=arm, pmf=pmf, reward=reward, features=contexts.features
    ), truth


def test_intervals_cover_the_truth_on_most_of_many_logs() -> None:
    covered: list[bool] = []
    for seed in range(24):
        rounds, expected = drawn_rounds(seed, 600)
        targets = []
        for arm in range(2):
            pmf = np.full((600, 4), 0.1)
            pmf[:, arm] = 0.7
            targets.append(TargetPmf(f"mostly {arm}", pmf))
        log = Log(rounds, np.zeros(600), 0, None)
        evaluation = evaluate_rounds(log, targets)
        for target in targets:
            mean = evaluation.target(target.name).values.get("reward")
            if mean is not None:
                truth = float((target.pmf * expected).sum(axis=1).mean())
                covered.append(mean.low <= truth <= mean.high)
    assert len(covered) >= 36
    # 95 %, and three standard errors of that.
    assert np.mean(covered) >= 0.95 - 3 * (0.95 * 0.05 / len(covered)) ** 0.5


def test_values_and_refusals_are_those_of_the_library() -> None:
    rounds, _ = drawn_rounds(1, 800)
    rare = np.full((800, 4), 0.25)
    targets = [TargetPmf("even", rare), TargetPmf("greedy", np.eye(4)[rounds.pmf.argmin(axis=1)])]
    wanted = {
        "logged": logging_policy(),
        "even": lambda part: rare[part.order],
        "greedy": lambda part: np.eye(4)[part.pmf.argmin(axis=1)],
    }
    found = evaluate(rounds, wanted, Options(estimators=("dr",)))
    evaluation = evaluate_rounds(Log(rounds, np.zeros(800), 0, None), targets)
    estimate = found["even"].estimate()
    mean, gain = evaluation.target("even").values["reward"], evaluation.target("even").gains
    assert (mean.value, (mean.low, mean.high)) == (estimate.value, estimate.interval)
    apart = difference(found["even"], found["logged"])
    assert (gain["reward"].value, (gain["reward"].low, gain["reward"].high)) == apart
    assert found["greedy"].refused is not None
    assert evaluation.target("greedy").refused == found["greedy"].refused
    # Round by round it is the same estimator: the rounds' mean is its value.
    each = round_values(rounds, wanted)
    assert each.values["even", "reward"].mean() == pytest.approx(estimate.value, abs=1e-12)
    assert evaluation.target("even").refusals["cost_usd"].reason is RefusalReason.NOT_OBSERVED


def test_a_target_near_the_log_is_close_to_its_truth(
    traffic: Traffic, evaluation: Evaluation
) -> None:
    pmf = np.full((1500, 4), 0.25)
    values = evaluation.target("random").values
    truth = true_values(traffic, pmf)
    assert values["reward"].low - 0.01 <= truth["reward"] <= values["reward"].high + 0.01
    assert values["cost_usd"].value == pytest.approx(truth["cost_usd"], rel=0.15)


def test_a_target_outside_the_support_is_refused_with_the_arm(traffic: Traffic) -> None:
    frame = traffic.log
    pmf = np.array(frame["pmf"].to_list())
    pmf[:, 3] = 0.0
    keep = frame["chosen"].to_numpy() != "grand"
    pmf = pmf[keep] / pmf[keep].sum(axis=1, keepdims=True)
    arm = np.array([OFFICE.arms.index(name) for name in frame["chosen"].to_numpy()[keep]])
    without = frame.filter(pl.Series(keep)).with_columns(
        pl.Series("pmf", pmf.tolist()),
        pl.Series("propensity", pmf[np.arange(arm.size), arm]),
    )
    log = load_log(checked(with_types(without.lazy(), "log"), "log")[0])
    found = evaluate_specs(log, ["fixed:grand"]).target("fixed:grand")
    assert found.refused is not None
    assert found.refused.reason is RefusalReason.NO_SUPPORT
    assert found.refused.arm == "grand"
    assert found.values == {}


def test_a_silent_downgrade_of_hard_requests_shows(
    evaluation: Evaluation, traffic: Traffic
) -> None:
    content = evaluation_content(
        evaluate_specs(logged(traffic, "task"), ["fixed:mini"], segment="task"), ("fixed:mini",)
    )
    found = content.point("fixed:mini")
    if found.refused is None:
        bad = [f.text for f in content.findings if f.level is Level.BAD]
        assert any("hardest fifth of requests worse than logged" in text for text in bad)
    assert [p.role for p in content.points][:2] == [Role.TARGET, Role.LOGGED]
    table = evaluation.hard.filter(evaluation.hard["policy"] == "logged")
    assert table["slice"].to_list() == ["easiest", "2", "3", "4", "hardest"]
    assert table["quality"][0] > table["quality"][4]


def test_shares_add_up(evaluation: Evaluation) -> None:
    for _, part in evaluation.shares.group_by(["policy", "request"]):
        assert part["share"].sum() == pytest.approx(1.0)


def test_segments_are_those_of_the_library_and_small_ones_are_refused() -> None:
    drawn, _ = drawn_rounds(2, 2000)
    rows = np.arange(2000)
    labels = np.where(rows % 20 == 0, 2, rows % 2)
    rounds = replace(drawn, segment=labels, segments=("even", "odd", "rare"))
    pmf = np.full((2000, 4), 0.25)
    evaluation = evaluate_rounds(Log(rounds, np.zeros(2000), 0, None), [TargetPmf("same", pmf)])
    wanted = {"logged": logging_policy(), "same": lambda part: pmf[part.order]}
    found = evaluate(rounds, wanted, Options(estimators=("dr",)))
    value = {
        (name, each.segment): each.value
        for name, one in found.items()
        for each in one.segments
        if each.outcome == "reward"
    }
    assert set(evaluation.segments["segment"]) == {"even", "odd"}
    for row in evaluation.segments.to_dicts():
        gain = value["same", row["segment"]] - value["logged", row["segment"]]
        assert row["difference"] == pytest.approx(gain, abs=1e-9)
        assert row["low"] < gain < row["high"]
    assert any(note.startswith("same: no estimate on rare;") for note in evaluation.notes)


def test_a_snapshot_is_evaluated_as_it_would_serve(traffic: Traffic) -> None:
    log = logged(traffic)
    learned = simulate_traffic(OFFICE, 600, np.random.default_rng(9), budget_usd=1e-3)
    payload = to_bytes(learned.problem, build_policy("thompson", PolicyOptions()), learned.state)
    frozen = frozen_policy("thompson@x", "thompson", payload, None)
    features = np.asarray(log.rounds.features[:50], dtype=np.float64)
    pmf = frozen.pmf(features, log.input_tokens[:50], log.rounds.eligible[:50], log.rounds.arms)
    assert np.allclose(pmf.sum(axis=1), 1.0)
    # The same snapshot, its arms in another order in the log.
    order = ["grand", "mini", "coder", "linguist"]
    other = frozen.pmf(features, log.input_tokens[:50], np.ones((50, 4), dtype=bool), order)
    assert np.allclose(other[:, 1], pmf[:, 0])
    cheap = frozen.at_budget(1e-4, features, log.input_tokens[:50]).pmf(
        features, log.input_tokens[:50], log.rounds.eligible[:50], log.rounds.arms
    )
    assert cheap[:, 0].mean() > pmf[:, 0].mean()
    with pytest.raises(DataError, match="made by another extractor"):
        frozen.pmf(features[:, :5], log.input_tokens[:50], np.ones((50, 4), dtype=bool), order)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("thompson", "name a state of it"),
        ("fixed:gpt", "no arm 'gpt' in the log"),
        ("mix:gpt=1", "no arm 'gpt' in the log"),
        ("mix:mini=half", "'half' is no share"),
        ("thompson@snapshot-3", "lies in the router's database"),
        ("thompson@3", "after @ comes snapshot-12"),
        ("thompson@none.npz", "cannot be read"),
        ("best", "no target 'best'"),
    ],
)
def test_targets_that_cannot_be_are_told(traffic: Traffic, spec: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        parse_target(spec, logged(traffic))


def test_a_segment_that_is_not_there_is_told(traffic: Traffic) -> None:
    with pytest.raises(DataError, match="no decision has 'colour' in its metadata"):
        logged(traffic, "colour")
