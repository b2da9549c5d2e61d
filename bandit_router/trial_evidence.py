"""Whether a challenger is better or worse than the champion, told as the log grows.

Every decision under trial has both pmfs, so each reward speaks of both: the difference of their
doubly robust terms has the difference of their values as its mean, whoever was drawn. Bounds on
its running mean hold at all times at once, so that they may be looked at after every reward.
Source of the bounds: ``bandit_router.ope.confidence_sequence``; of betting on overspending:
Waudby-Smith & Ramdas 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.special import logsumexp

from bandit_router.ope.confidence_sequence import LowerSums, controlled_terms
from bandit_router.trial_rows import TrialRow
from bandit_router.types import FloatArray

# Where the challenger's control variate is cut; one of them fits, whatever the weights are.
CUTS = np.array([1.0, 4.0, 16.0])
# Rounds that the bounds are tuned for; they hold after any number.
ROUNDS = 1000
# A challenger may take so many times its budget before a bet against it begins to pay.
OVERSPEND = 1.2
# Shares of the capital that are bet on overspending; a free request loses each 1.2 times that.
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4])
# Below this many of its own decisions' worth nothing is said of a challenger.
LEAST_EFFECTIVE = 30.0


@dataclass(frozen=True, slots=True)
class TrialNumbers:
    """How a trial stands.

    rewards: decisions with a known reward. drew: of all decisions seen, how many were drawn
    from the challenger. difference: challenger − champion in mean reward; low, high: it lies
    between them at all times, but with chance alpha on each side. champion_reward,
    challenger_reward: estimates of either alone. effective_sample_size: what the rewards are
    worth in decisions of the challenger's own. unsupported: its mean probability on models that
    could not be drawn at all. cost_usd: by its choices per request, and
    champion_cost_usd. overspend_odds: a bet's capital against "it keeps its budget". leans:
    per model, challenger − champion in mean probability. NaN where nothing is known.
    """

    rewards: int
    costs: int
    drew: int
    difference: float
    low: float
    high: float
    champion_reward: float
    challenger_reward: float
    effective_sample_size: float
    largest_weight: float
    unsupported: float
    cost_usd: float
    champion_cost_usd: float
    overspend_odds: float
    leans: dict[str, float]

    @property
    def refused(self) -> str | None:
        """Why nothing can be said yet, in words; None where something can."""
        if self.rewards == 0:
            return "no reward of a decision under trial is known yet: post feedback"
        if self.effective_sample_size < LEAST_EFFECTIVE:
            return (
                f"{self.rewards} rewards are worth {self.effective_sample_size:.0f} decisions of "
                f"the challenger's own, fewer than {LEAST_EFFECTIVE:.0f}: it would choose what "
                "was rarely chosen. Wait, explore more, or give it a canary share"
            )
        return None


class TrialEvidence:
    """Sums over one stage of a trial, filled in the order in which things became known.

    alpha: of each bound. share: the most that the challenger draws in this trial. budget_usd:
    of the challenger, None where it has none.
    """

    def __init__(self, *, alpha: float, share: float, budget_usd: float | None) -> None:
        # A term is at least −cut − 1/(1 − share) − 1: see controlled_terms; halved into [0, 1].
        cuts = (CUTS + 1.0 / (1.0 - share)) / 2.0
        self._better = LowerSums(cuts, ROUNDS, alpha)
        self._worse = LowerSums(cuts, ROUNDS, alpha)
        self._budget_usd = budget_usd
        self._log_capital = np.zeros(STAKES.size)
        self._values = np.zeros(2)
        self._weights = np.zeros(2)
        self._largest = 0.0
        self._unsupported = 0.0
        self._rewards = 0
        self._costs = 0
        self._spent = np.zeros(2)
        self._drew = 0
        self._leans: dict[str, float] = {}

    def add(self, rows: Sequence[TrialRow]) -> None:
        """Count what became known, in order."""
        for arms, alike in groupby(rows, key=lambda row: row.arms):
            self._add(arms, list(alike))

    def _add(self, arms: tuple[str, ...], rows: list[TrialRow]) -> None:
        paid = [row for row in rows if row.cost_usd is not None]
        if paid:
            self._pay(arms, paid)
        told = [row for row in rows if row.reward is not None]
        if not told:
            return
        places = np.arange(len(told))
        arm = np.array([row.chosen for row in told])
        reward = np.array([row.reward for row in told], dtype=np.float64)
        predicted = np.clip(np.stack([row.predicted_quality for row in told]), 0.0, 1.0)
        mine, theirs, pmf = _pmfs(told)
        own, champion = _ratio(mine, pmf), _ratio(theirs, pmf)
        self._unsupported += float(mine[pmf <= 0.0].sum())

        def terms(outcome: FloatArray, control: FloatArray) -> FloatArray:
            weight = own[places, arm]
            # What could not be drawn counts as worth nothing, for both bounds: nobody knows.
            known = np.where(pmf > 0.0, control, 0.0)
            above = controlled_terms(weight, outcome, own, mine, known, arm, CUTS)
            base = champion[places, arm] * (outcome - control[places, arm])
            return np.asarray(above - (base + (theirs * control).sum(axis=1))[:, None])

        self._better.add((terms(reward, predicted) + 1.0) / 2.0)
        self._worse.add((terms(1.0 - reward, 1.0 - predicted) + 1.0) / 2.0)
        off = reward - predicted[places, arm]
        for side, (weights, target) in enumerate(((theirs, champion), (mine, own))):
            each = (weights * predicted).sum(axis=1) + target[places, arm] * off
            self._values[side] += each.sum()
        weight = own[places, arm]
        self._weights += (weight.sum(), (weight * weight).sum())
        self._largest = max(self._largest, float(weight.max()))
        self._rewards += len(told)

    def _pay(self, arms: tuple[str, ...], rows: list[TrialRow]) -> None:
        places = np.arange(len(rows))
        arm = np.array([row.chosen for row in rows])
        cost_usd = np.array([row.cost_usd for row in rows], dtype=np.float64)
        mine, theirs, pmf = _pmfs(rows)
        own = _ratio(mine, pmf)[places, arm]
        self._costs += len(rows)
        self._drew += sum(row.trial.drew for row in rows)
        self._spent += (
            float((_ratio(theirs, pmf)[places, arm] * cost_usd).sum()),
            float((own * cost_usd).sum()),
        )
        for name, lean in zip(arms, (mine - theirs).sum(axis=0).tolist(), strict=True):
            self._leans[name] = self._leans.get(name, 0.0) + lean
        if self._budget_usd:
            over = own * cost_usd / self._budget_usd - OVERSPEND
            self._log_capital += np.log1p(over[:, None] * STAKES).sum(axis=0)

    def numbers(self) -> TrialNumbers:
        """How the trial stands now."""
        count, paid = max(self._rewards, 1), max(self._costs, 1)
        nothing, free = not self._rewards, not self._costs
        champion, challenger = (self._values / count).tolist()
        total, squares = self._weights.tolist()
        low = 2.0 * self._better.lower_any_time() - 1.0
        high = 1.0 - 2.0 * self._worse.lower_any_time()
        nan = float("nan")
        return TrialNumbers(
            rewards=self._rewards,
            costs=self._costs,
            drew=self._drew,
            difference=nan if nothing else challenger - champion,
            low=-1.0 if nothing else low,
            high=1.0 if nothing else high,
            champion_reward=nan if nothing else champion,
            challenger_reward=nan if nothing else challenger,
            # Weights that sum to less than the decisions tell of choices that had no support.
            effective_sample_size=min(total, total * total / squares) if squares > 0.0 else 0.0,
            largest_weight=self._largest,
            unsupported=self._unsupported / count,
            cost_usd=nan if free else float(self._spent[1]) / paid,
            champion_cost_usd=nan if free else float(self._spent[0]) / paid,
            overspend_odds=float(
                np.exp(min(logsumexp(self._log_capital) - np.log(STAKES.size), 700.0))
            ),
            leans={name: lean / paid for name, lean in self._leans.items()},
        )


def _pmfs(rows: list[TrialRow]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n, K) of challenger, champion, and what was drawn from."""
    return (
        np.stack([row.trial.pmf for row in rows]),
        np.stack([row.trial.champion_pmf for row in rows]),
        np.stack([row.pmf for row in rows]),
    )


def _ratio(target: FloatArray, drawn: FloatArray) -> FloatArray:
    """Importance weights, 0 where nothing could be drawn."""
    return np.divide(target, drawn, out=np.zeros_like(target), where=drawn > 0.0)
