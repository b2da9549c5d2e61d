"""Notice when a model is no longer what it was: tests by betting against its own predictions.

For each arm, and for quality, cost and the rate of failed calls each, two gamblers bet that
outcomes fall below or above what was predicted. While predictions are right no bet pays
on average, so a gambler whose capital has grown a ``ODDS``-fold since his latest restart is
evidence of a change. Capitals restart at one whenever they fall below it (e-CUSUM), which keeps
the mean number of calls to a false alarm of one stream at ``ODDS`` or more, whatever the
distribution of outcomes.
Source: Shin, Ramdas & Rinaldo 2022, "E-detectors", theorem 2.4; Waudby-Smith & Ramdas 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandit_router.bets import (
    STAKES,
    Sides,
    bounded_gains,
    bounded_gains_of_rows,
    residual_gains,
    residual_gains_of_rows,
    settle,
)
from bandit_router.types import FloatArray, IntArray, Observation

KINDS = ("quality", "cost", "failure")
# The kinds, as indices into whatever is kept per kind.
QUALITY, COST, FAILURE = range(len(KINDS))
ODDS = 1e4
# Predictions are allowed to be off by so much, beside their own uncertainty: quality, and log cost.
TOLERANCE = (0.01, 0.05)
# After an alarm an arm's earlier rows count as at most so many.
KEPT_ROWS = 3.0
# While it is watched its memory is short: once its rows are more than twice so many, so many.
WATCHED_ROWS = 30.0
# An arm is watched for so many requests; cuts kept per arm and kind.
WATCHED_REQUESTS = 2_000
MOST_CUTS = 16
# Least share of requests that a watched arm gets, falling as so many over the alarm's age.
WATCH_FLOOR = 0.06
WATCH_PULLS = 15.0


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows of decisions up to ``decision_seq`` count by ``share`` only."""

    decision_seq: int
    share: float


@dataclass(frozen=True, slots=True)
class Watch:
    """capital: (K, 3 kinds, 2 sides, bets), side 0 for lower than predicted. raised_at: (K, 3)
    requests paid for at the latest alarm, −1 for none. evidence: (K, 3) the latest alarm's
    capital, negative where outcomes fell. rows: (K, 3) how many rows the arm's count as now.
    latest: (K,) newest decision_seq among them, −1 for none. cuts: per kind, per arm, oldest
    first. failed: (K,) how many of the calls that count, ``rows[:, FAILURE]``, failed.

    runs: (K, 3, 2, bets, 2) of each capital since its latest restart: the last decision_seq
    before, and rows since. changed: (K, 3, 2) the same two numbers of the bet that raised the
    latest alarm, −1 once that alarm's cut has been moved there.
    """

    capital: FloatArray
    raised_at: FloatArray
    evidence: FloatArray
    rows: FloatArray
    latest: FloatArray
    cuts: tuple[tuple[tuple[Cut, ...], ...], ...]
    failed: FloatArray
    runs: FloatArray
    changed: FloatArray

    @property
    def unsettled(self) -> bool:
        """Whether a fit anew would tell rows from before a change and after it apart."""
        return bool((self.changed[..., 1] >= 0.0).any())

    def share(self, kind: int, arm: int, decision_seq: int) -> float:
        """By how much a row of that decision still counts after the alarms so far."""
        share = 1.0
        for cut in self.cuts[kind][arm]:
            if decision_seq <= cut.decision_seq:
                share *= cut.share
        return share

    def shares(self, kind: int, arm: IntArray, decision_seq: IntArray) -> FloatArray:
        """The same for many rows."""
        share = np.ones(arm.size)
        for k, cuts in enumerate(self.cuts[kind]):
            for cut in cuts:
                share[(arm == k) & (decision_seq <= cut.decision_seq)] *= cut.share
        return share

    def age(self, arm: int, kind: int, paid: int) -> float:
        """Requests since the arm's latest alarm, infinite where there was none."""
        at = float(self.raised_at[arm, kind])
        return float(paid) - at if at >= 0.0 else np.inf


def empty_watch(arm_count: int) -> Watch:
    """Nobody has bet yet."""
    return Watch(
        capital=np.ones((arm_count, len(KINDS), 2, len(STAKES))),
        raised_at=np.full((arm_count, len(KINDS)), -1.0),
        evidence=np.zeros((arm_count, len(KINDS))),
        rows=np.zeros((arm_count, len(KINDS))),
        latest=np.full(arm_count, -1.0),
        cuts=(((),) * arm_count,) * len(KINDS),
        failed=np.zeros(arm_count),
        runs=np.zeros((arm_count, len(KINDS), 2, len(STAKES), 2)),
        changed=np.full((arm_count, len(KINDS), 2), -1.0),
    )


@dataclass(frozen=True, slots=True)
class At:
    """When a row comes: its decision_seq, and requests paid for by then."""

    decision_seq: int
    paid: int


