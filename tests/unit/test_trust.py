"""How far a source of feedback is believed."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.config import FeedbackConfig
from bandit_router.store.api_keys import Principal
from bandit_router.trust import BLATANT_SIGNALS, FREE_SIGNALS, Ledger, open_ledger
from bandit_router.types import Tally


def honest(
    ledger: Ledger, source: str, arm: str, count: int, seed: int, shift: float = 0.0
) -> None:
    for residual in np.random.default_rng(seed).normal(shift, 0.15, count):
        ledger.enter((source, "quality", arm), float(residual))


def test_a_key_that_damns_one_model_and_praises_another_is_set_aside_with_the_reason() -> None:
    ledger = Ledger(FeedbackConfig())
    for arm in ("a", "b"):
        honest(ledger, "app", arm, 300, seed=1)
    steps = 0
    while "evil" not in ledger.quarantined:
        ledger.enter(("evil", "quality", "a"), -0.9)
        ledger.enter(("evil", "quality", "b"), 0.1)
        steps += 1
    assert steps == BLATANT_SIGNALS
    assert (
        ledger.believed(("evil", "quality", "a"), 0.0)
        == ledger.believed(("evil", "quality", "b"), 0.0)
        == 0.0
    )
    assert ledger.believed(("app", "quality", "a"), 0.0) == 1.0
    assert "its 5 signals of 'quality' on a are -0.88 beside the 300" in ledger.verdicts["evil"]
    # What it said is no longer held against anybody.
    assert ledger.totals["quality", "a"].count == pytest.approx(300.0)


def test_a_source_that_is_stricter_on_every_model_alike_is_believed() -> None:
    ledger = Ledger(FeedbackConfig())
    for arm in ("a", "b"):
        honest(ledger, "app", arm, 300, seed=2)
    for i in range(60):
        for arm in ("a", "b"):
            honest(ledger, "strict", arm, 1, seed=100 + i, shift=-0.35)
    assert "strict" not in ledger.quarantined
    assert not ledger.verdicts


def test_honest_sources_are_not_set_aside_by_chance() -> None:
    set_aside = 0
    for seed in range(60):
        ledger = Ledger(FeedbackConfig())
        honest(ledger, "app", "a", 400, seed)
        for _ in range(5):
            honest(ledger, "web", "a", 60, seed + 1000)
        set_aside += len(ledger.verdicts)
    assert set_aside == 0


def test_a_slanted_key_is_set_aside_once_it_has_said_enough() -> None:
    ledger = Ledger(FeedbackConfig())
    for arm in ("a", "b"):
        honest(ledger, "app", arm, 300, seed=9)
    for i in range(19):
        honest(ledger, "slanted", "a", 1, seed=i, shift=-0.3)
        honest(ledger, "slanted", "b", 1, seed=i)
    assert not ledger.quarantined
    honest(ledger, "slanted", "a", 1, seed=20, shift=-0.3)
    assert ledger.quarantined == {"slanted"}


def test_a_new_sources_signal_far_off_counts_little() -> None:
    ledger = Ledger(FeedbackConfig())
    honest(ledger, "app", "a", 300, seed=10)
    ledger.enter(("new", "quality", "a"), -0.9)
    near, far = (ledger.believed(("new", "quality", "a"), off) for off in (-0.3, -0.9))
    assert near == 1.0
    # Twice as far off as three standard deviations of 0.15, to the fourth power.
    assert far == pytest.approx(1 / 16, abs=0.02)
    assert ledger.believed(("app", "quality", "a"), -0.9) == 1.0


def test_keys_of_one_name_of_two_tenants_are_two_sources() -> None:
    acme, other = (Principal(1, "web", name, frozenset()) for name in ("acme", "other"))
    assert len({acme.source, other.source, Principal(2, "web", "default", frozenset()).source}) == 3
    assert Principal(3, "web", "acme", frozenset()).source == acme.source


def test_a_liar_who_is_among_the_first_to_speak_counts_little() -> None:
    ledger = Ledger(FeedbackConfig())
    honest(ledger, "app", "b", 30, seed=11)
    honest(ledger, "app", "a", 4, seed=12)
    weights = []
    for _ in range(4):
        ledger.enter(("evil", "quality", "a"), -0.9)
        weights.append(ledger.believed(("evil", "quality", "a"), -0.9))
    assert sum(weights) < 1.0
    assert ledger.believed(("evil", "quality", "a"), 0.05) == 1.0


def test_another_metric_is_another_scale() -> None:
    ledger = Ledger(FeedbackConfig())
    honest(ledger, "judge", "a", 300, seed=3)
    # Retries come from unhappy users alone: all bad, and still honest.
    for _ in range(100):
        ledger.enter(("frontend", "retry", "a"), -0.9)
    assert not ledger.quarantined


def test_a_majority_is_not_judged_by_a_minority() -> None:
    ledger = Ledger(FeedbackConfig())
    for i in range(60):
        honest(ledger, "few", "a", 1, seed=i)
        for _ in range(3):
            ledger.enter(("many", "quality", "a"), -0.3)
    assert not ledger.quarantined


def test_a_source_counts_for_no_more_than_its_share() -> None:
    ledger = Ledger(FeedbackConfig(quarantine=False))
    honest(ledger, "app", "a", 90, seed=5)
    assert ledger.believed(("app", "quality", "a"), 0.0) == 1.0
    weight = 0.0
    for _ in range(60):
        ledger.enter(("second", "quality", "a"), 0.0)
        weight += ledger.believed(("second", "quality", "a"), 0.0)
    # A quarter beside 90 is 30; what comes after counts ever less.
    assert ledger.believed(("second", "quality", "a"), 0.0) == pytest.approx(0.5)
    assert 30.0 < weight < 52.0


def test_the_only_source_and_the_first_signals_of_each_count_fully() -> None:
    ledger = Ledger(FeedbackConfig())
    assert ledger.believed(("app", "quality", "a"), 0.0) == 1.0
    honest(ledger, "app", "a", 500, seed=6)
    assert ledger.believed(("app", "quality", "a"), 0.0) == 1.0
    honest(ledger, "second", "new", int(FREE_SIGNALS), seed=7)
    assert ledger.believed(("second", "quality", "new"), 0.0) == 1.0


def test_equal_sources_that_are_many_are_not_bounded() -> None:
    ledger = Ledger(FeedbackConfig())
    for k in range(8):
        honest(ledger, f"key{k}", "a", 50 + k, seed=k)
    assert {ledger.believed((f"key{k}", "quality", "a"), 0.0) for k in range(8)} == {1.0}


def test_a_trusted_source_is_neither_bounded_nor_set_aside() -> None:
    ledger = open_ledger({}, {}, {}, (), (), config=FeedbackConfig(trusted=("ci",)))
    honest(ledger, "app", "a", 300, seed=8)
    for _ in range(200):
        ledger.enter(("ci", "quality", "a"), -0.9)
    assert ledger.believed(("ci", "quality", "a"), 0.0) == 1.0
    assert not ledger.verdicts


def test_a_source_in_quarantine_is_tallied_apart() -> None:
    ledger = open_ledger(
        {("evil", "quality", "a"): Tally(25.0, -22.0, 20.0)},
        {("quality", "a"): Tally(300.0, 0.0, 7.0)},
        {"app": 300.0, "evil": 25.0},
        ("evil",),
        (),
        config=FeedbackConfig(),
    )
    ledger.enter(("evil", "quality", "a"), -0.9)
    assert ledger.totals["quality", "a"].count == 300.0
    assert ledger.changes["evil", "quality", "a"] == Tally(1.0, -0.9, 0.9 * 0.9)
    assert ledger.believed(("evil", "quality", "a"), 0.0) == 0.0


def test_a_signal_taken_out_again_leaves_nothing() -> None:
    ledger = Ledger(FeedbackConfig())
    ledger.enter(("app", "quality", "a"), 0.25)
    ledger.enter(("app", "quality", "a"), 0.25, -1.0)
    assert ledger.own["app", "quality", "a"] == Tally()
    assert ledger.totals["quality", "a"] == Tally()
