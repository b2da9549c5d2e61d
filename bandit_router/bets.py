"""Bets against predictions: what gamblers gain by an outcome, and how their capital grows.

Row by row in plain Python: on eight numbers its own arithmetic is quicker than array calls, and
every row of the log is bet on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bandit_router.types import FloatArray, IntArray

# Shares of the largest bet that cannot ruin; capital is spread evenly over them.
STAKES = (0.1, 0.3, 0.6, 0.9)
# Log residuals of cost are cut at so many sds of the noise on the losing side, so that no bet
# ruins; gains at so many, so that no single bill decides.
_LOSS_CUT_SDS = 3.0
_GAIN_CUT_SDS = 15.0
# Cutting losses raises the mean of residuals of mean zero by at most so many sds, whatever their
# distribution (Scarf 1958); no bet is paid for that.
_CUT_BIAS = (math.sqrt(1.0 + _LOSS_CUT_SDS**2) - _LOSS_CUT_SDS) / 2.0

# Per stake, in units of the most that a whole stake can lose.
Gains = Sequence[float]
# Of the gamblers on a fall and of those on a rise.
Sides = tuple[Gains, Gains]


def bounded_gains(outcome: float, expected: float, margin: float) -> Sides:
    """What gamblers on a fall and on a rise gain by an outcome in [0, 1].

    margin: by how much the expectation may be off.
    """
    fall = (expected - outcome - margin) / (1.0 - expected + margin)
    rise = (outcome - expected - margin) / (expected + margin)
    return (fall,) * len(STAKES), (rise,) * len(STAKES)


def residual_gains(residual: float, margin: float, noise_sd: float) -> Sides:
    """The same by an unbounded outcome that was off its prediction by ``residual``.

    The boldest gambler is paid by the square of what lies on his side, in sds: its mean is at
    most one, whatever the distribution (as in Cantelli's inequality), and it pays by far the
    most for what is far off, so that a few such outcomes are enough.
    """
    loss, allowed = _LOSS_CUT_SDS * noise_sd, margin + _CUT_BIAS * noise_sd

    def gains(towards: float) -> Gains:
        held = min(max(towards, -loss), _GAIN_CUT_SDS * noise_sd)
        even = (held - allowed) / (loss + allowed)
        sds = min(max(towards - margin, 0.0) / noise_sd, _GAIN_CUT_SDS)
        return (even,) * (len(STAKES) - 1) + (sds * sds - 1.0,)

    return gains(-residual), gains(residual)


def settle(
    capital: list[list[float]], runs: list[list[list[float]]], gains: Sides, decision_seq: int
) -> tuple[float, float]:
    """Settle one row's bets in place; the mean capital of either side after it.

    capital: [2][stakes]. runs: [2][stakes][2], of each capital since its latest restart the last
    decision_seq before, and rows since. A capital that is not above one restarts at one.
    """
    reached = []
    for own, run, gained in zip(capital, runs, gains, strict=True):
        for i, stake in enumerate(STAKES):
            held = own[i]
            if held <= 1.0:
                held = 1.0
                run[i] = [decision_seq - 1.0, 1.0]
            else:
                run[i][1] += 1.0
            own[i] = held * (1.0 + stake * gained[i])
        reached.append(math.fsum(own) / len(STAKES))
    return reached[0], reached[1]


def bounded_gains_of_rows(
    outcome: FloatArray, expected: FloatArray, margin: FloatArray
) -> FloatArray:
    """``bounded_gains`` of many outcomes. Each (r,); the result (r, 2, stakes)."""
    fall = (expected - outcome - margin) / (1.0 - expected + margin)
    rise = (outcome - expected - margin) / (expected + margin)
    gains = np.empty((outcome.size, 2, len(STAKES)))
    gains[:, 0], gains[:, 1] = fall[:, None], rise[:, None]
    return gains


def residual_gains_of_rows(
    residual: FloatArray, margin: FloatArray, noise_sd: FloatArray
) -> FloatArray:
    """``residual_gains`` of many outcomes. Each (r,); the result (r, 2, stakes)."""
    noise, within = noise_sd[:, None], margin[:, None]
    loss, allowed = _LOSS_CUT_SDS * noise, within + _CUT_BIAS * noise
    towards = np.stack([-residual, residual], axis=1)
    held = np.minimum(np.maximum(towards, -loss), _GAIN_CUT_SDS * noise)
    sds = np.minimum(np.maximum(towards - within, 0.0) / noise, _GAIN_CUT_SDS)
    gains = np.empty((residual.size, 2, len(STAKES)))
    gains[:] = ((held - allowed) / (loss + allowed))[..., None]
    gains[..., -1] = sds * sds - 1.0
    return gains


def settle_rows(
    capital: FloatArray, runs: FloatArray, gains: FloatArray, decision_seq: IntArray
) -> float:
    """``settle`` for the rows of one arm and kind, oldest first; the most that either side's mean
    capital came to.

    capital: (2, stakes) and runs: (2, stakes, 2), changed in place. gains: (r, 2, stakes).
    decision_seq: (r,). In logarithms, max(L, 0) + x row after row is S plus the running maximum
    of what S began at and of −S, where S is the running sum of x (Lindley's recursion).
    """
    count = decision_seq.size
    sums = np.log1p(np.array(STAKES) * gains)
    np.cumsum(sums, axis=0, out=sums)
    before = np.log(capital)
    lifted = np.empty_like(sums)
    lifted[0] = np.maximum(before, 0.0)
    np.negative(sums[:-1], out=lifted[1:])
    np.maximum.accumulate(lifted, axis=0, out=lifted)
    lifted += sums
    restarted = np.empty(lifted.shape, dtype=np.bool_)
    restarted[0] = before <= 0.0
    np.less_equal(lifted[:-1], 0.0, out=restarted[1:])
    since = restarted[::-1].argmax(axis=0)
    anew = restarted.any(axis=0)
    runs[..., 0] = np.where(anew, decision_seq[count - 1 - since] - 1.0, runs[..., 0])
    runs[..., 1] = np.where(anew, since + 1.0, runs[..., 1] + count)
    grown = np.exp(lifted)
    capital[:] = grown[-1]
    return float(grown.mean(axis=2).max())
