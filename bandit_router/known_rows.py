"""What the log's rows say of each thing that is regressed on the coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandit_router import effort
from bandit_router.alarms import COST, QUALITY, Watch
from bandit_router.basis import Basis, coordinates_of_rows
from bandit_router.learned_state import LogRows, Problem, rows_aged
from bandit_router.policies.base import Rows
from bandit_router.types import FloatArray

# A new version of a model starts from at most half of what its predecessor's rows say, and from
# no more than so many of them: as many of its own outweigh that.
INHERITED_SHARE = 0.5
INHERITED_ROWS = 30.0


@dataclass(frozen=True, slots=True)
class Known:
    """What the log says of each of the things that are regressed on the coordinates."""

    reward: Rows
    log_amount: Rows
    log_latency: Rows
    log_first_token: Rows

    def after(self, inherited: Known, arm_count: int) -> Known:
        """These rows after what the arms inherit, in so far as that counts."""
        return Known(
            _after(self.reward, inherited.reward, arm_count),
            _after(self.log_amount, inherited.log_amount, arm_count),
            _after(self.log_latency, inherited.log_latency, arm_count),
            _after(self.log_first_token, inherited.log_first_token, arm_count),
        )

    def preceded_by(self, told: Known) -> Known:
        """These rows after a prior's."""
        return Known(
            joined(told.reward, self.reward),
            joined(told.log_amount, self.log_amount),
            joined(told.log_latency, self.log_latency),
            joined(told.log_first_token, self.log_first_token),
        )


def known_rows(
    problem: Problem,
    basis: Basis,
    rows: LogRows,
    clock: int,
    watch: Watch,
    half_life_decisions: float | None,
    z: FloatArray | None = None,
) -> Known:
    """The rows' rewards, amounts and seconds, each at its weight when the clock shows ``clock``.

    z: (N, d) the rows' coordinates, where they are known already."""
    if z is None:
        z = coordinates_of_rows(basis, rows.features)
    age = rows_aged(np.maximum(rows.decision_seq, 0), clock, half_life_decisions)
    amount = np.where(
        problem.prices.metered[rows.arm] > 0.0, np.maximum(rows.output_tokens, 1.0), rows.cost_usd
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log_amount = np.log(np.maximum(amount, effort.LEAST_AMOUNT))
        log_latency = np.log(rows.latency_s)
        log_first_token = None if rows.first_token_s is None else np.log(rows.first_token_s)

    def of(values: FloatArray, weight: FloatArray) -> Rows:
        there = np.isfinite(values)
        return Rows(z=z[there], arm=rows.arm[there], value=values[there], weight=weight[there])

    precise = age if rows.reward_weight is None else age * rows.reward_weight
    believed, spent = (watch.shares(kind, rows.arm, rows.decision_seq) for kind in (QUALITY, COST))
    return Known(
        of(rows.reward, precise * believed),
        of(log_amount, age * spent),
        of(log_latency, age * spent),
        no_rows(z.shape[1]) if log_first_token is None else of(log_first_token, age * spent),
    )


def no_rows(dimension: int) -> Rows:
    """Nothing known."""
    nothing = np.zeros(0)
    return Rows(np.zeros((0, dimension)), nothing.astype(np.int64), nothing, nothing)


def inherited_share(rows: float) -> float:
    """By how much each of a predecessor's ``rows`` counts for its new version."""
    return min(INHERITED_SHARE, INHERITED_ROWS / max(rows, 1.0))


def joined(first: Rows, then: Rows) -> Rows:
    return Rows(
        z=np.concatenate([first.z, then.z]),
        arm=np.concatenate([first.arm, then.arm]),
        value=np.concatenate([first.value, then.value]),
        weight=np.concatenate([first.weight, then.weight]),
    )


def _after(own: Rows, inherited: Rows, arm_count: int) -> Rows:
    of_arm = np.bincount(inherited.arm, weights=inherited.weight, minlength=arm_count)
    share = np.array([inherited_share(float(rows)) for rows in of_arm])
    return joined(replace(inherited, weight=inherited.weight * share[inherited.arm]), own)
