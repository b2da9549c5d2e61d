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
from bandit_router.heads import HeadBank
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
    its dollars against it. late_probability, timed: the first two again, of the first token;
    None where none was asked for or none was ever seen."""

    prediction: Prediction
    miss_probability: FloatArray
    measured: BoolArray
    priced: BoolArray
    late_probability: FloatArray | None = None
    timed: BoolArray | None = None


def foresee(
    prices: Prices, effort: EffortState, z: FloatArray, prediction: Prediction, controls: Controls
) -> Foresight:
    """The foresight that ``controls`` are judged by."""
    bills = np.array([arm.sums.weight for arm in effort.amount.arms])
    miss = np.zeros(bills.size)
    if controls.max_latency_s is not None:
        miss = _exceeding(effort.latency, z, controls.max_latency_s)
    late, timed = None, None
    if controls.max_first_token_s is not None and effort.first_token is not None:
        late = _exceeding(effort.first_token, z, controls.max_first_token_s)
        timed = _known(effort.first_token)
    return Foresight(
        prediction=prediction,
        miss_probability=miss,
        measured=_known(effort.latency),
        # With list prices even the first call has a price.
        priced=(prices.metered > 0.0) | (bills >= LEAST_CALLS),
        late_probability=late,
        timed=timed,
    )


def _exceeding(log_seconds: HeadBank, z: FloatArray, most_s: float) -> FloatArray:
    """(K,) the probability that a call takes longer than ``most_s``."""
    noise = np.array([prior.noise for prior in log_seconds.priors.arms])
    # log seconds of one call: the belief on the mean, and the noise about it.
    sd = np.sqrt(heads.variances(log_seconds, z) + noise)
    return np.asarray(ndtr((z @ log_seconds.means.T - np.log(most_s)) / sd))


def _known(log_seconds: HeadBank) -> BoolArray:
    return np.array([arm.sums.weight for arm in log_seconds.arms]) >= LEAST_CALLS


def bounded(
    arms: tuple[str, ...],
    foresight: Foresight,
    eligible: BoolArray,
    controls: Controls,
    most_misses: float,
) -> dict[str, MaskReason]:
    """The eligible arms that would probably be too slow or too dear, with the reason.

    most_misses: δ, the probability of missing ``max_latency_s`` or ``max_first_token_s`` that is
    still taken. Raises NoEligibleModel, with the nearest remedy, where nothing is left.
    """
    known = foresight.measured | (not controls.explore)
    priced = foresight.priced | (not controls.explore)
    slow = known & (foresight.miss_probability > most_misses)
    late, dear = (np.zeros(eligible.size, dtype=np.bool_) for _ in range(2))
    if foresight.late_probability is not None and foresight.timed is not None:
        timed = foresight.timed | (not controls.explore)
        late = timed & (foresight.late_probability > most_misses)
    if controls.max_cost_usd is not None:
        dear = priced & (foresight.prediction.cost_usd > controls.max_cost_usd)
    masked: dict[str, MaskReason] = {}
    for out, reason in (
        (late, MaskReason.LATE_FIRST_TOKEN),
        (slow, MaskReason.TOO_SLOW),
        (dear, MaskReason.TOO_DEAR),
    ):
        masked |= {arms[k]: reason for k in np.flatnonzero(eligible & out)}
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
    if foresight.late_probability is not None and foresight.prediction.first_token_s is not None:
        k = int(np.where(eligible, foresight.late_probability, np.inf).argmin())
        told.append(
            f"'{arms[k]}' is the likeliest to begin its answer within "
            f"{controls.max_first_token_s:g} s, and misses that with probability "
            f"{foresight.late_probability[k]:.2f} (typically "
            f"{foresight.prediction.first_token_s[k]:.2g} s): raise max_first_token_s"
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
