"""What a report's first sentences call good."""

from __future__ import annotations

import pytest

from simulations.means import Mean
from simulations.report import Level, Point, Role
from simulations.report.words import bargain, hardest


def point(name: str, quality: float, cost_usd: float) -> Point:
    return Point(name, Role.TARGET, quality, cost_usd)


@pytest.mark.parametrize(
    ("gain", "cost_usd", "level", "words"),
    [
        (0.05, 0.004, Level.GOOD, "is 0.0500 better"),
        (0.00, 0.001, Level.GOOD, "cannot be told apart (+0.0000 ± 0.0100)"),
        (-0.05, 0.001, Level.NOTE, "50% less than logged, at 0.0500 less quality"),
        (-0.005, 0.004, Level.WARNING, "cannot be told apart (−0.0050 ± 0.0100)"),
        (-0.05, 0.004, Level.WARNING, "2.0 times as much as logged, at 0.0500 less quality"),
    ],
)
def test_better_or_cheaper_at_the_same_quality_is_good_and_dearer_for_nothing_is_not(
    gain: float, cost_usd: float, level: Level, words: str
) -> None:
    found = bargain(
        point("new", 0.8 + gain, cost_usd),
        point("logged", 0.8, 0.002),
        Mean(gain, gain - 0.01, gain + 0.01, 500),
    )
    assert found is not None
    assert found.level is level
    assert words in found.text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_loss_on_hard_requests_is_told_by_how_sure_it_is() -> None:
    assert hardest("new", "logged", -0.1, -0.15, -0.05, 100).level is Level.BAD
    assert hardest("new", "logged", -0.03, -0.07, 0.01, 100).level is Level.WARNING
    assert hardest("new", "logged", 0.0, -0.01, 0.01, 100).level is Level.GOOD