def after_quality(watch: Watch, arm: int, reward: float, mean: float, sd: float, at: At) -> Watch:
    """The watch after a reward in [0, 1] that was predicted as ``mean`` give or take ``sd``."""
    return after_bets(watch, arm, QUALITY, quality_gains(reward, mean, sd), at)


def quality_gains(reward: float, mean: float, sd: float) -> Sides:
    """What the gamblers on an arm's quality gain by a reward."""
    return bounded_gains(reward, min(max(mean, 0.0), 1.0), sd + TOLERANCE[QUALITY])


def after_cost(
    watch: Watch, arm: int, residual: float, sd: float, noise_sd: float, at: At
) -> Watch:
    """The watch after a log amount that was off its prediction by ``residual``."""
    return after_bets(watch, arm, COST, cost_gains(residual, sd, noise_sd), at)


def cost_gains(residual: float, sd: float, noise_sd: float) -> Sides:
    """What the gamblers on an arm's cost gain by a log amount."""
    return residual_gains(residual, sd + TOLERANCE[COST], noise_sd)


def quality_gains_of_rows(reward: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """``quality_gains`` of many rewards. Each (r,); the result (r, 2, stakes)."""
    expected = np.minimum(np.maximum(mean, 0.0), 1.0)
    return bounded_gains_of_rows(reward, expected, sd + TOLERANCE[QUALITY])


def cost_gains_of_rows(residual: FloatArray, sd: FloatArray, noise_sd: FloatArray) -> FloatArray:
    """``cost_gains`` of many log amounts. Each (r,); the result (r, 2, stakes)."""
    return residual_gains_of_rows(residual, sd + TOLERANCE[COST], noise_sd)


def after_bets(watch: Watch, arm: int, kind: int, gains: Sides, at: At) -> Watch:
    """The watch after one arm and kind's bets are settled."""
    capital, runs = watch.capital.copy(), watch.runs.copy()
    own, run = capital[arm, kind].tolist(), runs[arm, kind].tolist()
    reached = settle(own, run, gains, at.decision_seq)
    runs[arm, kind] = run
    if max(reached) < ODDS:
        capital[arm, kind] = own
        return moved_on(watch, capital=capital, runs=runs)
    side = reached.index(max(reached))
    raised_at, evidence, changed = (
        each.copy() for each in (watch.raised_at, watch.evidence, watch.changed)
    )
    raised_at[arm, kind] = at.paid
    evidence[arm, kind] = reached[side] if side else -reached[side]
    if kind != FAILURE:
        changed[arm, kind] = run[side][own[side].index(max(own[side]))]
    capital[arm, kind] = 1.0
    return replace(
        watch,
        capital=capital,
        raised_at=raised_at,
        evidence=evidence,
        runs=runs,
        changed=changed,
    )


def moved_on(
    watch: Watch,
    *,
    capital: FloatArray | None = None,
    runs: FloatArray | None = None,
    rows: FloatArray | None = None,
    latest: FloatArray | None = None,
) -> Watch:
    """The watch after rows that raised no alarm; what is left out stays. All as in ``Watch``."""
    # As ``replace``, which takes several times as long: every row of the log comes by here.
    return Watch(
        watch.capital if capital is None else capital,
        watch.raised_at,
        watch.evidence,
        watch.rows if rows is None else rows,
        watch.latest if latest is None else latest,
        watch.cuts,
        watch.failed,
        watch.runs if runs is None else runs,
        watch.changed,
    )


def forgetting(watch: Watch, arm: int, kind: int, paid: int) -> float:
    """By what share the arm's rows so far are to count from now on; mostly 1.

    At an alarm as ``KEPT_ROWS``, and while the arm is watched as ``WATCHED_ROWS``, once they
    are more than twice that.
    """
    if watch.raised_at.item(arm, kind) < 0.0:
        return 1.0
    age, rows = watch.age(arm, kind, paid), float(watch.rows[arm, kind])
    if age == 0.0 and rows > KEPT_ROWS:
        return KEPT_ROWS / rows
    if age <= WATCHED_REQUESTS and rows > 2.0 * WATCHED_ROWS:
        return WATCHED_ROWS / rows
    return 1.0


def counted(watch: Watch, row: Observation, arm: int) -> Watch:
    """The watch after a row of the arm is taken into account."""
    rows, latest = watch.rows.copy(), watch.latest.copy()
    rewards = float(row.reward is not None) - float(row.previous_reward is not None)
    rows[arm, QUALITY] = max(rows.item(arm, QUALITY) + rewards, 0.0)
    rows[arm, COST] += float(row.answered and row.cost_usd is not None)
    latest[arm] = max(latest.item(arm), float(row.decision_seq))
    return moved_on(watch, rows=rows, latest=latest)


def carried(watch: Watch, origin: IntArray) -> Watch:
    """The watch for another list of arms; origin: (K',) the arm that each continues, or −1."""
    fresh = empty_watch(origin.size)
    known = origin >= 0

    def taken(old: FloatArray, new: FloatArray) -> FloatArray:
        new[known] = old[origin[known]]
        return new

    return Watch(
        capital=taken(watch.capital, fresh.capital),
        raised_at=taken(watch.raised_at, fresh.raised_at),
        evidence=taken(watch.evidence, fresh.evidence),
        rows=taken(watch.rows, fresh.rows),
        latest=taken(watch.latest, fresh.latest),
        cuts=tuple(
            tuple(of_kind[k] if k >= 0 else () for k in origin.tolist()) for of_kind in watch.cuts
        ),
        failed=taken(watch.failed, fresh.failed),
        runs=taken(watch.runs, fresh.runs),
        changed=taken(watch.changed, fresh.changed),
    )


def with_cut(watch: Watch, kind: int, arm: int, cut: Cut) -> Watch:
    """The watch with one more cut; beyond ``MOST_CUTS`` the two oldest become one."""
    cuts = (*watch.cuts[kind][arm], cut)
    if len(cuts) > MOST_CUTS:
        first, second = cuts[:2]
        cuts = (Cut(second.decision_seq, first.share * second.share), *cuts[2:])
    of_kind = watch.cuts[kind]
    changed = (*of_kind[:arm], cuts, *of_kind[arm + 1 :])
    rows = watch.rows.copy()
    rows[arm, kind] *= cut.share
    return replace(watch, rows=rows, cuts=(*watch.cuts[:kind], changed, *watch.cuts[kind + 1 :]))


def dated(watch: Watch) -> Watch:
    """The watch with the latest alarms' cuts moved back to where the change began: the start of
    the run in which the winning gambler grew rich. For a fit anew, which sees every row; what
    came before the change counts as so many rows as the run lacks of ``KEPT_ROWS``."""
    cuts = [list(of_kind) for of_kind in watch.cuts]
    rows = watch.rows.copy()
    for arm, kind in np.argwhere(watch.changed[..., 1] >= 0.0).tolist():
        began, run = watch.changed[arm, kind].tolist()
        own = list(cuts[kind][arm])
        place = next((i for i, cut in enumerate(own) if cut.decision_seq > began), None)
        if place is None:
            continue
        before = max(KEPT_ROWS / own[place].share - run, 0.0)
        kept = min(max(KEPT_ROWS - run, 0.0), before)
        own[place] = Cut(int(began), kept / max(before, KEPT_ROWS))
        cuts[kind][arm] = tuple(own)
        rows[arm, kind] += kept + run - KEPT_ROWS
    return replace(
        watch,
        cuts=tuple(map(tuple, cuts)),
        rows=np.maximum(rows, 0.0),
        changed=np.full_like(watch.changed, -1.0),
    )


def anyone_watched(watch: Watch, paid: int) -> bool:
    """Whether some arm changed not long ago, or is not yet dated."""
    newest = float(watch.raised_at.max())
    return newest >= 0.0 and (paid - newest <= WATCHED_REQUESTS or watch.unsettled)


def watch_floor(watch: Watch, paid: int) -> FloatArray:
    """(K,) least share of requests for arms whose quality changed not long ago.

    One whose cost rose would eat the budget by it; ordinary looks find out when it falls again.
    """
    raised_at = watch.raised_at[:, QUALITY]
    age = np.where(raised_at >= 0.0, paid - raised_at, np.inf)
    floor = np.minimum(WATCH_FLOOR, WATCH_PULLS / np.maximum(age, 1.0))
    return np.where(age <= WATCHED_REQUESTS, floor, 0.0)


@dataclass(frozen=True, slots=True)
class Change:
    """An arm of which quality, cost or the rate of failed calls changed. odds: the capital that a
    bet on it had made. requests: how long ago, in requests paid for."""

    arm: int
    kind: str
    risen: bool
    odds: float
    requests: int


def changes(watch: Watch, paid: int) -> tuple[Change, ...]:
    """The alarms of arms that are still watched, at most one per arm and kind: the latest.

    That calls fail less often than before ends the alarm that they fail more often.
    """
    return tuple(
        Change(
            arm=arm,
            kind=KINDS[kind],
            risen=bool(watch.evidence[arm, kind] > 0.0),
            odds=float(abs(watch.evidence[arm, kind])),
            requests=int(watch.age(arm, kind, paid)),
        )
        for arm in range(watch.raised_at.shape[0])
        for kind in range(len(KINDS))
        if watch.age(arm, kind, paid) <= WATCHED_REQUESTS
        and (kind != FAILURE or watch.evidence[arm, kind] > 0.0)
    )
