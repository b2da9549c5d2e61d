"""Evaluation sets as gates: is a policy good enough on the inputs that must not get worse?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.errors import DataError
from bandit_router.policies import POLICIES
from bandit_router.types import FloatArray
from simulations.frozen import FrozenPolicy
from simulations.matrix import OutcomeMatrix
from simulations.means import Mean, mean_of


@dataclass(frozen=True, slots=True)
class GateResult:
    """One policy on one evaluation set. failures: what is not met, one sentence each."""

    policy: str
    prompts: int
    quality: Mean
    cost_usd: float | None
    shares: Mapping[str, float]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the policy may pass."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """For the build's artefacts."""
        return {
            "policy": self.policy,
            "passed": self.passed,
            "prompts": self.prompts,
            "quality": {"mean": self.quality.value, "ci95": [self.quality.low, self.quality.high]},
            "cost_usd": self.cost_usd,
            "shares": dict(self.shares),
            "failures": list(self.failures),
        }


def gate(
    matrix: OutcomeMatrix,
    policy: str | FrozenPolicy,
    *,
    features: FloatArray | None = None,
    least_quality: float | None = None,
    most_cost_usd: float | None = None,
    against: str | None = None,
    most_loss: float = 0.0,
    confident: bool = False,
    on_row: Callable[[], None] = lambda: None,
) -> GateResult:
    """A policy's expected quality over an evaluation set, held to what is asked.

    least_quality: of the mean. most_cost_usd: of the mean dollars. against: another policy
    (``fixed:MODEL``) that may be better by at most ``most_loss``, prompt by prompt. confident:
    hold the bound of the 95 % interval to it instead of the mean. features: (N, d), for a
    frozen policy. Raises DataError with the remedy.
    """
    if least_quality is None and most_cost_usd is None and against is None:
        raise DataError("nothing is asked: give --min-quality, --max-cost or --against")
    pmf = policy_pmf(matrix, policy, features, on_row)
    known = np.where(matrix.known, matrix.quality, 0.0)
    earned = (pmf * known).sum(axis=1)
    quality = mean_of(earned)
    cost = float((pmf * np.nan_to_num(matrix.cost_usd)).sum(axis=1).mean())
    costs_known = bool(np.isfinite(matrix.cost_usd[pmf > 0.0]).all())
    if most_cost_usd is not None and not costs_known:
        raise DataError("the evaluation set has outcomes without cost_usd: leave --max-cost out")
    failures = []
    held = quality.low if confident else quality.value
    word = "the lower bound of its quality" if confident else "its quality"
    if least_quality is not None and held < least_quality:
        failures.append(f"{word}, {held:.4f}, is below {least_quality:g}")
    if most_cost_usd is not None and cost > most_cost_usd:
        failures.append(f"its cost, ${cost:.3g} a request, is above ${most_cost_usd:g}")
    if against is not None:
        other = (policy_pmf(matrix, against, None) * known).sum(axis=1)
        gain = mean_of(earned - other)
        lost = -(gain.low if confident else gain.value)
        if lost > most_loss:
            failures.append(
                f"it loses {lost:.4f} against {against}, and at most {most_loss:g} is allowed"
            )
    return GateResult(
        policy=policy if isinstance(policy, str) else policy.name,
        prompts=len(matrix.prompts),
        quality=quality,
        cost_usd=cost if costs_known else None,
        shares=dict(zip(matrix.models, pmf.mean(axis=0).tolist(), strict=True)),
        failures=tuple(failures),
    )


def policy_pmf(
    matrix: OutcomeMatrix,
    policy: str | FrozenPolicy,
    features: FloatArray | None,
    on_row: Callable[[], None] = lambda: None,
) -> FloatArray:
    """(N, K) probabilities of a policy that learns no more. Raises DataError."""
    known = matrix.known
    if not known.any(axis=1).all():
        raise DataError(
            f"{int((~known.any(axis=1)).sum())} prompts have no outcome of any model: drop them"
        )
    if isinstance(policy, FrozenPolicy):
        if features is None:
            raise DataError(f"{policy.name} looks at features: none were extracted")
        tokens = np.nan_to_num(np.where(known, matrix.input_tokens, np.nan)).max(axis=1)
        return policy.pmf(features, tokens, known, matrix.models, on_row)
    kind, _, model = policy.partition(":")
    if policy == "random":
        return np.asarray(known / known.sum(axis=1, keepdims=True))
    if kind != "fixed" or not model:
        hint = " (a learning policy needs a state: NAME@snapshot-12)" if kind in POLICIES else ""
        raise DataError(
            f"no policy '{policy}' to gate{hint}: write fixed:MODEL, random, thompson@snapshot-12 "
            "or thompson@state.npz"
        )
    return _fixed(matrix, model, policy)


def _fixed(matrix: OutcomeMatrix, model: str, policy: str) -> FloatArray:
    if model not in matrix.models:
        raise DataError(
            f"'{policy}': no model '{model}' in the data; they have {', '.join(matrix.models)}"
        )
    k = matrix.models.index(model)
    missing = ~matrix.known[:, k]
    if missing.any():
        first = matrix.prompt_ids[int(missing.argmax())]
        raise DataError(
            f"'{policy}': {int(missing.sum())} prompts have no outcome of it, {first} first"
        )
    pmf = np.zeros(matrix.quality.shape)
    pmf[:, k] = 1.0
    return pmf


def shown_shares(shares: Mapping[str, float], names: Sequence[str]) -> str:
    """Shares in one line."""
    return ", ".join(f"{name} {shares[name]:.1%}" for name in names)
