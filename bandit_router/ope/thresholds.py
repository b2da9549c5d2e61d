"""Which thresholds are tried, and the one that is chosen: SLOPE, a rule of Lepski's kind."""

from __future__ import annotations

import math

from bandit_router.types import FloatArray

# From the least biased on. Steps of √2 in weight: finer ones change the value by less than
# its standard error.
WEIGHTS = (math.inf, *(2.0 ** (step / 2.0) for step in range(20, -3, -1)))
# λw/(w² + λ) turns at w = √λ, so these turn where the weights' thresholds lie.
SHRINKAGES = (math.inf, *(weight * weight for weight in WEIGHTS[1:]))
# Half-width of an interval, in standard errors, and the share of the other's that counts.
_WIDTH = 2.0
_OTHER = math.sqrt(6.0) - 1.0


def slope(value: FloatArray, standard_error: FloatArray) -> int:
    """Index of the threshold to use. value, standard_error: (G,), from the least biased on.

    The last one, so the least variable, that agrees with all before it within their intervals:
    its bias is then no larger than what the data could tell from noise. No bound on the bias is
    needed. Source: Su et al. 2020 (SLOPE); Tucker & Lee 2021 (SLOPE++, without monotone widths).
    """
    width = _WIDTH * standard_error
    chosen = 0
    for candidate in range(1, value.size):
        apart = abs(value[:candidate] - value[candidate])
        if (apart > width[:candidate] + _OTHER * width[candidate]).any():
            break
        if width[candidate] <= width[chosen]:
            chosen = candidate
    return chosen
