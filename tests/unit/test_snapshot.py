"""The learned state as bytes and back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_samples import folded, make_policy, make_problem, make_rows

from bandit_router.config import ExplorationConfig
from bandit_router.errors import SnapshotError
from bandit_router.learner import log_rows
from bandit_router.learning import LearnedState, init_state, refit
from bandit_router.selection import select
from bandit_router.snapshot import FORMAT, from_bytes, is_for, to_bytes

PROBLEM = make_problem(budget_usd=2e-4)
POLICY = make_policy()


def learned() -> LearnedState:
    """A state with a fitted basis, rows folded onto it, a window and a price."""
    rows = make_rows(PROBLEM, 240)
    state = refit(PROBLEM, POLICY, init_state(PROBLEM, POLICY), log_rows(PROBLEM, rows[:200]))
    return folded(PROBLEM, POLICY, rows[200:], state)


PAYLOAD = to_bytes(PROBLEM, POLICY, learned())


def rewritten(change: Callable[[dict[str, Any]], None], payload: bytes = PAYLOAD) -> bytes:
    """The archive after its arrays were tampered with."""
    with np.load(io.BytesIO(payload)) as archive:
        arrays = dict(archive)
    change(arrays)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def with_meta(**changes: Any) -> bytes:
    def change(arrays: dict[str, Any]) -> None:
        meta = {**json.loads(arrays["meta"].tobytes()), **changes}
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)

    return rewritten(change)


@pytest.mark.parametrize("cold", [True, False])
def test_a_state_comes_back_bit_for_bit(cold: bool) -> None:
    state = init_state(PROBLEM, POLICY) if cold else learned()
    back = from_bytes(PROBLEM, POLICY, to_bytes(PROBLEM, POLICY, state))
    assert to_bytes(PROBLEM, POLICY, back) == to_bytes(PROBLEM, POLICY, state)
    assert back.pacer.price_of_dollar == state.pacer.price_of_dollar
    assert back.pacer.account_usd == state.pacer.account_usd
    assert back.pacer.paid == state.pacer.paid
    assert back.pacer.steady == state.pacer.steady
    assert back.clock == state.clock
    assert back.basis.names == state.basis.names
    assert len(back.pacer.window) == len(state.pacer.window)
    for one, other in zip(back.pacer.window, state.pacer.window, strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.pacer.window_tokens == state.pacer.window_tokens
    for one, other in zip(back.policy.arms, state.policy.arms, strict=True):
        assert one.stale == other.stale
        assert one.sums.weight == other.sums.weight
        np.testing.assert_array_equal(np.tril(one.covariance), np.tril(other.covariance))


def test_a_state_that_came_back_learns_on_to_the_bit() -> None:
    state = learned()
    # Rows that wait to be added to the gram matrices travel as they are.
    assert any(arm.sums.recent for arm in state.policy.arms)
    back = from_bytes(PROBLEM, POLICY, to_bytes(PROBLEM, POLICY, state))
    rows = make_rows(PROBLEM, 150, seed=9)
    on, over = folded(PROBLEM, POLICY, rows, state), folded(PROBLEM, POLICY, rows, back)
    assert to_bytes(PROBLEM, POLICY, over) == to_bytes(PROBLEM, POLICY, on)


def test_an_older_snapshot_without_waiting_rows_is_read() -> None:
    state = refit(PROBLEM, POLICY, learned(), log_rows(PROBLEM, make_rows(PROBLEM, 60)))
    current = to_bytes(PROBLEM, POLICY, state)

    def without(arrays: dict[str, Any]) -> None:
        for bank in ("policy", "amount", "latency"):
            del arrays[f"{bank}.recent"], arrays[f"{bank}.recent_count"]

    back = from_bytes(PROBLEM, POLICY, rewritten(without, current))
    assert to_bytes(PROBLEM, POLICY, back) == current


def test_a_state_that_came_back_decides_the_same() -> None:
    state = learned()
    back = from_bytes(PROBLEM, POLICY, PAYLOAD)
    everyone = np.ones(3, dtype=np.bool_)
    for x in np.random.default_rng(0).normal(size=(20, 4)):
        one, other = (
            select(PROBLEM, POLICY, each, x, 20.0, everyone, ExplorationConfig(), None)
            for each in (state, back)
        )
        assert one.pmf.tobytes() == other.pmf.tobytes()
        assert one.prediction.cost_usd.tobytes() == other.prediction.cost_usd.tobytes()


def test_the_price_and_the_window_are_worth_carrying() -> None:
    state = learned()
    assert state.pacer.price_of_dollar > 0.0
    assert len(state.pacer.window) == 240


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not a snapshot",
        PAYLOAD[: len(PAYLOAD) // 2],
        PAYLOAD[:-30],
        PAYLOAD[10:],
        PAYLOAD[:5000] + bytes([PAYLOAD[5000] ^ 0xFF]) + PAYLOAD[5001:],
    ],
    ids=["empty", "text", "half", "end cut", "start cut", "a byte flipped"],
)
def test_damaged_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        from_bytes(PROBLEM, POLICY, payload)


def lone_array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(3.0))
    return out.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        lone_array(),
        rewritten(lambda arrays: arrays.pop("meta")),
        rewritten(lambda arrays: arrays.pop("pacer.scalars")),
        rewritten(lambda arrays: arrays.pop("policy.covariance")),
        rewritten(lambda arrays: arrays.pop("amount.noise")),
        rewritten(lambda arrays: arrays.update({"policy.gram": arrays["policy.gram"][:, :3]})),
        rewritten(lambda arrays: arrays.update({"pacer.scalars": np.zeros(2)})),
        rewritten(lambda arrays: arrays.update({"counts.clock": np.array([np.nan])})),
        rewritten(lambda arrays: arrays.update({"counts.clock": np.array([np.inf])})),
        rewritten(lambda arrays: arrays.update({"meta": np.frombuffer(b"[1]", dtype=np.uint8)})),
        rewritten(lambda arrays: arrays.update({"meta": np.frombuffer(b"{", dtype=np.uint8)})),
    ],
)
def test_archives_that_are_not_whole_are_refused(payload: bytes) -> None:
    with pytest.raises(SnapshotError):
        from_bytes(PROBLEM, POLICY, payload)


class Bomb:
    """What a pickle could run; nothing may."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the snapshot was unpickled",))


