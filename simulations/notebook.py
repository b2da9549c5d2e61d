"""For notebooks: simulate and evaluate, with dataframes and plots for results.

The functions take what the commands of the same name take, and compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from bandit_router.config_file import load_config
from bandit_router.errors import DataError
from bandit_router.ope import Limits
from bandit_router.prior_file import read_prior
from simulations.evaluate_command import (
    evaluate_specs,
    load,
    loaded_frame,
    singles,
    snapshot_source,
)
from simulations.evaluate_report import evaluation_content
from simulations.evaluation import evaluate_rounds
from simulations.matrix import OutcomeMatrix, matrix_from_frame, read_matrix
from simulations.report import ReportContent, write_images, write_page
from simulations.report.charts import all_charts, styled
from simulations.report.images import WIDTH, with_width
from simulations.simulate import Summary, make_study, run_study
from simulations.simulate_report import simulation_content
from simulations.targets import TargetPmf, parse_target

# A path, or anything that polars makes a frame of: its own, pandas', Arrow's, a dict of columns.
Data = Any
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Found:
    """What was found, as tables and plots. A notebook shows it as its main table.

    frame: the main table. tables: by name, those of ``segments``, ``hard``, ``over_time`` and
    ``shares`` that there are; their columns are those of ``ReportContent``. findings: what should
    not be missed, in words. ``frame.to_pandas()`` gives a pandas frame where pandas is installed.
    """

    frame: pl.DataFrame
    content: ReportContent

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """The other tables, by name."""
        names = ("segments", "hard", "over_time", "shares")
        found = {name: getattr(self.content, name) for name in names}
        return {name: table for name, table in found.items() if table.height}

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences, the most important first."""
        return tuple(finding.text for finding in self.content.findings)

    @cached_property
    def charts(self) -> Mapping[str, Any]:
        """Altair charts by name: ``frontier``, and one for each of ``tables``."""
        return {
            name: _of_spec(styled(chart, width=WIDTH))
            for name, chart in all_charts(self.content).items()
        }

    def chart(self, name: str = "frontier") -> Any:
        """One of ``charts``. Raises DataError with what there is."""
        if name not in self.charts:
            raise DataError(f"no chart '{name}'; there are {', '.join(self.charts)}")
        return self.charts[name]

    def save_page(self, path: str | Path) -> None:
        """Write all of it as one HTML page that needs no network."""
        write_page(self.content, Path(path))

    def save_images(self, folder: str | Path) -> None:
        """Write every chart as PNG and SVG."""
        write_images(self.content, Path(folder))

    def _repr_html_(self) -> str:
        return str(self.frame._repr_html_())


def simulate(
    data: Data,
    *,
    policy: str = "thompson",
    budget_usd: float | None = None,
    seeds: int = 4,
    models: Sequence[str] | None = None,
    warmup_split: str | None = None,
    score_split: str | None = None,
    feature_set: str = "hashed",
    metadata: Sequence[str] = (),
    prior: str | Path | None = None,
    jobs: int = 1,
) -> Found:
    """Replay an outcome matrix under a policy; see ``bandit-router simulate``.

    data: a path or a frame in the long form (docs/simulation.md). budget_usd: dollars a request.
    jobs: processes. frame: a row for the policy and for each yardstick, with mean reward, its
    95 % interval over seeds, and dollars a request. Raises DataError with the remedy.
    """
    study = make_study(
        _matrix(data, models),
        policy=policy,
        budget_usd=budget_usd,
        warmup_split=warmup_split,
        score_split=score_split,
        text=feature_set,
        metadata=tuple(metadata),
        prior=read_prior(Path(prior)) if prior else None,
    )
    summary = run_study(study, range(seeds), jobs)
    return Found(frame=_summary_frame(summary), content=simulation_content(study, summary))


def evaluate(
    log: Data,
    targets: Sequence[str] | Mapping[str, Any],
    *,
    budget_usd: float | None = None,
    segment: str | None = None,
    with_features: bool = True,
    limits: Limits | None = None,
    config: str | Path | None = None,
    url: str | None = None,
) -> Found:
    """What other policies would have earned and cost, by a log; see ``bandit-router evaluate``.

    log: a path, a Postgres URL or a frame in the schema of docs/log-schema.md. targets: written
    as for the command (``fixed:MODEL``, ``thompson@snapshot-12``), or a name and (n, K)
    probabilities each, rows and columns in the log's order of time and of arms. frame: a row per
    target and outcome, with value and interval, gain against what was logged, or the reason of a
    refusal. Raises DataError with the remedy.
    """
    from_database = isinstance(log, str) and "://" in log
    if isinstance(log, str | Path):
        place = str(log)
        loaded, dropped = _beside_any_loop(lambda: load(place, segment, with_features))
    else:
        loaded, dropped = loaded_frame(_frame(log), segment, with_features)
    if isinstance(targets, Mapping):
        made = [TargetPmf(name, pmf) for name, pmf in targets.items()]
        made += [parse_target(spec, loaded) for spec in singles(loaded) if spec not in targets]
        found = evaluate_rounds(loaded, made, limits=limits, dropped=dropped, segment=segment)
    else:
        specs, settings = tuple(targets), load_config(Path(config)) if config else None
        source = snapshot_source(str(log) if from_database else url)
        found = _beside_any_loop(
            lambda: evaluate_specs(
                loaded,
                specs,
                dropped=dropped,
                segment=segment,
                source=source,
                config=settings,
                budget_usd=budget_usd,
                limits=limits,
            )
        )
    return Found(frame=found.frame, content=evaluation_content(found, tuple(targets)))


def _matrix(data: Data, models: Sequence[str] | None) -> OutcomeMatrix:
    if isinstance(data, str | Path):
        return read_matrix(Path(data), models)
    return matrix_from_frame(_frame(data), models, source="the frame")


def _frame(data: Data) -> pl.DataFrame:
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    try:
        return data if isinstance(data, pl.DataFrame) else pl.DataFrame(data)
    except (TypeError, ValueError, ImportError) as error:
        raise DataError(
            f"{type(data).__name__} is neither a path nor a table: give a file's path, or a "
            f"polars, pandas or Arrow table ({error})"
        ) from error


def _summary_frame(summary: Summary) -> pl.DataFrame:
    low, high = summary.reward_ci95 or (None, None)
    budget = summary.budget_usd
    rows = [(summary.policy, "policy", summary.reward, low, high, summary.cost_usd)] + [
        (name, "yardstick", baseline.reward, None, None, baseline.cost_usd)
        for name, baseline in summary.baselines.items()
    ]
    names = ("reward", "reward_low", "reward_high", "cost_usd")
    schema = {"policy": pl.String, "role": pl.String} | dict.fromkeys(names, pl.Float64)
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    used = pl.col("cost_usd") / budget if budget else pl.lit(None, dtype=pl.Float64)
    return frame.with_columns(
        pl.when(pl.col("cost_usd").is_finite()).then("cost_usd").alias("cost_usd")
    ).with_columns(used.alias("budget_used"))


def _of_spec(chart: Any) -> Any:
    """The chart with a width in pixels throughout: a notebook's cell has none to take over."""
    # Checked against the schema when it is drawn; once is enough.
    spec = with_width(chart.to_dict(validate=False), WIDTH)
    return type(chart).from_dict(spec, validate=False)


def _beside_any_loop(work: Callable[[], Answer]) -> Answer:
    """Do it in a thread: a notebook runs an event loop, beside which none can be started."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()
