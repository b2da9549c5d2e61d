"""A policy frozen at a snapshot: what it would choose for logged or recorded requests."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router import effort, pacing, snapshot
from bandit_router.basis import coordinates_of_rows
from bandit_router.config import ExplorationConfig, RouterConfig
from bandit_router.effort import Prices
from bandit_router.errors import DataError, SnapshotError
from bandit_router.features import build_extractor
from bandit_router.learning import LearnedState, Problem
from bandit_router.policies import Policy, PolicyOptions, build_policy
from bandit_router.protocols import FeatureBlock
from bandit_router.router import problem_of
from bandit_router.selection import select
from bandit_router.types import BoolArray, FloatArray

# (policy name, version) -> the snapshot's bytes.
SnapshotSource = Callable[[str, int], bytes]
# λ is solved anew on at most so many requests, evenly spread.
MOST_CONTEXTS = 2000


@dataclass(frozen=True, slots=True)
class FrozenPolicy:
    """A learned state that learns no more. name: as the user wrote it."""

    name: str
    problem: Problem
    policy: Policy[Any]
    state: LearnedState
    exploration: ExplorationConfig

    def pmf(
        self,
        features: FloatArray,
        input_tokens: FloatArray,
        eligible: BoolArray,
        arms: Sequence[str],
        on_row: Callable[[], None] = lambda: None,
    ) -> FloatArray:
        """(n, K) probabilities over ``arms``, exploration floors included, as it would serve.

        features: (n, d). input_tokens: (n,). eligible: (n, K). Raises DataError where the
        features are not those that the snapshot was made of, or no eligible arm is known to it.
        """
        if features.shape[1] != len(self.problem.feature_names):
            raise DataError(
                f"{self.name} was learned on {len(self.problem.feature_names)} features and the "
                f"data have {features.shape[1]}: they were made by another extractor"
            )
        own = [arms.index(name) if name in arms else -1 for name in self.problem.arms]
        known = (np.array(own) >= 0) & self.problem.routable
        can = np.zeros((features.shape[0], len(own)), dtype=np.bool_)
        places = np.array(own)[known]
        can[:, known] = eligible[:, places]
        lost = ~can.any(axis=1)
        if lost.any():
            raise DataError(
                f"{self.name} knows {', '.join(self.problem.arms)}, and {int(lost.sum())} requests "
                f"could only be answered by others; the first is row {int(lost.argmax())}"
            )
        pmf = np.zeros((features.shape[0], len(arms)))
        rows = np.asarray(features, dtype=np.float64)
        for i in range(rows.shape[0]):
            selection = select(
                self.problem,
                self.policy,
                self.state,
                rows[i],
                float(input_tokens[i]),
                can[i],
                self.exploration,
                None,
            )
            pmf[i, places] = selection.pmf[known]
            on_row()
        return pmf

    def at_budget(
        self, budget_usd: float, features: FloatArray, input_tokens: FloatArray
    ) -> FrozenPolicy:
        """The same beliefs with λ solved anew, so that these requests cost that much on average."""
        step = max(features.shape[0] // MOST_CONTEXTS, 1)
        z = coordinates_of_rows(self.state.basis, np.asarray(features[::step], dtype=np.float64))
        tokens = input_tokens[::step, None]
        mean, sd = self.policy.spread(self.state.policy, z)
        latency_s, cost = effort.foreseen(self.state.effort, self.problem.prices, z, tokens)
        drawn = mean + sd * pacing.standard_normals(*mean.shape)
        pacer = pacing.solved(
            replace(self.state.pacer, account_usd=0.0),
            drawn - self.problem.value_of_second * latency_s,
            cost,
            budget_usd,
        )
        return replace(
            self,
            problem=replace(self.problem, budget_usd=budget_usd),
            state=replace(self.state, pacer=pacer),
        )


def frozen_policy(
    name: str, policy_name: str, payload: bytes, config: RouterConfig | None
) -> FrozenPolicy:
    """The policy of a snapshot's bytes.

    config: its list prices, exploration and budget are used; without it nothing is known of
    prices. Raises SnapshotError, or DataError where prices are needed and missing.
    """
    policy = build_policy(policy_name, PolicyOptions())
    if config is not None:
        problem = problem_of(config, build_extractor(config.features))
        exploration = config.exploration
    else:
        problem, exploration = _problem_of(name, payload), ExplorationConfig()
    return FrozenPolicy(
        name=name,
        problem=problem,
        policy=policy,
        state=snapshot.from_bytes(problem, policy, payload),
        exploration=exploration,
    )


def _problem_of(name: str, payload: bytes) -> Problem:
    """What a snapshot says of itself; list prices are not among it."""
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            meta = json.loads(archive["meta"].tobytes())
        arms, features = tuple(meta["arms"]), tuple(meta["features"])
        extractor, metered = str(meta["extractor"]), any(meta["metered"])
    except snapshot.DAMAGE as error:
        raise SnapshotError(f"{name}: the snapshot cannot be read: {error}") from error
    if metered:
        raise DataError(
            f"{name}: the snapshot counts tokens, so that list prices are needed: give the "
            "configuration it was learned with by --config router.toml"
        )
    zeros = np.zeros(len(arms))
    return Problem(
        arms=arms,
        feature_names=features,
        feature_blocks=(FeatureBlock("all", 0, len(features)),),
        prices=Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
        routable=np.ones(len(arms), dtype=np.bool_),
        extractor_version=extractor,
    )


def load_frozen(
    spec: str, source: SnapshotSource | None, config: RouterConfig | None
) -> FrozenPolicy:
    """``thompson@snapshot-12`` from a database, ``thompson@state.npz`` from a file.

    Raises DataError for what is neither, or a database that is not there.
    """
    policy_name, _, place = spec.partition("@")
    if place.endswith(".npz"):
        try:
            payload = Path(place).read_bytes()
        except OSError as error:
            raise DataError(f"{spec}: {place} cannot be read: {error.strerror}") from error
        return frozen_policy(spec, policy_name, payload, config)
    kind, _, version = place.rpartition("-")
    if kind != "snapshot" or not version.isdigit():
        raise DataError(
            f"'{spec}': after @ comes snapshot-12 (a version in the database) or a file .npz"
        )
    if source is None:
        raise DataError(
            f"'{spec}' lies in the router's database: name it by --url or --config; "
            "`bandit-router snapshots list` tells which there are"
        )
    return frozen_policy(spec, policy_name, source(policy_name, int(version)), config)