def test_nothing_is_ever_unpickled() -> None:
    payload = rewritten(
        lambda arrays: arrays.update({"counts.pulls": np.array([Bomb()], dtype=object)})
    )
    with pytest.raises(SnapshotError, match="allow_pickle"):
        from_bytes(PROBLEM, POLICY, payload)


def test_no_snapshot_holds_a_pickle() -> None:
    with zipfile.ZipFile(io.BytesIO(PAYLOAD)) as archive:
        for name in archive.namelist():
            assert name.endswith(".npy")
            assert b"|O" not in archive.read(name)[:128]


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (with_meta(format=FORMAT + 1), "format"),
        (with_meta(policy="linucb"), "policy"),
        (with_meta(features=["x0"]), "features"),
        (with_meta(extractor="surface-2"), "extractor"),
        (with_meta(features=[f"y{i}" * 40 for i in range(4)]), r"features .*\.\.\."),
    ],
)
def test_a_snapshot_made_for_something_else_is_refused_with_the_remedy(
    payload: bytes, what: str
) -> None:
    with pytest.raises(SnapshotError, match=f"made for other {what}.*fit anew from the log"):
        from_bytes(PROBLEM, POLICY, payload)


def test_an_archive_whose_models_are_not_as_many_as_it_lists_is_refused() -> None:
    with pytest.raises(SnapshotError):
        from_bytes(PROBLEM, POLICY, with_meta(arms=["small", "large"]))
    with pytest.raises(SnapshotError):
        from_bytes(PROBLEM, POLICY, with_meta(metered=[1.0, 0.0]))


def test_a_snapshot_of_other_models_is_taken_up_by_their_names() -> None:
    problem = make_problem(("new", "local", "small"), budget_usd=2e-4)
    state, back = learned(), from_bytes(problem, POLICY, PAYLOAD)
    assert not is_for(problem, PAYLOAD)
    assert is_for(PROBLEM, PAYLOAD)
    for old, now in ((2, 1), (0, 2)):
        assert back.policy.arms[now].mean.tobytes() == state.policy.arms[old].mean.tobytes()
        assert back.pulls[now] == state.pulls[old]
    assert back.policy.arms[0].sums.weight == 0.0


def test_another_policy_or_another_problem_refuses_it() -> None:
    with pytest.raises(SnapshotError, match="other policy"):
        from_bytes(PROBLEM, make_policy("linucb"), PAYLOAD)
    with pytest.raises(SnapshotError, match="other features"):
        from_bytes(make_problem(feature_count=5), POLICY, PAYLOAD)
