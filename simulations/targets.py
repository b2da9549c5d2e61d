"""Target policies by what a user writes, as probabilities for the rounds of a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.config import RouterConfig
from bandit_router.errors import DataError
from bandit_router.ope import fixed, logging_policy, mix
from bandit_router.policies import POLICIES
from bandit_router.types import FloatArray
from simulations.frozen import SnapshotSource, load_frozen
from simulations.logs.rounds import Log

LOGGED = "logged"


@dataclass(frozen=True, slots=True)
class TargetPmf:
    """A fixed policy on a log: (n, K) probabilities under the name that the user gave it."""

    name: str
    pmf: FloatArray


def parse_target(
    spec: str,
    log: Log,
    *,
    source: SnapshotSource | None = None,
    config: RouterConfig | None = None,
    budget_usd: float | None = None,
    on_row: Callable[[], None] = lambda: None,
) -> TargetPmf:
    """``logged``, ``random``, ``fixed:MODEL``, ``mix:a=0.7,b=0.3``, ``thompson@snapshot-12`` or
    ``thompson@state.npz``.

    budget_usd: λ of a snapshot is solved anew for it. Raises DataError with the remedy.
    """
    rounds = log.rounds
    kind, _, rest = spec.partition(":")
    if spec == LOGGED:
        return TargetPmf(spec, logging_policy()(rounds))
    if spec == "random":
        return TargetPmf(spec, rounds.eligible / rounds.eligible.sum(axis=1, keepdims=True))
    if kind == "fixed" and rest:
        return TargetPmf(spec, fixed(rest)(rounds))
    if kind == "mix" and rest:
        return TargetPmf(spec, mix(_shares(spec, rest, rounds.arms))(rounds))
    if "@" in spec:
        frozen = load_frozen(spec, source, config)
        tokens = log.input_tokens
        features = np.asarray(rounds.features, dtype=np.float64)
        if budget_usd is not None:
            frozen = frozen.at_budget(budget_usd, features, tokens)
        return TargetPmf(spec, frozen.pmf(features, tokens, rounds.eligible, rounds.arms, on_row))
    if spec in POLICIES:
        raise DataError(
            f"'{spec}' learns, and a log has one outcome per decision: name a state of it "
            f"({spec}@snapshot-12 or {spec}@state.npz); from Python, "
            "bandit_router.ope.replay_learning runs it from scratch by rejection"
        )
    raise DataError(
        f"no target '{spec}': write {LOGGED}, random, fixed:MODEL, mix:a=0.7,b=0.3, "
        "thompson@snapshot-12 or thompson@state.npz"
    )


def _shares(spec: str, text: str, arms: Sequence[str]) -> list[float]:
    shares = dict.fromkeys(arms, 0.0)
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name.strip() not in shares:
            raise DataError(
                f"'{spec}': no arm '{name.strip()}' in the log; it has {', '.join(arms)}"
            )
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise DataError(f"'{spec}': '{share}' is no share; write mix:a=0.7,b=0.3") from error
    return list(shares.values())
