"""``bandit-router gate``: load the evaluation set and the policy, judge, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bandit_router.config import FeaturesConfig
from bandit_router.config_file import load_config
from bandit_router.features import build_extractor
from bandit_router.types import FloatArray
from simulations.evaluate_command import snapshot_source
from simulations.frozen import FrozenPolicy, load_frozen
from simulations.gate import gate, shown_shares
from simulations.json_file import write_json
from simulations.logs.files import Kind, expect
from simulations.matrix import read_matrix
from simulations.progress import stages
from simulations.report.page import dollars
from simulations.simulate import extract_features


def gate_command(
    eval_set: Path,
    policy: str,
    *,
    min_quality: float | None,
    max_cost_usd: float | None,
    against: str | None,
    max_loss: float,
    confident: bool,
    feature_set: str,
    metadata: Sequence[str],
    json_path: Path | None,
    config_path: Path | None,
    url: str | None,
) -> bool:
    """Judge and print; whether the policy passed. Raises RouterError with the remedy."""
    expect(eval_set, Kind.MATRIX)
    matrix = read_matrix(eval_set)
    config = load_config(config_path) if config_path else None
    judged: str | FrozenPolicy = policy
    features: FloatArray | None = None
    with stages() as (on_stage, on_step):
        if "@" in policy:
            source = snapshot_source(url or (config.store.url if config else None))
            judged = load_frozen(policy, source, config)
            on_stage("reading prompts", len(matrix.prompts))
            wanted = (
                config.features
                if config
                else FeaturesConfig.model_validate({"text": feature_set, "metadata": metadata})
            )
            features = extract_features(
                matrix, build_extractor(wanted), tuple(wanted.metadata), on_step
            )
            on_stage("choosing", len(matrix.prompts))
        result = gate(
            matrix,
            judged,
            features=features,
            least_quality=min_quality,
            most_cost_usd=max_cost_usd,
            against=against,
            most_loss=max_loss,
            confident=confident,
            on_row=on_step,
        )
    write_json(json_path, result.as_json())
    console = Console()
    verdict = "[green]passed[/green]" if result.passed else "[red]failed[/red]"
    console.print(
        f"{verdict}: {result.policy} on {result.prompts:,} prompts: quality "
        f"{result.quality.value:.4f} ({result.quality.low:.4f} to {result.quality.high:.4f}), "
        f"{dollars(result.cost_usd)} a request"
    )
    console.print(f"shares: {shown_shares(result.shares, matrix.models)}")
    for failure in result.failures:
        console.print(failure)
    return result.passed
