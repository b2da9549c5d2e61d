"""A head stays a normal distribution whatever comes, however long, in whichever directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandit_router.heads import HeadBank
from bandit_router.policies import Evidence
from bandit_router.policies.thompson import Thompson
from bandit_router.posterior import from_sums
from simulations.protocols.long_run import run_updates

DIMENSION = 12
POLICY = Thompson()
UNTIMED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}


@st.composite
def histories(draws: st.DrawFn) -> tuple[int, int, float, list[str]]:
    """Rank of the coordinates, seed, size of the coordinates, and what happens."""
    events = st.sampled_from(["row", "row", "row", "revise", "retract", "fade"])
    return (
        draws(st.integers(1, DIMENSION)),
        draws(st.integers(0, 10_000)),
        draws(st.sampled_from([1e-3, 1.0, 1e3])),
        draws(st.lists(events, min_size=40, max_size=160)),
    )


def lived(history: tuple[int, int, float, list[str]]) -> HeadBank:
    """One head after the history."""
    rank, seed, size, events = history
    rng = np.random.default_rng(seed)
    state = POLICY.init(1, DIMENSION)
    directions = rng.normal(size=(rank, DIMENSION)) * size
    live: list[tuple[Any, float, float]] = []
    for event in events:
        if event == "row":
            z, value = rng.normal(size=rank) @ directions, float(rng.random())
            z[0] = 1.0
            live.append((z, value, 1.0))
            state = POLICY.update(state, Evidence(0, z, value, None, 1.0))
        elif event == "fade":
            factor = float(rng.uniform(0.3, 1.0))
            state = POLICY.fade(state, factor)
            live = [(z, value, weight * factor) for z, value, weight in live]
        elif live:
            z, value, weight = live.pop(int(rng.integers(len(live))))
            new = None if event == "retract" else float(rng.random())
            state = POLICY.update(state, Evidence(0, z, new, value, weight))
            if new is not None:
                live.append((z, new, weight))
    return state


@settings(max_examples=40, **UNTIMED)
@given(histories())
def test_a_head_is_finite_and_positive_definite_and_what_its_sums_say(
    history: tuple[int, int, float, list[str]],
) -> None:
    state = lived(history)
    head, prior = state.arms[0], state.priors.arms[0]
    assert np.isfinite(head.mean).all()
    np.testing.assert_array_equal(head.covariance, head.covariance.T)
    # In units of the prior, eigenvalues lie in (0, 1]: what was seen can only narrow it.
    scale = np.sqrt(prior.precision)
    eigenvalues = np.linalg.eigvalsh(head.covariance * np.outer(scale, scale))
    assert eigenvalues[0] > 0.0
    assert eigenvalues[-1] < 1.0 + 1e-6
    exact = from_sums(head.sums, prior)
    assert np.isfinite(exact.mean).all()
    assert np.abs((head.mean - exact.mean) * scale).max() < 1e-5


def test_thousands_of_updates_in_few_directions_leave_the_sums_of_the_live_rows() -> None:
    told = run_updates(3_000, dimension=16, rank=3, half_life=400.0, checks=30)
    assert told["least_eigenvalue"] > 0.0
    assert told["away"] < 1e-9
    assert told["sums_away"] < 1e-12
