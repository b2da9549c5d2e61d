"""When an estimate is refused, in words that say what would help."""

from __future__ import annotations

import math

from bandit_router.ope.diagnostics import WeightTally
from bandit_router.ope.estimate import Limits, Refusal, RefusalReason


def refusal_of(tally: WeightTally, limits: Limits) -> Refusal | None:
    """Why no estimate of this target can be given from this log, or None."""
    arm = tally.neediest_arm
    unsupported = tally.unsupported / tally.n
    if unsupported > limits.most_unsupported:
        return Refusal(
            RefusalReason.NO_SUPPORT,
            f"the target puts {unsupported:.2%} of its choices where the log had probability 0, "
            f"most of them on {arm}: no number of such decisions tells what they would have "
            f"earned. Give {arm} a floor of exploration, or ask about a target that leaves it out",
            arm=arm,
        )
    # The size of the weights seen is luck; that of the probabilities is not.
    size = min(tally.effective_sample_size, tally.expected_effective_sample_size)
    if size < limits.least_effective_sample_size:
        more = decisions_for(tally.n, size, limits.least_effective_sample_size)
        return Refusal(
            RefusalReason.EFFECTIVE_SAMPLE_SIZE,
            f"{tally.n} decisions are worth {size:.0f} of the target's own, fewer than "
            f"{limits.least_effective_sample_size:.0f}. "
            + (f"About {more} more of the same logging would do, or " if more else "")
            + f"more exploration of {arm}",
            more_decisions=more,
            arm=arm,
        )
    if tally.largest > limits.largest_weight:
        return Refusal(
            RefusalReason.LARGEST_WEIGHT,
            f"one decision weighs {tally.largest:.0f}, more than {limits.largest_weight:.0f}: "
            f"intervals at such weights are too narrow. Explore {arm} with a probability of at "
            f"least {1.0 / limits.largest_weight:.3g} where the target would choose it",
            arm=arm,
        )
    return None


def refusal_of_outcome(
    outcome: str, tally: WeightTally, observed: int, size: float, limits: Limits
) -> Refusal | None:
    """Why an outcome that is not known of every round gives no estimate, or None."""
    if observed == 0:
        return Refusal(
            RefusalReason.NOT_OBSERVED,
            f"{outcome} is not known of any decision: post feedback, or log it",
        )
    if size < limits.least_effective_sample_size:
        more = decisions_for(tally.n, size, limits.least_effective_sample_size)
        return Refusal(
            RefusalReason.EFFECTIVE_SAMPLE_SIZE,
            f"{outcome} is known of {observed} of {tally.n} decisions, worth {size:.0f} of the "
            f"target's own, fewer than {limits.least_effective_sample_size:.0f}. Collect more "
            f"feedback, above all on {tally.neediest_arm}",
            more_decisions=more,
            arm=tally.neediest_arm,
        )
    return None


def decisions_for(n: int, size: float, wanted: float) -> int | None:
    """How many more decisions of the same kind would reach an effective sample size; it grows
    in proportion. None where there is nothing to scale."""
    return math.ceil(n * (wanted / size - 1.0)) if size > 0.0 else None
