"""Reads the file that replayed models answer from: one JSON object a line, prompt by model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from bandit_router.config import ModelConfig
from bandit_router.errors import ConfigError
from bandit_router.providers.replayed import RecordedOutcome, Recording

REQUIRED = ("prompt_id", "prompt", "model", "quality")


class RecordingFiles:
    """The recordings that ``models.path`` names, each file read once however many share it."""

    def __init__(self) -> None:
        self._read: dict[Path, Recording] = {}

    def of(self, model: ModelConfig) -> Recording:
        """The model's recording. Raises ConfigError, naming file, line and remedy."""
        if model.path is None:
            raise ConfigError(
                f"model '{model.name}' is replayed, but nothing was recorded here: set path to a "
                "JSONL outcome matrix, with the columns that `bandit-router simulate` reads"
            )
        path = model.path.resolve()
        if path not in self._read:
            self._read[path] = read_recording(path)
        recording = self._read[path]
        if not any(model.served_as in row for row in recording.outcomes.values()):
            recorded = sorted({name for row in recording.outcomes.values() for name in row})
            raise ConfigError(
                f"model '{model.name}': {path} has no outcomes of '{model.served_as}'; set "
                f"upstream_model to one of {', '.join(recorded)}"
            )
        return recording


def read_recording(path: Path) -> Recording:
    """Read a JSONL outcome matrix in the long form, one object per prompt and model.

    Needed are prompt_id, prompt, model and quality; cost_usd, input_tokens, output_tokens and
    latency_ms are used where they stand; others are ignored. Prompts that several ids share
    are found by their id alone. Raises ConfigError, naming file, line and remedy.
    """
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise ConfigError(
            f"{path}: replayed models read JSONL, not '{path.suffix}': "
            "write one JSON object per prompt and model"
        )
    outcomes: dict[str, dict[str, RecordedOutcome]] = {}
    ids_of: dict[str, set[str]] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    _add(f"{path}:{number}", line, outcomes, ids_of)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}): set the models' path to a JSONL file"
        ) from error
    if not outcomes:
        raise ConfigError(f"{path}: no rows, so there is nothing to replay")
    prompt_ids = {text: next(iter(ids)) for text, ids in ids_of.items() if len(ids) == 1}
    return Recording(outcomes=outcomes, prompt_ids=prompt_ids)


def _add(
    where: str,
    line: bytes,
    outcomes: dict[str, dict[str, RecordedOutcome]],
    ids_of: dict[str, set[str]],
) -> None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON ({error}): write one object a line") from None
    missing = [key for key in REQUIRED if not isinstance(row, dict) or row.get(key) is None]
    if missing:
        raise ConfigError(
            f"{where}: {', '.join(missing)} missing; needed are {', '.join(REQUIRED)}"
        )
    prompt_id, model = str(row["prompt_id"]), str(row["model"])
    models = outcomes.setdefault(prompt_id, {})
    if model in models:
        raise ConfigError(
            f"{where}: a second row of model '{model}' for prompt '{prompt_id}'; keep one"
        )
    latency_ms = _number(where, row, "latency_ms")
    models[model] = RecordedOutcome(
        quality=_quality(where, row),
        cost_usd=_number(where, row, "cost_usd"),
        input_tokens=_count(where, row, "input_tokens"),
        output_tokens=_count(where, row, "output_tokens"),
        latency_s=None if latency_ms is None else latency_ms / 1000.0,
    )
    ids_of.setdefault(str(row["prompt"]), set()).add(prompt_id)


def _quality(where: str, row: Mapping[str, Any]) -> float:
    quality = _number(where, row, "quality")
    if quality is None or quality > 1.0:
        raise ConfigError(f"{where}: quality {row['quality']!r} lies outside [0, 1]; rescale it")
    return quality


def _count(where: str, row: Mapping[str, Any], key: str) -> int | None:
    value = _number(where, row, key)
    return None if value is None else int(value)


def _number(where: str, row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{where}: {key} {value!r} is not a number from zero up")
    return float(value)
