"""The sentences that stand at the head of a report."""

from __future__ import annotations

from simulations.means import Mean
from simulations.report.content import Finding, Level, Point
from simulations.report.page import dollars, saving, signed

# A loss on the hardest requests below this is not worth a warning.
BEARABLE_LOSS = 0.02
# Times the reference's dollars from which a policy is dearer.
DEARER = 1.001


def bargain(point: Point, reference: Point, gain: Mean | None = None) -> Finding | None:
    """What a policy saves against the reference, and what that costs in quality.

    gain: the paired difference in quality, which says more than two intervals; without it the
    intervals are added up.
    """
    if point.quality is None or reference.quality is None:
        return None
    lost = reference.quality - point.quality
    spread = sum(
        (p.quality_interval[1] - p.quality_interval[0]) / 2
        for p in (point, reference)
        if p.quality_interval
    )
    if gain is not None:
        lost, spread = -gain.value, (gain.high - gain.low) / 2
    if point.cost_usd is None or reference.cost_usd is None:
        return None
    compared = saving(point, reference)
    joint = "as" if compared.endswith(("same", "much")) else "than"
    money = f"costs {dollars(point.cost_usd)} a request, {compared} {joint} {reference.name}"
    if abs(lost) <= spread:
        quality = f"and its quality cannot be told apart ({signed(-lost)} ± {spread:.4f})"
    elif lost < 0.0:
        quality = f"and is {-lost:.4f} better (± {spread:.4f})"
    else:
        quality = f"at {lost:.4f} less quality (± {spread:.4f})"
    return Finding(
        _level(lost, spread, dearer=point.cost_usd > DEARER * reference.cost_usd),
        f"{point.name} {money}, {quality}.",
    )


def _level(lost: float, spread: float, *, dearer: bool) -> Level:
    """Better is good, and so is cheaper where quality is kept; dearer for nothing is not."""
    if lost < -spread:
        return Level.GOOD
    if dearer:
        return Level.WARNING
    return Level.GOOD if lost <= spread else Level.NOTE


def hardest(
    policy: str, reference: str, difference: float, low: float, high: float, decisions: int
) -> Finding:
    """Whether hard requests are quietly served worse."""
    told = f"{signed(difference)} ({signed(low)} to {signed(high)}, {decisions:,} requests)"
    if high < -BEARABLE_LOSS:
        return Finding(
            Level.BAD,
            f"{policy} serves the hardest fifth of requests worse than {reference}: {told}.",
        )
    if low < -BEARABLE_LOSS:
        return Finding(
            Level.WARNING,
            f"{policy} may serve the hardest fifth of requests worse than {reference}: {told}.",
        )
    return Finding(
        Level.GOOD,
        f"{policy} does not let the hardest fifth of requests down against {reference}: {told}.",
    )
