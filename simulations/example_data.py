"""The prompts that ship in the package ``paretobandit``, as an outcome matrix, and as a recording.

3,609 prompts of public benchmarks; for each, three models' answers as judged then (quality in
[0, 1]) and what they cost. Apache-2.0; described in arXiv 2604.00136.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from bandit_router.errors import DataError
from simulations.matrix import OutcomeMatrix, matrix_from_frame

PACKAGE = "pareto_bandit"
FILES: Mapping[str, str] = {"val": "val.jsonl", "test": "test_holdout.jsonl"}
NUMBERS = ("quality", "cost_usd", "input_tokens", "output_tokens")


def examples_folder() -> Path:
    """Where the installed package keeps them. The package itself, slow to load, is not imported.

    Raises DataError when it is not installed.
    """
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        folder = Path(place) / "data" / "examples"
        if all((folder / name).is_file() for name in FILES.values()):
            return folder
    raise DataError(
        "the recorded prompts are not installed: pip install 'bandit-router[demo]', or, without "
        "that package's own dependencies, pip install --no-deps paretobandit==0.1.1"
    )


def read_examples(folder: Path | None = None) -> OutcomeMatrix:
    """All prompts, val before test, in the files' order; category is the benchmark's name.

    folder: with the two files, by default the installed package's. Raises DataError, naming
    file and line.
    """
    place = examples_folder() if folder is None else folder
    rows: list[dict[str, Any]] = []
    for split, name in FILES.items():
        path = place / name
        try:
            # As bytes: text would be split at the line separators inside prompts as well.
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            rows += _rows(f"{path}:{number}", line, split, f"{split}-{number:04d}")
    return matrix_from_frame(pl.DataFrame(rows), None, source=str(place))


def _rows(where: str, line: bytes, split: str, prompt_id: str) -> list[dict[str, Any]]:
    try:
        example = json.loads(line)
        return [
            {
                "prompt_id": prompt_id,
                "prompt": str(example["prompt"]),
                "model": str(model),
                "quality": float(outcome["reward"]),
                "cost_usd": float(outcome["cost"]),
                "category": str(example["source"]),
                "split": split,
            }
            for model, outcome in example["arms"].items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{where}: not an example of paretobandit 0.1.1 ({error!r}); install that version"
        ) from error


def write_recording(matrix: OutcomeMatrix, path: Path) -> None:
    """Write a matrix as the JSONL file that ``replayed`` models answer from.

    Outcomes that are not known are left out, and so are figures that are not.
    """
    columns = {name: getattr(matrix, name) for name in NUMBERS}
    with path.open("w", encoding="utf-8") as out:
        for i, prompt_id in enumerate(matrix.prompt_ids):
            for k, model in enumerate(matrix.models):
                if not matrix.known[i, k]:
                    continue
                row: dict[str, Any] = {
                    "prompt_id": prompt_id,
                    "prompt": matrix.prompts[i],
                    "model": model,
                }
                row |= {
                    name: float(values[i, k])
                    for name, values in columns.items()
                    if math.isfinite(values[i, k])
                }
                if math.isfinite(matrix.latency_s[i, k]):
                    row["latency_ms"] = 1000.0 * float(matrix.latency_s[i, k])
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
