"""What the router made of the prompts, and what a fixed choice would have made of the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from uuid import UUID

import numpy as np

from bandit_router.types import FloatArray, IntArray
from simulations.baselines import Baseline, fixed, mix_of, uniform
from simulations.matrix import OutcomeMatrix

LONG_RUN = 1000
LONG_WINDOW = 200
WINDOWS_OF_SHORT_RUN = 5


@dataclass(frozen=True, slots=True)
class Answered:
    """How one request ended. row: its prompt. arm: the model that answered, -1 for one that is
    not in the matrix. quality: as judged then, None where it never was."""

    row: int
    decision_id: UUID
    arm: int
    quality: float | None
    cost_usd: float
    propensity: float
    overhead_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: mean quality, mean dollars per request, share of every model (K,)."""

    quality: float
    cost_usd: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Requests first to last, counted from 1, and what each contestant made of them."""

    first: int
    last: int
    router: Line
    yardsticks: Mapping[str, Line]


def shuffled(matrix: OutcomeMatrix, requests: int | None, seed: int) -> IntArray:
    """The prompts to send, in their order: all of them shuffled, cut off after ``requests``."""
    order = np.random.default_rng(seed).permutation(len(matrix.prompts))
    return np.asarray(order[:requests], dtype=np.int64)


def window_size(requests: int) -> int:
    """How many requests a line sums up: 200 in a long run, a fifth of a short one in tens."""
    if requests >= LONG_RUN:
        return LONG_WINDOW
    return max(10, round(requests / WINDOWS_OF_SHORT_RUN / 10) * 10)


@dataclass(frozen=True, slots=True)
class Contest:
    """The prompts that are sent, in a matrix of their own, and who is measured by them.

    cheapest, best: the models with the least mean cost and the highest mean quality on them.
    """

    matrix: OutcomeMatrix
    models: tuple[Baseline, ...]
    cheapest: int
    best: int

    @classmethod
    def on(cls, matrix: OutcomeMatrix) -> Contest:
        models = fixed(matrix)
        return cls(
            matrix=matrix,
            models=models,
            cheapest=min(range(len(models)), key=lambda k: models[k].cost_usd),
            best=max(range(len(models)), key=lambda k: models[k].reward),
        )

    def yardsticks(self, rows: Sequence[int] | None = None) -> dict[str, Line]:
        """Always-cheapest, always-best and random on some rows, by default on all."""
        part = self.matrix if rows is None else self.matrix.rows(np.asarray(rows, dtype=np.int64))
        models, count = fixed(part), len(part.models)
        return {
            "always_cheapest": _line(models[self.cheapest], _one_of(self.cheapest, count)),
            "always_best": _line(models[self.best], _one_of(self.best, count)),
            "random": _line(uniform(part), (1.0 / count,) * count),
        }

    def static_mix(self, spend_usd: float) -> Line:
        """The best random mix of fixed models for that mean spend, known only in hindsight."""
        mix = mix_of(self.models, spend_usd)
        return _line(mix, mix_shares(self.models, mix))

    def router(self, answered: Sequence[Answered]) -> Line:
        """What the router made of these requests; those never judged count for cost alone."""
        judged = [a.quality for a in answered if a.quality is not None]
        arms = np.array([a.arm for a in answered])
        return Line(
            quality=float(np.mean(judged)) if judged else float("nan"),
            cost_usd=float(np.mean([a.cost_usd for a in answered])),
            shares=tuple(float((arms == k).mean()) for k in range(len(self.models))),
        )

    def window(self, first: int, answered: Sequence[Answered]) -> Window:
        """The requests from ``first`` (counted from 1) on, side by side."""
        return Window(
            first=first,
            last=first + len(answered) - 1,
            router=self.router(answered),
            yardsticks=self.yardsticks([a.row for a in answered]),
        )


def mix_shares(models: Sequence[Baseline], mix: Baseline) -> tuple[float, ...]:
    """The shares of the two models (or the one) whose random mix gives this reward and cost."""
    for low, high in product(range(len(models)), repeat=2):
        gap_usd = models[high].cost_usd - models[low].cost_usd
        share = (mix.cost_usd - models[low].cost_usd) / gap_usd if gap_usd > 0.0 else 0.0
        reward = models[low].reward + share * (models[high].reward - models[low].reward)
        cost_usd = models[low].cost_usd + share * max(gap_usd, 0.0)
        if 0.0 <= share <= 1.0 and np.allclose(
            [reward, cost_usd], [mix.reward, mix.cost_usd], rtol=1e-9, atol=0.0
        ):
            shares: FloatArray = np.zeros(len(models))
            shares[low], shares[high] = 1.0 - share, share
            if low == high:
                shares[low] = 1.0
            return tuple(float(value) for value in shares)
    raise ValueError(f"no two of {models} mix to {mix}")


def _line(of: Baseline, shares: tuple[float, ...]) -> Line:
    return Line(of.reward, of.cost_usd, shares)


def _one_of(index: int, count: int) -> tuple[float, ...]:
    return tuple(float(k == index) for k in range(count))
