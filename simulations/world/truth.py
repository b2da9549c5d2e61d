"""What is true in a synthetic world: how good each model is at what, at which price and speed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import expit

from bandit_router.errors import DataError
from bandit_router.types import FloatArray, IntArray
from simulations.matrix import OutcomeMatrix
from simulations.world.contexts import Contexts, draw_contexts

Signal = Literal["thumb", "score"]
# Scatter of a judge's score about the truth: a Beta of this concentration.
SCORE_CONCENTRATION = 12.0


@dataclass(frozen=True, slots=True)
class WorldModel:
    """One model's truth.

    skill: (T,) log-odds of a good answer to a request of middling difficulty, per topic.
    fragility: log-odds lost from the easiest to the hardest request.
    dollars: per million input and output tokens. output_tokens: typical. latency_s: median.
    call_usd: charged per call instead of tokens, where not None.
    """

    name: str
    skill: tuple[float, ...]
    fragility: float = 2.0
    input_usd_per_million: float = 0.5
    output_usd_per_million: float = 1.5
    output_tokens: float = 250.0
    latency_s: float = 1.0
    call_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one model from request ``at`` on.

    skill_shift: added to its log-odds. price_factor, latency_factor: on what it was.
    """

    at: int
    model: str
    skill_shift: float = 0.0
    price_factor: float = 1.0
    latency_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """Known truth. topic_share, hardness: (T,). directions: (T + 2, d).

    changes: drift, in the order of requests. signal: a ``thumb`` is 0 or 1, a ``score`` lies
    between. noise: sd of what is added to each feature.
    """

    topics: tuple[str, ...]
    topic_share: FloatArray
    hardness: FloatArray
    models: tuple[WorldModel, ...]
    directions: FloatArray
    changes: tuple[Change, ...] = ()
    signal: Signal = "score"
    noise: float = 0.3

    @property
    def arms(self) -> tuple[str, ...]:
        """The models' names, in the order of every (…, K) array."""
        return tuple(model.name for model in self.models)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """(d,) names of the columns of ``Contexts.features``."""
        return tuple(f"x{i}" for i in range(self.directions.shape[1]))

    def contexts(self, count: int, rng: np.random.Generator, *, texts: bool = False) -> Contexts:
        """``count`` requests; with ``texts``, prompts too."""
        return draw_contexts(
            count,
            self.topics,
            self.topic_share,
            self.hardness,
            self.directions,
            self.noise,
            rng,
            texts=texts,
        )

    def expected_quality(self, contexts: Contexts, steps: IntArray | None = None) -> FloatArray:
        """(n, K) true mean reward. steps: (n,) place of each request in time, by default its
        place in ``contexts``."""
        odds = np.stack(
            [
                np.array(model.skill)[contexts.topic]
                - model.fragility * (contexts.difficulty - 0.5)
                for model in self.models
            ],
            axis=1,
        )
        for change, k, later in self._changes(contexts, steps):
            odds[later, k] += change.skill_shift
        return np.asarray(expit(odds))

    def matrix(self, contexts: Contexts, rng: np.random.Generator) -> OutcomeMatrix:
        """One realised outcome of every model on every request, in order of time."""
        mean = self.expected_quality(contexts)
        count, arms = mean.shape
        # Harder requests take longer answers, of any model.
        length = np.exp(0.5 * (contexts.difficulty - 0.5))[:, None] * rng.lognormal(
            -0.08, 0.4, mean.shape
        )
        output_tokens = np.maximum(np.round(_each(self.models, "output_tokens") * length), 1.0)
        cost_usd = (
            contexts.input_tokens[:, None] * _each(self.models, "input_usd_per_million")
            + output_tokens * _each(self.models, "output_usd_per_million")
        ) / 1e6
        for k, model in enumerate(self.models):
            if model.call_usd is not None:
                cost_usd[:, k] = model.call_usd
        latency_s = _each(self.models, "latency_s") * length * rng.lognormal(0.0, 0.25, mean.shape)
        for change, k, later in self._changes(contexts, None):
            cost_usd[later, k] *= change.price_factor
            latency_s[later, k] *= change.latency_factor
        # Last, since a Beta takes more or fewer draws by its mean: drift moves nothing else.
        if self.signal == "thumb":
            quality = (rng.random(mean.shape) < mean).astype(np.float64)
        else:
            quality = rng.beta(
                SCORE_CONCENTRATION * mean + 1e-3, SCORE_CONCENTRATION * (1.0 - mean) + 1e-3
            )
        return OutcomeMatrix(
            prompt_ids=tuple(f"r{i:07d}" for i in range(count)),
            prompts=contexts.prompts,
            category=tuple(self.topics[t] for t in contexts.topic),
            split=("",) * count,
            models=self.arms,
            quality=quality,
            cost_usd=cost_usd,
            latency_s=latency_s,
            input_tokens=np.repeat(contexts.input_tokens[:, None], arms, axis=1),
            output_tokens=output_tokens,
        )

    def with_changes(self, *changes: Change) -> World:
        """The same world with drift. Raises DataError for a model that it does not have."""
        for change in changes:
            if change.model not in self.arms:
                raise DataError(
                    f"no model '{change.model}' in this world; it has {', '.join(self.arms)}"
                )
        return replace(self, changes=tuple(sorted(changes, key=lambda change: change.at)))

    def _changes(
        self, contexts: Contexts, steps: IntArray | None
    ) -> list[tuple[Change, int, IntArray]]:
        step = np.arange(contexts.topic.size) if steps is None else steps
        return [
            (change, self.arms.index(change.model), np.flatnonzero(step >= change.at))
            for change in self.changes
        ]


def make_world(
    models: tuple[WorldModel, ...],
    topics: tuple[str, ...],
    *,
    topic_share: FloatArray | None = None,
    hardness: FloatArray | None = None,
    feature_count: int = 16,
    signal: Signal = "score",
    noise: float = 0.3,
    seed: int = 0,
) -> World:
    """A world of these models. By default topics are alike in share and hardness.

    feature_count: at least two more than there are topics. seed: of the map to features.
    Raises DataError where shapes do not fit.
    """
    count = len(topics)
    if feature_count < count + 2:
        raise DataError(
            f"{feature_count} features cannot show {count} topics, difficulty and length; "
            f"give at least {count + 2}"
        )
    for model in models:
        if len(model.skill) != count:
            raise DataError(
                f"model '{model.name}' has {len(model.skill)} skills for {count} topics; give "
                "one for each"
            )
    rng = np.random.default_rng(seed)
    # Orthonormal rows: nothing of a request is lost but what the noise hides.
    directions = np.linalg.qr(rng.standard_normal((feature_count, count + 2)))[0].T
    share = np.full(count, 1.0 / count) if topic_share is None else topic_share / topic_share.sum()
    return World(
        topics=topics,
        topic_share=share,
        hardness=np.full(count, 0.5) if hardness is None else hardness,
        models=models,
        directions=directions * np.sqrt(feature_count / (count + 2)),
        signal=signal,
        noise=noise,
    )


def _each(models: tuple[WorldModel, ...], name: str) -> FloatArray:
    return np.array([getattr(model, name) for model in models], dtype=np.float64)
