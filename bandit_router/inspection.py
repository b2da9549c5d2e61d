"""What was learned, in terms an operator can read, and proof that the log is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router import snapshot
from bandit_router.choosers import STATE_OF, chooser_named
from bandit_router.contender import mixture
from bandit_router.errors import ConfigError, SnapshotError
from bandit_router.heads import HeadBank
from bandit_router.learning import LearnedState, Problem, init_state, predict
from bandit_router.policies import Policy, PolicyOptions
from bandit_router.protocols import SnapshotRecord
from bandit_router.selection import recomputed_pmf
from bandit_router.types import Decision, FloatArray

# Two-sided 95 % of a normal.
Z95 = 1.959963984540054
# Recomputed on the same machine it is equal to the bit; elsewhere rounding may differ.
PMF_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One weight of a linear head, with its 95 % credible interval."""

    feature: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What is believed of one model.

    quality: expected quality on the recent mix of requests, low and high its 95 % interval.
    effective_sample_size: rewards, each counted by how much it still weighs. first_token_s: of
    a stream; None before any was seen.
    """

    model: str
    quality: float
    quality_low: float
    quality_high: float
    effective_sample_size: float
    pulls: int
    share: float
    cost_usd: float
    latency_s: float
    first_token_s: float | None
    coefficients: tuple[Coefficient, ...]


@dataclass(frozen=True, slots=True)
class PmfCheck:
    """A logged pmf beside the one that its snapshot and features give.

    recomputed is None where that is not possible; reason then says why.
    """

    recomputed: FloatArray | None
    largest_difference: float | None
    equal: bool | None
    reason: str | None


def arm_reports(
    problem: Problem, policy: Policy[Any], state: LearnedState
) -> tuple[ArmReport, ...]:
    """One report per model, in the order of the configuration."""
    z = typical_request(state)
    tokens = float(np.mean(state.pacer.window_tokens)) if state.pacer.window_tokens else 0.0
    beliefs, prediction = predict(problem, policy, state, z, tokens)
    heads: HeadBank | None = state.policy if isinstance(state.policy, HeadBank) else None
    total = max(float(state.pulls.sum()), 1.0)
    return tuple(
        ArmReport(
            model=name,
            quality=float(beliefs.mean[k]),
            quality_low=float(beliefs.mean[k] - Z95 * beliefs.sd[k]),
            quality_high=float(beliefs.mean[k] + Z95 * beliefs.sd[k]),
            effective_sample_size=heads.arms[k].sums.weight if heads else 0.0,
            pulls=int(state.pulls[k]),
            share=float(state.pulls[k] / total),
            cost_usd=float(prediction.cost_usd[k]),
            latency_s=float(prediction.latency_s[k]),
            first_token_s=entry(prediction.first_token_s, k),
            coefficients=coefficients(heads, k, state.basis.names) if heads else (),
        )
        for k, name in enumerate(problem.arms)
    )


def entry(values: FloatArray | None, arm: int) -> float | None:
    """One arm's entry; None where there are no values."""
    return None if values is None else float(values[arm])


def typical_request(state: LearnedState) -> FloatArray:
    """(d,) mean coordinates of recent requests; the bias alone before any."""
    if state.pacer.window:
        return np.asarray(np.mean(np.stack(state.pacer.window), axis=0))
    z = np.zeros(state.basis.dimension)
    z[0] = 1.0
    return z


def coefficients(heads: HeadBank, arm: int, names: tuple[str, ...]) -> tuple[Coefficient, ...]:
    """The weights of one arm's head, by named coordinate."""
    posterior = heads.arms[arm]
    sd = np.sqrt(np.maximum(np.diagonal(posterior.covariance), 0.0))
    return tuple(
        Coefficient(
            feature=name,
            mean=float(mean),
            low=float(mean - Z95 * spread),
            high=float(mean + Z95 * spread),
        )
        for name, mean, spread in zip(names, posterior.mean, sd, strict=True)
    )


def check_pmf(
    problem: Problem,
    policy: Policy[Any],
    decision: Decision,
    record: SnapshotRecord | None,
    options: PolicyOptions = PolicyOptions(),  # noqa: B008  it is frozen
) -> PmfCheck:
    """Recompute a policy decision's pmf from the snapshot it was made with.

    options: for a policy other than the serving one, that chose on its state.
    """
    if decision.mode != "policy":
        return _not_possible(f"the decision's mode is {decision.mode.value}: no policy chose")
    if decision.influences.get(STATE_OF, decision.policy) != policy.name:
        return _not_possible(f"policy '{decision.policy}' made it, '{policy.name}' serves now")
    if record is None and decision.snapshot_version > 0:
        return _not_possible(f"snapshot {decision.snapshot_version} is no longer kept")
    if decision.arms != problem.arms or decision.features.size != len(problem.feature_names):
        return _not_possible("the decision was made with other models or other features")
    try:
        state = _state_at(problem, policy, record)
        chooser = chooser_named(decision.policy, policy, options)
    except (ConfigError, SnapshotError) as error:
        return _not_possible(str(error))
    pmf = recomputed_pmf(
        problem,
        chooser,
        state,
        decision.features.astype(np.float64),
        decision.eligible,
        decision.prediction,
        price_of_dollar=decision.price_of_dollar,
        price_of_second=decision.price_of_second,
        exploration=decision.exploration,
    )
    if decision.trial is not None:
        # What the policy itself would have drawn from, and then the mixture as it was drawn from.
        alone = decision.trial.champion_pmf
        off = np.abs(np.stack([pmf - alone, mixture(decision.trial) - decision.pmf]))
    else:
        off = np.abs(pmf - decision.pmf)
    difference = float(off.max())
    return PmfCheck(
        recomputed=pmf,
        largest_difference=difference,
        equal=difference <= PMF_TOLERANCE,
        reason=None,
    )


def _state_at(problem: Problem, policy: Policy[Any], record: SnapshotRecord | None) -> LearnedState:
    if record is None:
        return init_state(problem, policy)
    return snapshot.from_bytes(problem, policy, record.payload)


def _not_possible(reason: str) -> PmfCheck:
    return PmfCheck(recomputed=None, largest_difference=None, equal=None, reason=reason)
