"""The log as an evaluator sees it: one row per decision, with its whole pmf, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.errors import DataError
from bandit_router.types import BoolArray, FeatureArray, FloatArray, IntArray

# How far a pmf's sum, or the chosen arm's entry from the logged propensity, may be off.
PMF_TOLERANCE = 1e-6
# What is estimated, by the column that holds it; NaN there means not known.
OUTCOMES = ("reward", "cost_usd", "latency_s")


@dataclass(frozen=True, slots=True)
class LoggedRounds:
    """n decisions in the order in which they were taken. Build it with ``logged_rounds``.

    arms: (K,) names. order: (n,) rising, what the rows are sorted by (decision_seq, say).
    features: (n, d) what a reward model may look at, without a constant. arm: (n,) index of
    the arm whose outcome the row holds. pmf: (n, K) the logged selection probabilities;
    propensity: (n,) the entry of ``arm``. eligible: (n, K). reward: (n,) in [0, 1];
    cost_usd, latency_s: (n,) not negative; NaN in any of the three means not known.
    segment: (n,) index into ``segments``, the labels. Arrays are read-only.
    """

    arms: tuple[str, ...]
    order: IntArray
    features: FloatArray | FeatureArray
    arm: IntArray
    pmf: FloatArray
    propensity: FloatArray
    eligible: BoolArray
    reward: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    segment: IntArray
    segments: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.arm.size)

    def outcome(self, name: str) -> FloatArray:
        """(n,) one of ``OUTCOMES`` by name."""
        if name not in OUTCOMES:
            raise DataError(f"no outcome '{name}'; a log has {', '.join(OUTCOMES)}")
        return np.asarray(getattr(self, name))

    def rows(self, index: slice | IntArray | BoolArray) -> LoggedRounds:
        """Some of the rounds, in the same order when ``index`` rises. Slices copy nothing."""
        changes: dict[str, Any] = {
            field.name: _frozen(getattr(self, field.name)[index])
            for field in fields(self)
            if field.name not in ("arms", "segments")
        }
        return LoggedRounds(arms=self.arms, segments=self.segments, **changes)


def logged_rounds(
    *,
    arms: Sequence[str],
    arm: ArrayLike,
    pmf: ArrayLike,
    reward: ArrayLike | None = None,
    features: ArrayLike | None = None,
    propensity: ArrayLike | None = None,
    cost_usd: ArrayLike | None = None,
    latency_s: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    segment: Sequence[str] | None = None,
    segments: Sequence[str] | None = None,
    order: ArrayLike | None = None,
) -> LoggedRounds:
    """Check the columns of a log, sort them by ``order``, and freeze them.

    Shapes as in ``LoggedRounds``. What is left out is taken as: no features, the propensity
    that the pmf says, outcomes not known, every arm with pmf > 0 eligible, one segment "all",
    rows already in order. segment: (n,) labels; segments: all labels there are, so that chunks
    of one log agree on their indices. Raises DataError that names the first bad row and the
    remedy.
    """
    names = tuple(arms)
    chosen = np.asarray(arm)
    shape = (chosen.size, len(names))
    if len(set(names)) != len(names) or not names:
        raise DataError(f"arms must be distinct and at least one; got {', '.join(names) or 'none'}")
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(f"arm must be (n,) indices into arms, got {chosen.dtype} {chosen.shape}")
    columns: dict[str, Any] = {
        "arm": chosen.astype(np.int64, copy=False),
        "pmf": _shaped("pmf", pmf, shape),
        "features": _features(features, shape[0]),
        "order": _order(order, shape[0]),
    }
    for name, given in (("reward", reward), ("cost_usd", cost_usd), ("latency_s", latency_s)):
        columns[name] = _shaped(
            name, np.full(shape[0], np.nan) if given is None else given, shape[:1]
        )
    if propensity is None:
        columns["propensity"] = _entry(columns["pmf"], columns["arm"])
    else:
        columns["propensity"] = _shaped("propensity", propensity, shape[:1])
    columns["eligible"] = (
        columns["pmf"] > 0.0 if eligible is None else _shaped("eligible", eligible, shape, np.bool_)
    )
    columns["segment"], labels = _segments(segment, segments, shape[0])
    for problem, bad in row_problems(columns).items():
        raise DataError(_told(problem, bad, columns))
    sequence = columns["order"]
    if (np.diff(sequence) < 0).any():
        by_order = np.argsort(sequence, kind="stable")
        columns = {name: column[by_order] for name, column in columns.items()}
    return LoggedRounds(
        arms=names,
        segments=labels,
        **{name: _frozen(column) for name, column in columns.items()},
    )


# What may be wrong with a row, and what to do about it.
REMEDIES: Mapping[str, str] = {
    "unknown_arm": "arm is no index into arms: log the position of the arm that answered",
    "pmf_out_of_range": "a pmf entry is NaN or outside [0, 1]: log the vector that was drawn from",
    "pmf_sum": "the pmf does not sum to 1: log it after the exploration floor was mixed in",
    "zero_propensity": "the chosen arm has propensity 0, so it cannot have been drawn from this "
    "pmf: drop overrides and fallbacks, which are not the policy's own choice",
    "propensity_mismatch": "propensity is not the pmf's entry of the chosen arm",
    "ineligible_mass": "an arm that was not eligible has probability above 0",
    "reward_out_of_range": "reward lies outside [0, 1]: rescale it, or leave NaN where unknown",
    "negative_cost": "cost_usd is negative or infinite",
    "negative_latency": "latency_s is negative or infinite",
    "features_not_finite": "a feature is NaN or infinite",
}


def row_problems(columns: Mapping[str, Any]) -> dict[str, BoolArray]:
    """Which rows cannot be used, by the first of ``REMEDIES`` that each breaks; no empty masks.

    columns: arrays named and shaped as in ``LoggedRounds``. A reader that drops such rows can
    count them by reason; ``logged_rounds`` refuses them.
    """
    arm, pmf, propensity = columns["arm"], columns["pmf"], columns["propensity"]
    known = (arm >= 0) & (arm < pmf.shape[1])
    entry = _entry(pmf, np.where(known, arm, 0))
    with np.errstate(invalid="ignore"):
        checks: dict[str, BoolArray] = {
            "unknown_arm": ~known,
            "pmf_out_of_range": ~((pmf >= 0.0) & (pmf <= 1.0)).all(axis=1),
            "pmf_sum": ~(np.abs(pmf.sum(axis=1) - 1.0) <= PMF_TOLERANCE),
            "zero_propensity": ~(propensity > 0.0) | ~(entry > 0.0),
            "propensity_mismatch": ~(np.abs(entry - propensity) <= PMF_TOLERANCE * entry),
            "ineligible_mass": ((pmf > 0.0) & ~columns["eligible"]).any(axis=1),
            "reward_out_of_range": (columns["reward"] < 0.0) | (columns["reward"] > 1.0),
            "negative_cost": (columns["cost_usd"] < 0.0) | np.isinf(columns["cost_usd"]),
            "negative_latency": (columns["latency_s"] < 0.0) | np.isinf(columns["latency_s"]),
            "features_not_finite": ~np.isfinite(columns["features"]).all(axis=1),
        }
    found: dict[str, BoolArray] = {}
    seen = np.zeros(arm.size, dtype=np.bool_)
    for name, bad in checks.items():
        first = bad & ~seen
        seen |= bad
        if first.any():
            found[name] = first
    return found


def joined(parts: Iterable[LoggedRounds]) -> LoggedRounds:
    """Consecutive pieces of one log as one. Raises DataError where they do not fit."""
    pieces = list(parts)
    first = pieces[0]
    for before, after in pairwise(pieces):
        if (after.arms, after.segments) != (first.arms, first.segments):
            raise DataError("pieces of one log must name the same arms and segments")
        if len(before) and len(after) and after.order[0] < before.order[-1]:
            raise DataError(
                f"pieces of one log must come in order: {after.order[0]} follows "
                f"{before.order[-1]}; sort the log first"
            )
    changes: dict[str, Any] = {
        field.name: _frozen(np.concatenate([getattr(piece, field.name) for piece in pieces]))
        for field in fields(first)
        if field.name not in ("arms", "segments")
    }
    return LoggedRounds(arms=first.arms, segments=first.segments, **changes)


def _told(problem: str, bad: BoolArray, columns: Mapping[str, Any]) -> str:
    row = int(bad.argmax())
    return (
        f"{int(bad.sum())} of {bad.size} rounds: {REMEDIES[problem]}. The first is row {row}: "
        f"arm {columns['arm'][row]}, propensity {columns['propensity'][row]:g}, "
        f"pmf {np.array2string(columns['pmf'][row], precision=4)}, "
        f"reward {columns['reward'][row]:g}, cost_usd {columns['cost_usd'][row]:g}, "
        f"latency_s {columns['latency_s'][row]:g}"
    )


def _entry(pmf: FloatArray, arm: IntArray) -> FloatArray:
    if pmf.shape[1] == 0 or ((arm < 0) | (arm >= pmf.shape[1])).any():
        return np.full(arm.size, np.nan)
    return np.asarray(np.take_along_axis(pmf, arm[:, None], axis=1)[:, 0])


def _shaped(name: str, given: ArrayLike, shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    array = np.asarray(given, dtype=dtype)
    if array.shape != shape:
        raise DataError(f"{name} must have shape {shape}, one row per decision; got {array.shape}")
    return array


def _features(given: ArrayLike | None, count: int) -> FloatArray | FeatureArray:
    if given is None:
        return np.zeros((count, 0))
    array = np.asarray(given)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[0] != count:
        raise DataError(f"features must have shape ({count}, d); got {array.shape}")
    return array


def _order(given: ArrayLike | None, count: int) -> IntArray:
    if given is None:
        return np.arange(count, dtype=np.int64)
    order: IntArray = _shaped("order", given, (count,), np.int64)
    return order


def _segments(
    given: Sequence[str] | None, known: Sequence[str] | None, count: int
) -> tuple[IntArray, tuple[str, ...]]:
    if given is None:
        return np.zeros(count, dtype=np.int64), tuple(known) if known else ("all",)
    if len(given) != count:
        raise DataError(f"segment must have one label per decision ({count}); got {len(given)}")
    values, inverse = np.unique(np.asarray(given, dtype=np.str_), return_inverse=True)
    names = tuple(str(value) for value in values)
    if known is None:
        return inverse.astype(np.int64), names
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise DataError(f"segment '{unknown[0]}' is not among segments {', '.join(known)}")
    places = np.array([list(known).index(name) for name in names], dtype=np.int64)
    return places[inverse] if count else np.zeros(0, dtype=np.int64), tuple(known)


def _frozen(array: Any) -> Any:
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
