"""The learned state as bytes and back: an npz archive of named arrays, never a pickle."""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from bandit_router.effort import EffortState, Prices
from bandit_router.errors import SnapshotError
from bandit_router.learning import LearnedState, Problem
from bandit_router.pacing import PacerState, Steady
from bandit_router.policies.base import Policy
from bandit_router.roster import with_arms
from bandit_router.snapshot_arrays import (
    bank_arrays,
    bank_from_arrays,
    basis_arrays,
    basis_from_arrays,
    watch_arrays,
    watch_from_arrays,
)
from bandit_router.types import FloatArray

FORMAT = 2
# What numpy, zipfile and the lines below raise on bytes that are no snapshot, whole or in part.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def to_bytes(problem: Problem, policy: Policy[Any], state: LearnedState) -> bytes:
    """The state as an npz archive."""
    window, steady = state.pacer.window, state.pacer.steady
    arrays: dict[str, FloatArray] = {
        **basis_arrays(state.basis),
        **watch_arrays(state.watch),
        "effort.smearing": state.effort.smearing,
        "effort.typical": state.effort.typical,
        "pacer.window": np.stack(window) if window else np.zeros((0, state.basis.dimension)),
        "pacer.window_tokens": np.array(state.pacer.window_tokens, dtype=np.float64),
        "pacer.scalars": np.array(
            [state.pacer.account_usd, state.pacer.price_of_dollar, float(state.pacer.paid)]
        ),
        "pacer.steady": np.array([] if steady is None else astuple(steady), dtype=np.float64),
        "counts.pulls": state.pulls,
        "counts.rewards": state.rewards,
        "counts.clock": np.array([state.clock, state.since], dtype=np.float64),
        "forgetting.half_life": np.array([state.half_life_decisions or np.inf]),
    }
    for prefix, part in (
        ("policy", policy.arrays(state.policy)),
        ("amount", bank_arrays(state.effort.amount)),
        ("latency", bank_arrays(state.effort.latency)),
        *(
            ()
            if state.effort.first_token is None
            else (("first_token", bank_arrays(state.effort.first_token)),)
        ),
    ):
        arrays.update({f"{prefix}.{name}": array for name, array in part.items()})
    meta = {
        "format": FORMAT,
        "policy": policy.name,
        "arms": problem.arms,
        "features": problem.feature_names,
        "extractor": problem.extractor_version,
        "metered": problem.prices.metered.tolist(),
        "prior": prior_digest(problem),
        "coordinates": state.basis.names,
    }
    text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    out = io.BytesIO()
    np.savez(out, meta=text, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def from_bytes(problem: Problem, policy: Policy[Any], payload: bytes) -> LearnedState:
    """The state back, bit for bit.

    One made for other models is taken up by their names: those that stay keep what is known of
    them, to the bit. Raises SnapshotError when the archive is damaged or was made for other
    features or another policy: the caller then fits anew from the log.
    """
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays: dict[str, Any] = dict(archive)
        meta = json.loads(arrays.pop("meta").tobytes())
        _check_fits(meta, problem, policy)
        made_for = _made_for(meta, problem)
        state = _state(made_for, policy, arrays, tuple(meta["coordinates"]))
        if state.pulls.size != len(made_for.arms):
            raise SnapshotError(
                f"the snapshot lists {len(made_for.arms)} models and holds {state.pulls.size}"
            )
        if made_for is problem:
            return state
        return with_arms(policy, state, made_for, problem)
    except DAMAGE as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error


def prior_digest(problem: Problem) -> str:
    """Which prior is configured, "" for none."""
    return "" if problem.prior is None else problem.prior.digest


def prior_of(payload: bytes) -> str:
    """The digest of the prior that a readable archive was learned under, "" for none."""
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return str(json.loads(archive["meta"].tobytes()).get("prior", ""))
    except DAMAGE as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error


def is_for(problem: Problem, payload: bytes) -> bool:
    """Whether a readable archive was made for these very models, in this order and unit."""
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            meta = json.loads(archive["meta"].tobytes())
        return _made_for(meta, problem) is problem
    except DAMAGE as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error


def _made_for(meta: Mapping[str, Any], problem: Problem) -> Problem:
    """The problem itself, or one of the archive's models, known by name and unit alone."""
    arms, metered = tuple(meta["arms"]), np.array(meta["metered"], dtype=np.float64)
    if arms == problem.arms and np.array_equal(metered, problem.prices.metered):
        return problem
    zeros = np.zeros(len(arms))
    return replace(
        problem,
        arms=arms,
        prices=Prices(input_usd=zeros, output_usd=metered, second_usd=zeros),
        routable=np.ones(len(arms), dtype=np.bool_),
        predecessors=(),
    )


def _state(
    problem: Problem, policy: Policy[Any], arrays: Mapping[str, Any], coordinates: tuple[str, ...]
) -> LearnedState:
    account_usd, price_of_dollar, paid = arrays["pacer.scalars"]
    # None before any answer was streamed, and in older snapshots.
    first_token = _part(arrays, "first_token")
    # Older snapshots have no average.
    steady = arrays.get("pacer.steady", np.zeros(0)).tolist()
    return LearnedState(
        basis=basis_from_arrays(arrays, coordinates),
        policy=policy.from_arrays(_part(arrays, "policy")),
        effort=EffortState(
            amount=bank_from_arrays(_part(arrays, "amount")),
            latency=bank_from_arrays(_part(arrays, "latency")),
            smearing=arrays["effort.smearing"],
            typical=arrays["effort.typical"],
            first_token=bank_from_arrays(first_token) if first_token else None,
        ),
        pacer=PacerState(
            window=tuple(arrays["pacer.window"]),
            window_tokens=tuple(float(tokens) for tokens in arrays["pacer.window_tokens"]),
            account_usd=float(account_usd),
            price_of_dollar=float(price_of_dollar),
            paid=int(paid),
            steady=Steady(steady[0], int(steady[1]), int(steady[2])) if steady else None,
        ),
        clock=int(arrays["counts.clock"][0]),
        since=int(arrays["counts.clock"][1]),
        pulls=arrays["counts.pulls"],
        rewards=arrays["counts.rewards"],
        watch=watch_from_arrays(arrays),
        half_life_decisions=_half_life(problem, arrays),
    )


def _half_life(problem: Problem, arrays: Mapping[str, Any]) -> float | None:
    """What is configured, unless it is learned; older snapshots have learned none."""
    learned = arrays.get("forgetting.half_life")
    if learned is None or not problem.learns_half_life:
        return problem.half_life_decisions
    half_life = float(learned[0])
    return half_life if np.isfinite(half_life) else None


def _part(arrays: Mapping[str, FloatArray], prefix: str) -> dict[str, FloatArray]:
    start = f"{prefix}."
    return {
        key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)
    }


def _check_fits(meta: Mapping[str, Any], problem: Problem, policy: Policy[Any]) -> None:
    for what, found, wanted in (
        ("format", meta.get("format"), FORMAT),
        ("policy", meta.get("policy"), policy.name),
        ("features", meta.get("features"), list(problem.feature_names)),
        ("extractor", meta.get("extractor"), problem.extractor_version),
    ):
        if found != wanted:
            raise SnapshotError(
                f"the snapshot was made for other {what} ({_short(found)}, now "
                f"{_short(wanted)}); fit anew from the log"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
