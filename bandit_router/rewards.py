"""From a posted score to the reward that the learner sees, in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from bandit_router.config import RewardConfig
from bandit_router.errors import InvalidFeedback, UnknownMetric
from bandit_router.types import Reward

Rewards = Mapping[str, RewardConfig]
# How much one answer differs from what was to be expected of its model and prompt, as a variance
# of the reward: no signal, however precise, tells more of the next answer than this leaves.
ANSWER_VARIANCE = 0.05


def posted_value(metric: str, value: object, rewards: Rewards) -> float:
    """A posted value as a number that the metric can hold, not yet scaled.

    Booleans (and 1, 0) become 1.0 and 0.0. Raises UnknownMetric for a metric that no
    ``[rewards.<metric>]`` declares, InvalidFeedback for a value of the wrong type or range.
    """
    declared = rewards.get(metric)
    if declared is None:
        raise UnknownMetric(
            f"no metric '{metric}'; the configuration declares: {', '.join(sorted(rewards))}",
            param="metric",
        )
    if declared.type == "boolean":
        if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
            return float(value)
        raise InvalidFeedback(
            f"value {value!r} of metric '{metric}' is not a boolean; send true or false",
            param="value",
        )
    low, high = declared.range
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidFeedback(
            f"value {value!r} of metric '{metric}' is not a number; send one from {low:g} to "
            f"{high:g}",
            param="value",
        )
    # The comparison alone would let NaN through, and a huge int cannot become a float.
    if not low <= value <= high or not math.isfinite(value):
        raise InvalidFeedback(
            f"value {value} of metric '{metric}' is out of range; send a number from {low:g} to "
            f"{high:g}",
            param="value",
        )
    return float(value)


def scaled(metric: str, value: object, rewards: Rewards) -> float:
    """A posted value as a reward in [0, 1], where 1 is best whichever way the metric runs.

    Raises as ``posted_value`` does.
    """
    number = posted_value(metric, value, rewards)
    return _scale(number, rewards[metric])


def combined(values: Mapping[str, float], rewards: Rewards) -> Reward | None:
    """One reward from a decision's last values: the weighted mean over the metrics present.

    Its weight is how precise that mean is, beside one signal of the most precise metric that is
    declared: a thumb alone counts less than a score, both together more than either.
    None when none is present. Values were checked when they were posted; where the
    configuration changed since, a metric no longer declared is left out and a value beyond a
    narrowed range counts as its end.
    """
    total = weights = variance = 0.0
    for metric, value in values.items():
        declared = rewards.get(metric)
        if declared is None:
            continue
        total += declared.weight * _scale(value, declared)
        weights += declared.weight
        variance += declared.weight**2 * declared.noise_variance
    if weights == 0.0:
        return None
    best = min(declared.noise_variance for declared in rewards.values())
    precision = (ANSWER_VARIANCE + best) / (ANSWER_VARIANCE + variance / weights**2)
    return Reward(total / weights, precision)


def _scale(value: float, declared: RewardConfig) -> float:
    low, high = (0.0, 1.0) if declared.type == "boolean" else declared.range
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    reward = 1.0 - share if declared.optimize == "min" else share
    points = declared.calibration
    if not points:
        return reward
    if reward <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if reward <= x1:
            return y0 + (y1 - y0) * (reward - x0) / (x1 - x0)
    return points[-1][1]
