"""Sweeps over policies × budgets × seeds: resumable, on all cores or on a Dask cluster."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtrit

from bandit_router.errors import DataError
from simulations.baselines import static_mix
from simulations.simulate import Study, named_policy, run_seed
from simulations.workers import finished

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One replay of a sweep. budget_usd: None for no budget."""

    policy: str
    budget_usd: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one replay earned. took_s: on the process that ran it."""

    policy: str
    budget_usd: float | None
    seed: int
    reward: float
    cost_usd: float | None
    shares: dict[str, float]
    took_s: float

    @property
    def cell(self) -> Cell:
        """Which replay this is."""
        return Cell(self.policy, self.budget_usd, self.seed)


def cells_of(
    policies: Sequence[str], budgets_usd: Sequence[float | None], seeds: int
) -> tuple[Cell, ...]:
    """The whole grid; seeds vary slowest, so that a sweep cut short has every policy."""
    return tuple(
        Cell(policy, budget, seed)
        for seed in range(seeds)
        for budget in budgets_usd
        for policy in policies
    )


def run_cell(study: Study, cell: Cell) -> CellResult:
    """One replay of the shared study under the cell's policy, budget and seed."""
    began = time.perf_counter()
    found = run_seed(
        replace(
            study,
            policy_name=cell.policy,
            problem=replace(study.problem, budget_usd=cell.budget_usd),
        ),
        cell.seed,
    )
    shares = zip(study.problem.arms, found.shares.tolist(), strict=True)
    return CellResult(
        **asdict(cell),
        reward=found.reward,
        cost_usd=found.cost_usd if np.isfinite(found.cost_usd) else None,
        shares=dict(shares),
        took_s=time.perf_counter() - began,
    )


def run_sweep(
    study: Study,
    cells: Iterable[Cell],
    out: Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    on_cell: Callable[[], None] = lambda: None,
) -> list[CellResult]:
    """Run the cells that ``out`` does not have yet, and append each as it is done.

    out: JSON lines; what a killed sweep left is taken up, a last line cut short included.
    jobs: processes. cluster: the address of a Dask scheduler, used instead. Gives all results,
    old and new. Raises DataError where ``out`` belongs to another sweep.
    """
    wanted = tuple(cells)
    for policy in dict.fromkeys(cell.policy for cell in wanted):
        named_policy(policy, study.problem.arms)
    mark = fingerprint(study)
    done = {result.cell: result for result in _resumed(out, mark)}
    left = [cell for cell in wanted if cell not in done]
    for _ in range(len(wanted) - len(left)):
        on_cell()
    with out.open("a", encoding="utf-8") as lines:
        for _, result in finished(run_cell, study, left, jobs=jobs, cluster=cluster):
            lines.write(json.dumps(asdict(result)) + "\n")
            lines.flush()
            done[result.cell] = result
            on_cell()
    return [done[cell] for cell in wanted]


def fingerprint(study: Study) -> str:
    """What the results of a sweep depend on besides the cell, in short."""
    digest = hashlib.sha256()
    for array in (study.matrix.quality, study.matrix.cost_usd, study.features):
        digest.update(np.ascontiguousarray(array).tobytes())
    for rows in (study.warmup, study.score):
        digest.update(rows.tobytes())
    digest.update(repr((study.problem.arms, study.exploration)).encode())
    return digest.hexdigest()[:16]


def _resumed(out: Path, mark: str) -> list[CellResult]:
    """The results in the file, which is begun where there is none."""
    if not out.exists() or out.stat().st_size == 0:
        out.write_text(json.dumps({"sweep": FORMAT, "fingerprint": mark}) + "\n")
        return []
    lines = out.read_text(encoding="utf-8").split("\n")
    try:
        head = json.loads(lines[0])
        fits = (head["sweep"], head["fingerprint"]) == (FORMAT, mark)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out} is no result of a sweep: name another --out") from error
    if not fits:
        raise DataError(
            f"{out} has the results of a sweep over other data, splits or features: name another "
            "--out, or remove it"
        )
    if lines[-1]:
        # Cut short by a kill: the line is run again, and must not be glued to the next one.
        out.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    return [CellResult(**json.loads(line)) for line in lines[1:-1] if line]


def sweep_frame(study: Study, results: Sequence[CellResult]) -> pl.DataFrame:
    """One row per policy and budget: mean reward with Student's t interval over seeds, spend,
    and the best static mix at the same spend."""
    scored = study.matrix.rows(study.score)
    table = pl.DataFrame(
        [{key: value for key, value in asdict(r).items() if key != "shares"} for r in results],
        infer_schema_length=None,
        schema_overrides={"budget_usd": pl.Float64, "cost_usd": pl.Float64},
    )
    rows: list[dict[str, Any]] = []
    for (policy, budget), group in table.group_by(["policy", "budget_usd"], maintain_order=True):
        rewards = group["reward"].to_numpy()
        half = float("nan")
        if rewards.size > 1:
            error = float(rewards.std(ddof=1)) / rewards.size**0.5
            half = float(stdtrit(rewards.size - 1, 0.975)) * error
        mean, cost = float(rewards.mean()), group["cost_usd"].mean()
        spent = float(cost) if isinstance(cost, float) else None
        rows.append(
            {
                "policy": policy,
                "budget_usd": budget,
                "seeds": rewards.size,
                "reward": mean,
                "reward_low": mean - half,
                "reward_high": mean + half,
                "cost_usd": spent,
                "budget_used": spent / budget if spent is not None and budget else None,
                "static_mix": static_mix(scored, spent).reward,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
