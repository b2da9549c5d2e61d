"""How much is tried that the policy would not choose, and what it may cost.

Uniform floors wreck tight budgets when prices differ 500-fold, so each arm's floor is bounded
in dollars; a forced look at an arm long unseen is paid from a daily budget of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.config import ExplorationConfig
from bandit_router.types import BoolArray, Exploration, FloatArray

# Given to the arm that is due; the policy keeps the rest, so that a look is never certain.
LOOK_PROBABILITY = 0.5
SECONDS_PER_DAY = 86_400.0
SURE_SDS = 2.0
WATCH_SPEND_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened lately. pulls: (K,) calls in the last day. idle_s: (K,) seconds since each
    arm's last call. look_spend_usd: dollars that forced looks took in the last day."""

    pulls: FloatArray
    idle_s: FloatArray
    look_spend_usd: float


def no_exploration(arm_count: int) -> Exploration:
    """Nothing mixed in."""
    return Exploration(floor=np.zeros(arm_count))


def greedily(best: int, arm_count: int) -> Exploration:
    """All on the arm that looks best: what a frozen router mixes in."""
    return Exploration(floor=np.zeros(arm_count), look_arm=best, look_probability=1.0)


def explored(
    config: ExplorationConfig,
    pmf: FloatArray,
    utility: FloatArray,
    utility_sd: FloatArray,
    cost_usd: FloatArray,
    eligible: BoolArray,
    activity: Activity | None,
    dearest_usd: float = np.inf,
    watch_floor: FloatArray | None = None,
) -> Exploration:
    """What to mix into ``pmf`` for this request. All arrays (K,).

    floor_k is at most ``config.floor``, at most an equal share, and such that all floors
    together add at most ``floor_spend_share`` of what the policy itself expects to spend, and
    lose at most ``floor_quality_loss`` of the utility it expects: where an arm is known to be
    far behind, looking at it often is pure loss. An arm of which one call costs more than
    ``dearest_usd`` has no floor: its forced looks, in their own budget, are all that it gets.
    watch_floor: (K,) least shares of arms that changed lately, which may cost quality but not
    money: they have to be affordable all the same.
    """
    may = eligible.tolist()
    count = float(may.count(True))
    if not config.enabled or count < 2.0:
        return no_exploration(pmf.size)
    most, spend_usd, quality = min(config.floor, 1.0 / count), pmf.dot(cost_usd), pmf.dot(utility)
    allowance = config.floor_spend_share * spend_usd / count
    loss = config.floor_quality_loss / count
    # A watched arm may take a fifth of what the policy expects to spend.
    watch_allowance = WATCH_SPEND_SHARE * spend_usd
    watched = [0.0] * pmf.size if watch_floor is None else watch_floor.tolist()
    # Only what is surely lost counts: an arm that may yet be good is not known to be behind.
    hopeful = utility + SURE_SDS * utility_sd
    floor = []
    # A loop over so few numbers is quicker than a dozen array calls.
    for allowed, dollars, hope, watch in zip(
        may, cost_usd.tolist(), hopeful.tolist(), watched, strict=True
    ):
        if not allowed or not dollars <= dearest_usd:
            floor.append(0.0)
            continue
        affordable = allowance / dollars if dollars > 0.0 else most
        bearable = loss / (quality - hope) if quality > hope else most
        least = min(most, affordable, bearable)
        if watch > 0.0:
            share = watch_allowance / dollars if dollars > 0.0 else 1.0 / count
            least = max(least, min(watch, share))
        floor.append(least)
    look = _due(config, cost_usd, eligible, activity)
    return Exploration(np.array(floor), look, LOOK_PROBABILITY if look >= 0 else 0.0)


def floors_of_rows(
    config: ExplorationConfig,
    pmf: FloatArray,
    utility: FloatArray,
    utility_sd: FloatArray,
    cost_usd: FloatArray,
    eligible: BoolArray,
    dearest_usd: float = np.inf,
) -> FloatArray:
    """The floors of ``explored`` for many requests, where no arm is watched. All arrays (N, K)."""
    if not config.enabled:
        return np.zeros_like(pmf)
    count = np.maximum(eligible.sum(axis=1, keepdims=True), 1).astype(np.float64)
    most = np.minimum(config.floor, 1.0 / count)
    spend_usd = (pmf * cost_usd).sum(axis=1, keepdims=True)
    quality = (pmf * utility).sum(axis=1, keepdims=True)
    behind = quality - (utility + SURE_SDS * utility_sd)
    with np.errstate(divide="ignore", invalid="ignore"):
        affordable = config.floor_spend_share * spend_usd / count / cost_usd
        bearable = config.floor_quality_loss / count / behind
    floor = np.minimum(most, np.where(cost_usd > 0.0, affordable, most))
    floor = np.minimum(floor, np.where(behind > 0.0, bearable, most))
    floor[~eligible | ~(cost_usd <= dearest_usd) | (count < 2.0)] = 0.0
    return np.asarray(floor)


def _due(
    config: ExplorationConfig,
    cost_usd: FloatArray,
    eligible: BoolArray,
    activity: Activity | None,
) -> int:
    """The arm whose look is longest overdue and affordable, or -1.

    Looks are spread over the day: with n pulls a day still owed, one is due whenever the arm
    has been idle for a day divided by n.
    """
    if activity is None or config.min_pulls_per_day == 0:
        return -1
    owed = eligible & (activity.pulls < config.min_pulls_per_day)
    if not owed.any():
        return -1
    left_usd = config.look_budget_usd_per_day - activity.look_spend_usd
    overdue = activity.idle_s * config.min_pulls_per_day / SECONDS_PER_DAY
    due = owed & (overdue >= 1.0) & (cost_usd <= left_usd)
    if not due.any():
        return -1
    return int(np.where(due, overdue, -1.0).argmax())
