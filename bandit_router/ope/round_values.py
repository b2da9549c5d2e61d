"""DR's word round by round, for curves over time and for slices that nobody labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandit_router.ope.blocks import Source, source_of
from bandit_router.ope.first_pass import first_pass, prepared
from bandit_router.ope.options import Options
from bandit_router.ope.rounds import LoggedRounds
from bandit_router.ope.targets import Target, checked_pmf
from bandit_router.types import FloatArray


@dataclass(frozen=True, slots=True)
class RoundValues:
    """What ``evaluate`` sums up for DR, before it is summed.

    predicted: outcome -> (n, K), each round by a fit that has not seen it. values: (target,
    outcome) -> (n,), whose mean is DR's value. weight: (target, outcome) -> (n,) the target's
    weight over the chance that the outcome is known; 0 where it is not.
    """

    predicted: Mapping[str, FloatArray]
    values: Mapping[tuple[str, str], FloatArray]
    weight: Mapping[tuple[str, str], FloatArray]


def round_values(
    log: LoggedRounds | Source, targets: Mapping[str, Target], options: Options | None = None
) -> RoundValues:
    """DR's terms for every target and outcome; nothing is refused here.

    Takes 8 · n · (K + 2 · targets) bytes per outcome, unlike ``evaluate``. Without targets only
    the predictions are made. Raises DataError as ``evaluate`` does.
    """
    options = options or Options()
    source = source_of(log)
    look = first_pass(source, targets, options, lambda: None)
    predicted: dict[str, list[FloatArray]] = {name: [] for name in options.names}
    keys = [(target, outcome) for target in targets for outcome in options.names]
    values: dict[tuple[str, str], list[FloatArray]] = {key: [] for key in keys}
    weight: dict[tuple[str, str], list[FloatArray]] = {key: [] for key in keys}
    for part in prepared(source, options, look, lambda: None):
        for outcome in options.names:
            predicted[outcome].append(part.predicted[outcome])
        for name, target in targets.items():
            pmf = checked_pmf(target, part.block.rounds)
            for outcome in options.names:
                each = part.contributions(outcome, pmf, 1.0)
                seen = each.weight * each.seen
                weight[name, outcome].append(seen)
                values[name, outcome].append(each.predicted_target + seen * each.residual)
    return RoundValues(
        predicted={name: np.concatenate(parts) for name, parts in predicted.items()},
        values={key: np.concatenate(parts) for key, parts in values.items()},
        weight={key: np.concatenate(parts) for key, parts in weight.items()},
    )
