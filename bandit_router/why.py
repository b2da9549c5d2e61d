"""Why this model: each candidate as it stood, and which features moved it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.basis import coordinates
from bandit_router.heads import HeadBank
from bandit_router.inspection import entry
from bandit_router.learning import LearnedState
from bandit_router.selection import penalty_of
from bandit_router.types import Decision, FloatArray

CONTRIBUTIONS_SHOWN = 8
# Coordinates that mean nothing one by one are told of as one.
TOGETHER = ("likeness",)


@dataclass(frozen=True, slots=True)
class Contribution:
    """How far one feature moved a model's predicted quality: coefficient × coordinate.

    Coordinates are counted from a typical request, so 0 is "as usual". ``likeness`` is all
    coordinates of that name together, and has neither of the two.
    """

    feature: str
    coefficient: float | None
    coordinate: float | None
    contribution: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model as the decision saw it. utility: quality − λ·cost − μ·latency. base: what the
    model's quality is for a typical request, from which the contributions lead to ``quality``;
    None where the snapshot that the decision was made with is no longer kept."""

    model: str
    chosen: bool
    eligible: bool
    masked: str | None
    pmf: float
    quality: float
    quality_sd: float
    cost_usd: float
    latency_s: float
    first_token_s: float | None
    utility: float
    base: float | None
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """A decision explained. best: the model of the highest expected utility."""

    sentence: str
    best: str
    candidates: tuple[Candidate, ...]


def why(decision: Decision, state: LearnedState | None, state_arms: tuple[str, ...] = ()) -> Why:
    """Explain a decision. state: the one that it was made with, of ``state_arms``; without it
    the numbers are there, but not what moved them."""
    expected = decision.prediction
    utility = expected.quality - penalty_of(
        expected, decision.price_of_dollar, decision.price_of_second
    )
    eligible = decision.eligible
    best = int(np.where(eligible, utility, -np.inf).argmax())
    heads, z = _heads_of(decision, state)
    found = []
    for k, name in enumerate(decision.arms):
        base: float | None = None
        parts: tuple[Contribution, ...] = ()
        if heads is not None and z is not None and name in state_arms:
            base, parts = _contributions(heads, state_arms.index(name), z, state)
        found.append(
            Candidate(
                model=name,
                chosen=name == decision.chosen,
                eligible=bool(eligible[k]),
                masked=decision.masked[name].value if name in decision.masked else None,
                pmf=float(decision.pmf[k]),
                quality=float(expected.quality[k]),
                quality_sd=float(expected.quality_sd[k]),
                cost_usd=float(expected.cost_usd[k]),
                latency_s=float(expected.latency_s[k]),
                first_token_s=entry(expected.first_token_s, k),
                utility=float(utility[k]),
                base=base,
                contributions=parts,
            )
        )
    return Why(_sentence(decision, found, best), decision.arms[best], tuple(found))


def _heads_of(
    decision: Decision, state: LearnedState | None
) -> tuple[HeadBank | None, FloatArray | None]:
    """Policies without linear heads have no coefficients to show."""
    if state is None or not isinstance(state.policy, HeadBank):
        return None, None
    features = decision.features.astype(np.float64)
    if features.size != state.basis.shift.size:
        return None, None
    return state.policy, coordinates(state.basis, features)


def _contributions(
    heads: HeadBank, arm: int, z: FloatArray, state: Any
) -> tuple[float, tuple[Contribution, ...]]:
    mean = heads.arms[arm].mean
    moved = mean * z
    parts, together = [], dict.fromkeys(TOGETHER, 0.0)
    for i, name in enumerate(state.basis.names):
        family = name.partition("[")[0]
        if family in together:
            together[family] += float(moved[i])
        elif i != 0:
            parts.append(Contribution(name, float(mean[i]), float(z[i]), float(moved[i])))
    parts += [Contribution(family, None, None, total) for family, total in together.items()]
    told = sorted((p for p in parts if p.contribution), key=lambda p: -abs(p.contribution))
    return float(mean[0]), tuple(told[:CONTRIBUTIONS_SHOWN])


def _sentence(decision: Decision, candidates: list[Candidate], best: int) -> str:
    chosen = next(c for c in candidates if c.chosen)
    said = (
        f"'{chosen.model}' is expected to reach quality {chosen.quality:.2f} "
        f"± {chosen.quality_sd:.2f} for ${chosen.cost_usd:.2g}"
    )
    if decision.mode != "policy":
        return f"{said}; the policy did not choose it: the mode is {decision.mode.value}"
    others = [c for c in candidates if c.eligible and not c.chosen]
    if not others:
        return f"{said}, and no other model was eligible"
    looked = decision.exploration.look_arm
    if decision.exploration.look_probability == 1.0:
        return f"{said}; exploration was frozen, and it looked best"
    if looked >= 0 and decision.arms[looked] == chosen.model:
        return f"{said}; it was due for a look, having been tried too little lately"
    if chosen.model == decision.arms[best]:
        rival = max(others, key=lambda c: c.utility)
        return (
            f"{said}, the best balance of quality and price (drawn with probability "
            f"{decision.propensity:.2f}); next is '{rival.model}' with {rival.quality:.2f} "
            f"for ${rival.cost_usd:.2g}"
        )
    top = candidates[best]
    return (
        f"{said}; '{top.model}' looked better on balance ({top.quality:.2f} for "
        f"${top.cost_usd:.2g}), but this model may yet be as good and was drawn with probability "
        f"{decision.propensity:.2f}"
    )
