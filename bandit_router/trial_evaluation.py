"""A trial evaluated off-policy: both policies by every estimator that a report would use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.ope import Estimate, LoggedRounds, Options, difference, evaluate, logged_rounds
from bandit_router.trial_rows import TrialRow
from bandit_router.types import FloatArray

CHALLENGER, CHAMPION = "challenger", "champion"
OUTCOMES = ("reward", "cost_usd")
METHODS = ("bootstrap", "confidence_sequence")


@dataclass(frozen=True, slots=True)
class TrialEvaluation:
    """n: decisions used. left_out: those with other models than now. estimates: by policy.
    reward_difference: challenger − champion by DR and its 95 % interval, None where refused.
    refused: why, in words. warnings: of the diagnostics."""

    n: int
    left_out: int
    estimates: dict[str, tuple[Estimate, ...]]
    reward_difference: tuple[float, tuple[float, float]] | None
    refused: str | None
    effective_sample_size: float
    largest_weight: float
    warnings: tuple[str, ...]


def evaluated(rows: Sequence[TrialRow], arms: tuple[str, ...]) -> TrialEvaluation | None:
    """Both policies of a trial on its decisions; None without any between these arms.

    The reward model regresses on what the champion predicted, which was fixed beforehand.
    """
    kept = [row for row in rows if row.arms == arms]
    if not kept:
        return None
    mine = np.stack([row.trial.pmf for row in kept])
    theirs = np.stack([row.trial.champion_pmf for row in kept])

    def of(pmf: FloatArray) -> object:
        return lambda rounds: pmf[rounds.order]

    targets = {CHALLENGER: of(mine), CHAMPION: of(theirs)}
    options = Options(outcomes=OUTCOMES, estimators=("ips", "snips", "dr"), resamples=200)
    found = evaluate(_rounds(kept, arms), targets, options)  # type: ignore[arg-type]
    refused = next((e.refused.message for e in found.values() if e.refused is not None), None)
    if refused is None:
        reward = [e.estimate("reward", "dr").refused for e in found.values()]
        refused = next((r.message for r in reward if r is not None), None)
    own = found[CHALLENGER].diagnostics
    return TrialEvaluation(
        n=len(kept),
        left_out=len(rows) - len(kept),
        estimates={
            name: tuple(e for e in one.estimates if e.method in METHODS)
            for name, one in found.items()
        },
        reward_difference=None
        if refused is not None
        else difference(found[CHALLENGER], found[CHAMPION]),
        refused=refused,
        effective_sample_size=own.effective_sample_size,
        largest_weight=own.largest_weight,
        warnings=tuple(own.warnings),
    )


def _rounds(rows: Sequence[TrialRow], arms: tuple[str, ...]) -> LoggedRounds:
    def known(values: list[float | None]) -> FloatArray:
        return np.array([np.nan if value is None else value for value in values])

    return logged_rounds(
        arms=arms,
        arm=np.array([row.chosen for row in rows]),
        pmf=np.stack([row.pmf for row in rows]),
        eligible=np.stack([row.eligible for row in rows]),
        features=np.stack([row.predicted_quality for row in rows]),
        reward=known([row.reward for row in rows]),
        cost_usd=known([row.cost_usd for row in rows]),
    )
