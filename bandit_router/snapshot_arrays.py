"""Carry head banks and coordinates through named arrays, bit for bit.

Only what cannot be derived is kept, and where a derived array depends on the path that led
to it (the rank-one updated covariance), it is kept too: a reader must reach the same pmf.
Symmetric matrices travel as their lower triangles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bandit_router.alarms import KINDS, Cut, Watch, empty_watch
from bandit_router.basis import Basis
from bandit_router.heads import HeadBank
from bandit_router.hierarchy import Priors
from bandit_router.likeness import Likeness
from bandit_router.posterior import Posterior, Prior, Sums
from bandit_router.types import FloatArray


def bank_arrays(state: HeadBank) -> dict[str, FloatArray]:
    """The bank as named arrays."""
    # The prior of a head not seen yet comes last.
    priors = (*state.priors.arms, state.priors.unseen)
    rows, columns = np.tril_indices(state.means.shape[1])
    return {
        "prior_mean": np.stack([prior.mean for prior in priors]),
        "prior_precision": np.stack([prior.precision for prior in priors]),
        "noise": np.array([prior.noise for prior in priors]),
        "gram": np.stack([arm.sums.settled[rows, columns] for arm in state.arms]),
        "recent": np.array([row for arm in state.arms for row in arm.sums.recent]).reshape(
            -1, state.means.shape[1]
        ),
        "recent_count": np.array([float(len(arm.sums.recent)) for arm in state.arms]),
        "moment": np.stack([arm.sums.moment for arm in state.arms]),
        "scalars": np.array(
            [
                [arm.sums.square, arm.sums.total, arm.sums.weight, float(arm.stale)]
                for arm in state.arms
            ]
        ),
        "mean": state.means,
        "covariance": np.stack([arm.covariance[rows, columns] for arm in state.arms]),
    }


def bank_from_arrays(arrays: Mapping[str, FloatArray]) -> HeadBank:
    """The bank back from its arrays."""
    *priors, unseen = (
        Prior(mean=mean, precision=precision, noise=float(noise))
        for mean, precision, noise in zip(
            arrays["prior_mean"], arrays["prior_precision"], arrays["noise"], strict=True
        )
    )
    dimension = unseen.mean.size
    rows, columns = np.tril_indices(dimension)

    def lower(values: FloatArray) -> FloatArray:
        matrix = np.zeros((dimension, dimension), order="F")
        matrix[rows, columns] = values
        return matrix

    def symmetric(values: FloatArray) -> FloatArray:
        matrix = lower(values)
        matrix[columns, rows] = values
        return matrix

    # Older snapshots have none: their gram matrices hold all rows.
    counts = arrays.get("recent_count", np.zeros(len(priors))).astype(np.int64)
    ends = counts.cumsum()
    rows_of = [
        tuple(arrays["recent"][end - n : end]) if n else ()
        for n, end in zip(counts, ends, strict=True)
    ]
    arms = tuple(
        Posterior(
            sums=Sums(
                settled=lower(arrays["gram"][k]),
                moment=arrays["moment"][k],
                square=float(square),
                total=float(total),
                weight=float(weight),
                recent=rows_of[k],
            ),
            mean=arrays["mean"][k],
            covariance=symmetric(arrays["covariance"][k]),
            stale=int(stale),
        )
        for k, (square, total, weight, stale) in enumerate(arrays["scalars"])
    )
    return HeadBank(
        priors=Priors(arms=tuple(priors), unseen=unseen), arms=arms, means=arrays["mean"]
    )


def basis_arrays(basis: Basis) -> dict[str, FloatArray]:
    """The coordinates' map as named arrays; its names travel apart."""
    arrays = {
        "basis.shift": basis.shift,
        "basis.matrix": basis.matrix,
        "basis.groups": basis.groups,
        "basis.plain": np.array([float(basis.plain)]),
    }
    if basis.likeness is not None:
        arrays |= {
            "basis.landmarks": basis.likeness.landmarks,
            "basis.squares": basis.likeness.squares,
            "basis.sharpness": np.array([basis.likeness.sharpness]),
            "basis.mixing": basis.likeness.mixing,
            "basis.offset": basis.likeness.offset,
        }
    return arrays


def basis_from_arrays(arrays: Mapping[str, FloatArray], names: tuple[str, ...]) -> Basis:
    """The map back from its arrays."""
    likeness = None
    if "basis.landmarks" in arrays:
        likeness = Likeness(
            landmarks=arrays["basis.landmarks"],
            squares=arrays["basis.squares"],
            sharpness=float(arrays["basis.sharpness"][0]),
            mixing=arrays["basis.mixing"],
            offset=arrays["basis.offset"],
        )
    return Basis(
        shift=arrays["basis.shift"],
        matrix=arrays["basis.matrix"],
        groups=arrays["basis.groups"],
        names=names,
        plain=int(arrays["basis.plain"][0]),
        likeness=likeness,
    )


def watch_arrays(watch: Watch) -> dict[str, FloatArray]:
    """The alarms as named arrays; every cut is a row (kind, arm, decision_seq, share)."""
    cuts = [
        (float(kind), float(arm), float(cut.decision_seq), cut.share)
        for kind, of_kind in enumerate(watch.cuts)
        for arm, of_arm in enumerate(of_kind)
        for cut in of_arm
    ]
    return {
        "watch.capital": watch.capital,
        "watch.raised_at": watch.raised_at,
        "watch.evidence": watch.evidence,
        "watch.rows": watch.rows,
        "watch.latest": watch.latest,
        "watch.failed": watch.failed,
        "watch.runs": watch.runs,
        "watch.changed": watch.changed,
        "watch.cuts": np.array(cuts, dtype=np.float64).reshape(len(cuts), 4),
    }


def watch_from_arrays(arrays: Mapping[str, FloatArray]) -> Watch:
    """The alarms back from their arrays."""
    arms = arrays["watch.rows"].shape[0]
    cuts: list[list[list[Cut]]] = [[[] for _ in range(arms)] for _ in KINDS]
    fresh = empty_watch(arms)

    def known(name: str, new: FloatArray) -> FloatArray:
        # Snapshots of before the third kind of alarm, or of before changes were dated, have
        # none of it yet.
        old = arrays.get(f"watch.{name}")
        if old is not None:
            new[:, : old.shape[1]] = old
        return new

    for kind, arm, decision_seq, share in arrays["watch.cuts"].tolist():
        cuts[int(kind)][int(arm)].append(Cut(int(decision_seq), share))
    return Watch(
        capital=known("capital", fresh.capital),
        raised_at=known("raised_at", fresh.raised_at),
        evidence=known("evidence", fresh.evidence),
        rows=known("rows", fresh.rows),
        latest=arrays["watch.latest"],
        runs=known("runs", fresh.runs),
        changed=known("changed", fresh.changed),
        cuts=tuple(tuple(tuple(of_arm) for of_arm in of_kind) for of_kind in cuts),
        failed=arrays.get("watch.failed", fresh.failed),
    )
