"""Replayed models find their recording in the file that the configuration names."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ConfigError
from bandit_router.protocols import ModelCall, Usage
from bandit_router.providers.recording_file import RecordingFiles, read_recording
from bandit_router.providers.registry import build_providers
from bandit_router.providers.replayed import RecordedOutcome

ROWS = [
    {"prompt_id": "p1", "prompt": "Hi", "model": "v/a", "quality": 1, "cost_usd": 2e-4},
    {
        "prompt_id": "p1",
        "prompt": "Hi",
        "model": "v/b",
        "quality": 0.25,
        "latency_ms": 500.0,
        "input_tokens": 3,
        "output_tokens": 7.0,
        "split": "val",
    },
]


def written(folder: Path, rows: list[object], name: str = "matrix.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n\n")
    return path


def replayed(path: Path | None, name: str = "a", upstream: str = "v/a") -> ModelConfig:
    return ModelConfig(
        name=name, provider=ProviderKind.REPLAYED, upstream_model=upstream, path=path
    )


def test_every_column_is_read_in_its_unit(tmp_path: Path) -> None:
    recording = read_recording(written(tmp_path, ROWS))
    assert recording.outcomes == {
        "p1": {
            "v/a": RecordedOutcome(1.0, 2e-4),
            "v/b": RecordedOutcome(0.25, None, 3, 7, 0.5),
        }
    }
    assert recording.prompt_ids == {"Hi": "p1"}


def test_a_text_that_two_prompts_share_is_found_by_id_alone(tmp_path: Path) -> None:
    recording = read_recording(written(tmp_path, [*ROWS, {**ROWS[0], "prompt_id": "p2"}]))
    assert set(recording.outcomes) == {"p1", "p2"}
    assert recording.prompt_ids == {}


@pytest.mark.asyncio
async def test_a_configured_path_is_all_that_a_replayed_model_needs(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    models = [replayed(path), replayed(path, "b", "v/b")]
    providers = build_providers(models, environ={}, clock=SystemClock())
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answers = [
        await provider.complete(ModelCall(body, 5.0, 1.0, 1.0, context={}))
        for provider in providers.values()
    ]
    assert [answer.usage for answer in answers] == [Usage(None, None, 2e-4), Usage(3, 7, None)]


def test_models_that_share_a_file_share_its_recording(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    files = RecordingFiles()
    assert files.of(replayed(path)) is files.of(replayed(path, "b", "v/b"))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROWS[0], ROWS[0]], r"matrix.jsonl:2: a second row of model 'v/a' for prompt 'p1'"),
        ([{**ROWS[0], "quality": 1.5}], r":1: quality 1.5 lies outside \[0, 1\]; rescale it"),
        ([{**ROWS[0], "quality": True}], r":1: quality True is not a number"),
        ([{**ROWS[0], "cost_usd": -1}], r":1: cost_usd -1 is not a number from zero up"),
        ([{"prompt_id": "p", "model": "a", "quality": 1}], r":1: prompt missing; needed are"),
        ([[]], r":1: prompt_id, prompt, model, quality missing"),
        ([], r"no rows, so there is nothing to replay"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, rows: list[object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_recording(written(tmp_path, rows))


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    path.write_bytes(path.read_bytes() + b"{oops\n")
    with pytest.raises(ConfigError, match=r"matrix.jsonl:4: not JSON"):
        read_recording(path)


def test_a_file_that_is_not_there_or_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.jsonl cannot be read \(No such file"):
        read_recording(tmp_path / "gone.jsonl")
    with pytest.raises(ConfigError, match=r"replayed models read JSONL, not '.parquet'"):
        read_recording(tmp_path / "x.parquet")


def test_a_model_without_path_or_without_rows_is_told_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set path to a JSONL outcome matrix"):
        RecordingFiles().of(replayed(None))
    with pytest.raises(ConfigError, match="no outcomes of 'v/c'; set upstream_model to one of v/a"):
        RecordingFiles().of(replayed(written(tmp_path, ROWS), "c", "v/c"))
