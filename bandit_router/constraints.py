"""What a request's own bounds leave, by what is predicted of each model for it.

The masks are part of eligibility, so the pmf that is drawn from and logged knows of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from bandit_router import heads
from bandit_router.effort import EffortState, Prices
from bandit_router.errors import NoEligibleModel
from bandit_router.policies.base import Beliefs
from bandit_router.types import BoolArray, Controls, FloatArray, MaskReason, Prediction

# Calls after which a model's latency or bill is known well enough to be held against it; before,
# it may be tried, unless the request is not to be used for that.
LEAST_CALLS = 3.0
# The pessimistic quality is so many standard deviations below the expected: 95 %, one-sided.
PESSIMISM_SDS = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is expected of every model for one request. miss_probability: (K,) of answering
    later than asked for. measured, priced: (K,) whether enough is known to hold its seconds and
    its dollars against it."""

    prediction: Prediction
    miss_probability: FloatArray
    measured: BoolArray
    priced: BoolArray


def foresee(
    prices: Prices, effort: EffortState, z: FloatArray, prediction: Prediction, controls: Controls
) -> Foresight:
    """The foresight that ``controls`` are judged by."""
    calls = np.array([arm.sums.weight for arm in effort.latency.arms])
    bills = np.array([arm.sums.weight for arm in effort.amount.arms])
    if controls.max_latency_s is None:
        miss = np.zeros(calls.size)
    else:
        noise = np.array([prior.noise for prior in effort.latency.priors.arms])
        # log seconds of one call: the belief on the mean, and the noise about it.
        sd = np.sqrt(heads.variances(effort.latency, z) + noise)
        late = z @ effort.latency.means.T - np.log(controls.max_latency_s)
        miss = np.asarray(ndtr(late / sd))
    return Foresight(
        prediction=prediction,
        miss_probability=miss,
        measured=calls >= LEAST_CALLS,
        # With list prices even the first call has a price.
        priced=(prices.metered > 0.0) | (bills >= LEAST_CALLS),
    )


def bounded(
    arms: tuple[str, ...],
    foresight: Foresight,
    eligible: BoolArray,
    controls: Controls,
    most_misses: float,
) -> dict[str, MaskReason]:
    """The eligible arms that would probably be too slow or too dear, with the reason.

    most_misses: δ, the probability of missing ``max_latency_s`` that is still taken. Raises
    NoEligibleModel, with the nearest remedy, where nothing is left.
    """
    known = foresight.measured | (not controls.explore)
    priced = foresight.priced | (not controls.explore)
    slow = known & (foresight.miss_probability > most_misses)
    dear = np.zeros(eligible.size, dtype=np.bool_)
    if controls.max_cost_usd is not None:
        dear = priced & (foresight.prediction.cost_usd > controls.max_cost_usd)
    masked = {
        arms[k]: MaskReason.TOO_DEAR if dear[k] else MaskReason.TOO_SLOW
        for k in np.flatnonzero(eligible & (slow | dear))
    }
    if masked and len(masked) == int(eligible.sum()):
        raise NoEligibleModel(_remedy(arms, foresight, eligible, controls), masked=masked)
    return masked


def _remedy(
    arms: tuple[str, ...], foresight: Foresight, eligible: BoolArray, controls: Controls
) -> str:
    told = []
    if controls.max_latency_s is not None:
        k = int(np.where(eligible, foresight.miss_probability, np.inf).argmin())
        told.append(
            f"'{arms[k]}' is the likeliest to answer within {controls.max_latency_s:g} s, and "
            f"misses that with probability {foresight.miss_probability[k]:.2f} (typically "
            f"{foresight.prediction.latency_s[k]:.2g} s): raise max_latency_s"
        )
    if controls.max_cost_usd is not None:
        k = int(np.where(eligible, foresight.prediction.cost_usd, np.inf).argmin())
        told.append(
            f"'{arms[k]}' is the cheapest, at about ${foresight.prediction.cost_usd[k]:.3g}: "
            f"raise max_cost_usd, now ${controls.max_cost_usd:.3g}, or ask for less"
        )
    return f"no model meets this request's bounds. {'; '.join(told)}; or name other candidates"


class QualityFloors:
    """Keeps each tenant's pessimistic quality above a share of the baseline's, over all requests
    so far; what is above it may be spent on trying models (Wu et al. 2016, conservative bandits).

    Every process keeps an account of its own: where each is kept, so is their sum.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, float]] = {}

    def below(
        self,
        tenant: str,
        floor: float,
        beliefs: Beliefs,
        eligible: BoolArray,
    ) -> BoolArray:
        """(K,) the eligible arms that could take the account below ``floor`` of the baseline's."""
        baseline = baseline_of(beliefs, eligible)
        had, owed = self._kept.get(tenant, (0.0, 0.0))
        pessimistic = pessimistic_quality(beliefs, baseline)
        enough = had + pessimistic >= floor * (owed + beliefs.mean[baseline])
        enough[baseline] = True
        return np.asarray(eligible & ~enough)

    def chosen(self, tenant: str, beliefs: Beliefs, arm: int, eligible: BoolArray) -> None:
        """Book a choice among the arms that were eligible."""
        baseline = baseline_of(beliefs, eligible)
        had, owed = self._kept.get(tenant, (0.0, 0.0))
        quality = float(pessimistic_quality(beliefs, baseline)[arm])
        self._kept[tenant] = (had + quality, owed + float(beliefs.mean[baseline]))


def pessimistic_quality(beliefs: Beliefs, baseline: int) -> FloatArray:
    """(K,) the least that each arm's quality may be, within [0, 1]; the baseline is what it is."""
    least = np.clip(beliefs.mean - PESSIMISM_SDS * beliefs.sd, 0.0, 1.0)
    least[baseline] = beliefs.mean[baseline]
    return np.asarray(least)


def baseline_of(beliefs: Beliefs, eligible: BoolArray) -> int:
    """The model that others are held against: the eligible one that is expected to be best."""
    return int(np.where(eligible, beliefs.mean, -np.inf).argmax())
