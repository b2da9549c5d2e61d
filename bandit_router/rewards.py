"""From a posted score to the reward that the learner sees, in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bandit_router.config import RewardConfig
from bandit_router.errors import InvalidFeedback, UnknownMetric

Rewards = Mapping[str, RewardConfig]


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


def combined(values: Mapping[str, float], rewards: Rewards) -> float | None:
    """One reward from a decision's last values: the weighted mean over the metrics present.

    None when none is present. Values were checked when they were posted; where the
    configuration changed since, a metric no longer declared is left out and a value beyond a
    narrowed range counts as its end.
    """
    total = weights = 0.0
    for metric, value in values.items():
        declared = rewards.get(metric)
        if declared is not None:
            total += declared.weight * _scale(value, declared)
            weights += declared.weight
    return total / weights if weights else None


def _scale(value: float, declared: RewardConfig) -> float:
    low, high = (0.0, 1.0) if declared.type == "boolean" else declared.range
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return 1.0 - share if declared.optimize == "min" else share
