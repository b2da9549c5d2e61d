"""What if a price changed, a model went, one came, or budget or latency were tighter?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from bandit_router.errors import DataError
from bandit_router.ope import OUTCOMES, round_values
from bandit_router.types import FloatArray
from simulations.baselines import fixed, mean_of_known, oracle, static_mix
from simulations.logs.rounds import Log
from simulations.matrix import OutcomeMatrix

POINTS = 16


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model that is not there yet. quality: its assumed mean. cost_usd: of a call.

    like: the model whose strengths and weaknesses it is taken to share; by default the one of
    the nearest quality. latency_s: seconds, by default those of that model.
    """

    name: str
    quality: float
    cost_usd: float
    like: str | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different. price_factors: model -> factor on its dollars. removed: models.
    most_latency_s: a slower answer would not have been waited for."""

    price_factors: dict[str, float]
    removed: tuple[str, ...] = ()
    added: tuple[NewModel, ...] = ()
    most_latency_s: float | None = None

    def words(self) -> list[str]:
        """Each change in words."""
        told = [
            f"{name} costs {factor:g} times as much" for name, factor in self.price_factors.items()
        ]
        told += [f"{name} is gone" for name in self.removed]
        told += [
            f"{new.name} joins with quality {new.quality:g} at ${new.cost_usd:g} a call"
            for new in self.added
        ]
        if self.most_latency_s is not None:
            told.append(f"answers slower than {self.most_latency_s:g} s are not waited for")
        return told


def changed(matrix: OutcomeMatrix, changes: Changes) -> OutcomeMatrix:
    """The matrix as it would be. Raises DataError for a model that is not there, or no model."""
    for name in (*changes.price_factors, *changes.removed):
        _index(matrix, name)
    cost = matrix.cost_usd.copy()
    for name, factor in changes.price_factors.items():
        cost[:, _index(matrix, name)] *= factor
    matrix = replace(matrix, cost_usd=cost)
    for new in changes.added:
        matrix = _with_model(matrix, new)
    keep = [k for k, name in enumerate(matrix.models) if name not in changes.removed]
    if not keep:
        raise DataError("every model is removed: nothing is left to answer")
    matrix = replace(
        matrix,
        models=tuple(matrix.models[k] for k in keep),
        **{
            name: getattr(matrix, name)[:, keep]
            for name in ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens")
        },
    )
    if changes.most_latency_s is None:
        return matrix
    return _in_time(matrix, changes.most_latency_s)


def _with_model(matrix: OutcomeMatrix, new: NewModel) -> OutcomeMatrix:
    if new.name in matrix.models:
        raise DataError(f"a model '{new.name}' is there already: give the new one another name")
    if not 0.0 <= new.quality <= 1.0 or not new.cost_usd >= 0.0:
        raise DataError(f"'{new.name}': quality lies in [0, 1] and dollars are not negative")
    means = [model.reward for model in fixed(matrix)]
    near = int(np.nanargmin(np.abs(np.array(means) - new.quality)))
    k = near if new.like is None else _index(matrix, new.like)
    quality = _moved(matrix.quality[:, k], new.quality)
    latency = matrix.latency_s[:, k]
    if new.latency_s is not None:
        latency = np.full(latency.size, new.latency_s)
    columns: dict[str, FloatArray] = {
        "quality": quality,
        "cost_usd": np.full(quality.size, new.cost_usd),
        "latency_s": latency,
        "input_tokens": matrix.input_tokens[:, k],
        "output_tokens": matrix.output_tokens[:, k],
    }
    wider: dict[str, Any] = {
        name: np.concatenate([getattr(matrix, name), column[:, None]], axis=1)
        for name, column in columns.items()
    }
    return replace(matrix, models=(*matrix.models, new.name), **wider)


def _moved(quality: FloatArray, mean: float) -> FloatArray:
    """Qualities of another mean, still within [0, 1] and easy and hard on the same prompts."""
    now = mean_of_known(quality)
    if mean >= now:
        share = (mean - now) / max(1.0 - now, 1e-12)
        return np.asarray(quality + (1.0 - quality) * share)
    return np.asarray(quality * mean / now)


def _in_time(matrix: OutcomeMatrix, most_latency_s: float) -> OutcomeMatrix:
    """Answers that come too late are not known; the fastest stays where all do."""
    latency = np.where(matrix.known, matrix.latency_s, np.inf)
    if np.isnan(latency).all():
        raise DataError("no outcome has a latency: leave --max-latency out")
    late = latency > most_latency_s
    late[np.arange(late.shape[0]), np.nanargmin(latency, axis=1)] = False
    return replace(matrix, quality=np.where(late, np.nan, matrix.quality))


def frontier(matrix: OutcomeMatrix, budgets_usd: FloatArray, learned: bool) -> pl.DataFrame:
    """(line, budget_usd, quality, cost_usd): the static mix and the best choice per request.

    learned: the matrix holds expectations, so that the best choice by them is what a router
    could do; otherwise it is the oracle, who knows each outcome.
    """
    best = "best choice by what is known" if learned else "oracle"
    rows = []
    for budget in budgets_usd:
        for line, found in (
            ("best static mix", static_mix(matrix, float(budget))),
            (best, oracle(matrix, float(budget))),
        ):
            rows.append(
                {
                    "line": line,
                    "budget_usd": float(budget),
                    "quality": found.reward,
                    "cost_usd": found.cost_usd,
                }
            )
    return pl.DataFrame(rows)


def budgets_for(*matrices: OutcomeMatrix) -> FloatArray:
    """Budgets from the cheapest model's mean dollars to the dearest's, evenly in their logs."""
    costs = [model.cost_usd for matrix in matrices for model in fixed(matrix)]
    known = [cost for cost in costs if np.isfinite(cost)]
    if not known:
        raise DataError("no outcome has a cost: there is no frontier to draw")
    dearest = max(known)
    return np.geomspace(max(min(known), dearest * 1e-4), dearest, POINTS)


def matrix_of_log(log: Log) -> OutcomeMatrix:
    """What a log's own models expect of every arm on every logged request, as a matrix.

    Expectations, not outcomes: they say what a router could know, and have no noise.
    """
    rounds = log.rounds
    if not np.isfinite(rounds.reward).any():
        raise DataError("no decision of the log has a reward: nothing is known of quality")
    count = len(rounds)
    unknown = np.full((count, len(rounds.arms)), np.nan)
    predicted = round_values(rounds, {}).predicted
    expected = {
        name: predicted[name] if np.isfinite(rounds.outcome(name)).any() else unknown
        for name in OUTCOMES
    }
    quality = np.where(rounds.eligible, expected["reward"], np.nan)
    return OutcomeMatrix(
        prompt_ids=tuple(str(i) for i in range(count)),
        prompts=("",) * count,
        category=tuple(rounds.segments[k] for k in rounds.segment),
        split=("",) * count,
        models=rounds.arms,
        quality=quality,
        cost_usd=expected["cost_usd"],
        latency_s=expected["latency_s"],
        input_tokens=np.repeat(log.input_tokens[:, None], len(rounds.arms), axis=1),
        output_tokens=unknown,
    )


_NEW = re.compile(r"^(?P<name>[^:]+):(?P<parts>.+)$")


def parse_new_model(text: str) -> NewModel:
    """``gpt-6:quality=0.93,cost=0.002,like=gpt-5,latency=1.5``. Raises DataError."""
    found = _NEW.match(text)
    parts = dict(part.partition("=")[::2] for part in found["parts"].split(",")) if found else {}
    try:
        assert found is not None
        return NewModel(
            name=found["name"].strip(),
            quality=float(parts["quality"]),
            cost_usd=float(parts["cost"]),
            like=parts.get("like"),
            latency_s=float(parts["latency"]) if "latency" in parts else None,
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise DataError(
            f"'{text}': write NAME:quality=0.93,cost=0.002 and, if you like, like=MODEL and "
            "latency=SECONDS"
        ) from error


def parse_prices(texts: Sequence[str]) -> dict[str, float]:
    """``gpt-5=0.5``: half of what it costs now. Raises DataError."""
    factors = {}
    for text in texts:
        name, _, factor = text.rpartition("=")
        try:
            factors[name] = float(factor)
        except ValueError as error:
            raise DataError(
                f"'{text}': write MODEL=FACTOR, gpt-5=0.5 for half its price"
            ) from error
        if not name or not factors[name] >= 0.0:
            raise DataError(f"'{text}': write MODEL=FACTOR with a factor of at least 0")
    return factors


def _index(matrix: OutcomeMatrix, name: str) -> int:
    if name not in matrix.models:
        raise DataError(f"no model '{name}' in the data; they have {', '.join(matrix.models)}")
    return matrix.models.index(name)
