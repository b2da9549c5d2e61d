"""The sentences that stand at the head of a report."""

from __future__ import annotations

from simulations.report.content import Finding, Level, Point
from simulations.report.page import dollars, saving

# A loss on the hardest requests below this is not worth a warning.
BEARABLE_LOSS = 0.02


def bargain(point: Point, reference: Point) -> Finding | None:
    """What a policy saves against the reference, and what that costs in quality."""
    if None in (point.quality, point.cost_usd, reference.quality, reference.cost_usd):
        return None
    assert point.quality is not None
    assert reference.quality is not None
    lost = reference.quality - point.quality
    spread = sum(
        (p.quality_interval[1] - p.quality_interval[0]) / 2
        for p in (point, reference)
        if p.quality_interval
    )
    money = (
        f"costs {dollars(point.cost_usd)} a request, {saving(point, reference)} than "
        f"{reference.name}"
    )
    if lost <= 0.0:
        quality = f"and is {-lost:.4f} better"
    elif lost <= spread:
        quality = f"and its quality cannot be told apart ({-lost:+.4f}, within the intervals)"
    else:
        quality = f"at {lost:.4f} less quality"
    level = Level.GOOD if lost <= spread else Level.NOTE
    return Finding(level, f"{point.name} {money}, {quality}.")


def hardest(
    policy: str, reference: str, difference: float, low: float, high: float, decisions: int
) -> Finding:
    """Whether hard requests are quietly served worse."""
    told = f"{difference:+.4f} ({low:+.4f} to {high:+.4f}, {decisions:,} requests)"
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
