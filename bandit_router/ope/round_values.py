"""DR's word round by round, for curves over time and for slices that nobody labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandit_router.ope.blocks import Source, source_of
from bandit_router.ope.first_pass import Prepared, first_pass, prepared
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


class RoundTerms:
    """Takes the blocks of a log, in order, and keeps DR's terms of them.

    Takes 8 · n · (K + 2 · targets) bytes per outcome, unlike ``evaluate``.
    """

    def __init__(self, targets: Mapping[str, Target], options: Options) -> None:
        self._targets, self._options = targets, options
        keys = [(target, outcome) for target in targets for outcome in options.names]
        self._predicted: dict[str, list[FloatArray]] = {name: [] for name in options.names}
        self._values: dict[tuple[str, str], list[FloatArray]] = {key: [] for key in keys}
        self._weight: dict[tuple[str, str], list[FloatArray]] = {key: [] for key in keys}

    def add(self, part: Prepared) -> None:
        """Keep the terms of the next block."""
        for outcome in self._options.names:
            self._predicted[outcome].append(part.predicted[outcome])
        for name, target in self._targets.items():
            pmf = checked_pmf(target, part.block.rounds)
            for outcome in self._options.names:
                each = part.contributions(outcome, pmf, 1.0)
                seen = each.weight * each.seen
                self._weight[name, outcome].append(seen)
                self._values[name, outcome].append(each.predicted_target + seen * each.residual)

    def values(self) -> RoundValues:
        """All that was kept."""
        return RoundValues(
            predicted={name: np.concatenate(parts) for name, parts in self._predicted.items()},
            values={key: np.concatenate(parts) for key, parts in self._values.items()},
            weight={key: np.concatenate(parts) for key, parts in self._weight.items()},
        )


def round_values(
    log: LoggedRounds | Source, targets: Mapping[str, Target], options: Options | None = None
) -> RoundValues:
    """DR's terms for every target and outcome; nothing is refused here.

    Without targets only the predictions are made. Raises DataError as ``evaluate`` does.
    """
    options = options or Options()
    source = source_of(log)
    look = first_pass(source, targets, options, lambda: None)
    terms = RoundTerms(targets, options)
    for part in prepared(source, options, look, lambda: None):
        terms.add(part)
    return terms.values()
