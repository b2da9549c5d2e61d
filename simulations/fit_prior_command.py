"""``bandit-router fit-prior``: from a file of outcomes to a prior's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from bandit_router.config import FeaturesConfig
from bandit_router.config_file import load_config
from bandit_router.features import build_extractor
from bandit_router.prior_file import write_prior
from simulations.fit_prior import EFFECTIVE_ROWS, fit_prior, sentences
from simulations.logs.files import Kind, expect
from simulations.matrix import read_matrix
from simulations.progress import stages
from simulations.simulate import extract_features


def fit_prior_command(
    data: Path,
    out: Path,
    *,
    split: str | None,
    calibration_split: str | None,
    effective_rows: float | None,
    models: Sequence[str],
    feature_set: str,
    metadata: Sequence[str],
    config_path: Path | None,
) -> None:
    """Fit, write and tell. Raises RouterError with the remedy."""
    expect(data, Kind.MATRIX)
    matrix = read_matrix(data, models or None)
    if config_path is not None:
        wanted = load_config(config_path).features
    else:
        wanted = FeaturesConfig.model_validate({"text": feature_set, "metadata": tuple(metadata)})
    extractor = build_extractor(wanted)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        features = extract_features(matrix, extractor, wanted.metadata, on_step)
        on_stage("asking held-out prompts", len(EFFECTIVE_ROWS))
        fitted = fit_prior(
            matrix,
            features,
            extractor,
            split=split,
            calibration_split=calibration_split,
            effective_rows=effective_rows,
            on_step=on_step,
        )
    write_prior(fitted.prior, out)
    for sentence in sentences(fitted):
        typer.echo(sentence)
    typer.echo(f"written to {out}")
