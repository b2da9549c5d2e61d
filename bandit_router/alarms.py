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

from bandit_router.types import FloatArray, IntArray, Observation

KINDS = ("quality", "cost", "failure")
# The kinds, as indices into whatever is kept per kind.
QUALITY, COST, FAILURE = range(len(KINDS))
ODDS = 1e4
# Shares of the largest bet that cannot ruin; capital is spread evenly over them.
_STAKES = np.array([0.1, 0.3, 0.6, 0.9])
# Predictions are allowed to be off by so much, beside their own uncertainty: quality, and log cost.
TOLERANCE = (0.01, 0.05)
# Log residuals of cost are cut at this many sds of the noise, so that bets stay bounded.
_CUT_SDS = 3.0
# After an alarm an arm's earlier rows count as at most so many.
KEPT_ROWS = 3.0
# While it is watched its memory is short: once its rows are more than twice so many, so many.
WATCHED_ROWS = 10.0
# An arm is watched for so many requests; cuts kept per arm and kind.
WATCHED_REQUESTS = 2_000
MOST_CUTS = 16
# Least share of requests that a watched arm gets, falling as so many over the alarm's age.
WATCH_FLOOR = 0.03
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
    """

    capital: FloatArray
    raised_at: FloatArray
    evidence: FloatArray
    rows: FloatArray
    latest: FloatArray
    cuts: tuple[tuple[tuple[Cut, ...], ...], ...]
    failed: FloatArray

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
        capital=np.ones((arm_count, len(KINDS), 2, _STAKES.size)),
        raised_at=np.full((arm_count, len(KINDS)), -1.0),
        evidence=np.zeros((arm_count, len(KINDS))),
        rows=np.zeros((arm_count, len(KINDS))),
        latest=np.full(arm_count, -1.0),
        cuts=(((),) * arm_count,) * len(KINDS),
        failed=np.zeros(arm_count),
    )


def after_quality(
    watch: Watch, arm: int, reward: float, mean: float, sd: float, paid: int
) -> Watch:
    """The watch after a reward in [0, 1] that was predicted as ``mean`` give or take ``sd``."""
    centre = min(max(mean, 0.0), 1.0)
    bounds = (-centre, 1.0 - centre)
    return settled(watch, arm, QUALITY, reward - centre, sd + TOLERANCE[QUALITY], bounds, paid)


def after_cost(
    watch: Watch, arm: int, residual: float, sd: float, noise_sd: float, paid: int
) -> Watch:
    """The watch after a log amount that was off its prediction by ``residual``."""
    most = _CUT_SDS * noise_sd
    cut = min(max(residual, -most), most)
    return settled(watch, arm, COST, cut, sd + TOLERANCE[COST], (-most, most), paid)


def settled(
    watch: Watch,
    arm: int,
    kind: int,
    residual: float,
    margin: float,
    bounds: tuple[float, float],
    paid: int,
) -> Watch:
    """The watch after the bets of one arm and kind on an outcome that was off by ``residual``.

    margin: by how much its prediction may be off. bounds: least and largest residual there is.
    """
    capital = watch.capital.copy()
    # A gambler on a fall gains −residual − margin, and loses at most the largest rise and margin.
    for side, (gain, worst) in enumerate(
        ((-residual, bounds[1] + margin), (residual, margin - bounds[0]))
    ):
        paying = 1.0 + _STAKES * ((gain - margin) / worst)
        capital[arm, kind, side] = np.maximum(capital[arm, kind, side], 1.0) * paying
    reached = capital[arm, kind].mean(axis=1)
    if reached.max() < ODDS:
        return replace(watch, capital=capital)
    side = int(reached.argmax())
    raised_at, evidence = watch.raised_at.copy(), watch.evidence.copy()
    raised_at[arm, kind] = paid
    evidence[arm, kind] = reached[side] if side else -reached[side]
    capital[arm, kind] = 1.0
    return replace(watch, capital=capital, raised_at=raised_at, evidence=evidence)


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
    rows[arm, QUALITY] += float(row.reward is not None) - float(row.previous_reward is not None)
    rows[arm, COST] += float(row.answered and row.cost_usd is not None)
    latest[arm] = max(float(latest[arm]), float(row.decision_seq))
    return replace(watch, rows=np.maximum(rows, 0.0), latest=latest)


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


def watch_floor(watch: Watch, paid: int) -> FloatArray:
    """(K,) least share of requests for arms whose quality or cost changed not long ago."""
    raised_at = watch.raised_at[:, :FAILURE]
    age = np.where(raised_at >= 0.0, paid - raised_at, np.inf).min(axis=1)
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
