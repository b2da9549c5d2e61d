"""Other gateways' logs as logged traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bandit_router.cli import run
from bandit_router.errors import DataError
from simulations.logs.checks import checked
from simulations.logs.litellm import from_litellm
from simulations.logs.otel import from_otel


def spend(number: int, model: str, **changes: Any) -> dict[str, Any]:
    row = {
        "request_id": f"chatcmpl-{number}",
        "call_type": "acompletion",
        "spend": 0.001 * (number + 1),
        "prompt_tokens": 40,
        "completion_tokens": 90,
        "startTime": f"2026-03-01 10:00:{number:02d}.250000",
        "endTime": f"2026-03-01 10:00:{number + 1:02d}.750000",
        "model": model,
        "model_group": "chat",
        "cache_hit": "False",
        "status": "success",
        "session_id": None,
        "metadata": "{}",
    }
    return {**row, **changes}


SPEND = [
    *(spend(i, "gpt-4o" if i % 4 else "haiku") for i in range(8)),
    spend(8, "gpt-4o", cache_hit="True"),
    spend(9, "gpt-4o", status="failure"),
    spend(10, "embed", call_type="aembedding"),
    spend(11, "", request_id="x"),
    spend(1, "gpt-4o"),
    spend(12, "solo", model_group=None),
]


def test_litellm_calls_become_decisions_with_shares_for_propensities() -> None:
    scores = pl.DataFrame({"request_id": ["chatcmpl-0", "chatcmpl-1"], "reward": [0.25, 1.0]})
    made = from_litellm(
        pl.DataFrame(SPEND, infer_schema_length=None).lazy(),
        estimate_propensities=True,
        scores=scores,
    )
    assert made.read == 14
    assert made.left_out == {
        "answered from the cache": 1,
        "failed": 1,
        "of another type of call": 1,
        "with a doubled request_id": 1,
        "without request_id or model": 1,
    }
    sound, dropped = checked(made.log.lazy(), "log")
    log = sound.collect()
    assert dropped.kept == made.log.height == 9
    first = log.row(0, named=True)
    assert (first["arms"], first["pmf"]) == (["gpt-4o", "haiku"], [0.75, 0.25])
    assert (first["chosen"], first["propensity"]) == ("haiku", 0.25)
    assert (first["reward"], first["cost_usd"], first["latency_s"]) == (0.25, 0.001, 1.5)
    assert json.loads(first["metadata"]) == {"model_group": "chat"}
    assert log["reward"].null_count() == 7
    assert "solo" in made.notes[1]


def test_litellm_without_propensities_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="add --estimate-propensities"):
        from_litellm(
            pl.DataFrame(SPEND, infer_schema_length=None).lazy(), estimate_propensities=False
        )
    with pytest.raises(DataError, match="missing: spend"):
        from_litellm(pl.DataFrame(SPEND).drop("spend").lazy(), estimate_propensities=True)


def attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        kind = "stringValue" if isinstance(value[0], str) else "doubleValue"
        return {"key": key, "value": {"arrayValue": {"values": [{kind: v} for v in value]}}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {
        "key": key,
        "value": {"stringValue" if isinstance(value, str) else "doubleValue": value},
    }


def span(number: int, attributes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "traceId": "t",
        "spanId": f"{number:02d}",
        "name": "chat",
        "startTimeUnixNano": str(1_772_366_400_000_000_000 + number * 10**9),
        "endTimeUnixNano": str(1_772_366_400_000_000_000 + number * 10**9 + 500_000_000),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
        **changes,
    }


def export(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", "shop")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "auto",
    "gen_ai.response.model": "small",
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.output_tokens": 7,
}
OWN = {
    "bandit_router.decision_id": "d-1",
    "bandit_router.arms": ["small", "large"],
    "bandit_router.pmf": [0.6, 0.4],
    "bandit_router.propensity": 0.6,
}
SCORED = {
    "name": "gen_ai.evaluation.result",
    "attributes": [attribute("gen_ai.evaluation.score.value", 0.5)],
}


def test_spans_with_our_own_attributes_need_nothing_estimated(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    lines = [
        export(span(1, CALL | OWN, events=[SCORED]), span(2, {"http.route": "/"})),
        export(span(3, CALL | OWN | {"bandit_router.decision_id": "d-2", "error.type": "timeout"})),
        export(span(4, CALL | OWN | {"gen_ai.operation.name": "embeddings"})),
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    made = from_otel(path, estimate_propensities=False)
    assert (made.read, made.notes) == (3, ())
    assert made.left_out == {"failed": 1, "with a doubled id": 1}
    row = checked(made.log.lazy(), "log")[0].collect().row(0, named=True)
    assert (row["decision_id"], row["chosen"], row["propensity"]) == ("d-1", "small", 0.6)
    assert (row["reward"], row["latency_s"], row["output_tokens"]) == (0.5, 0.5, 7.0)
    assert (row["tenant"], row["created_at"].isoformat()) == ("shop", "2026-03-01T12:00:01+00:00")


def test_spans_without_propensities_take_shares_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "spans.json"
    spans = [
        span(i, CALL | {"gen_ai.response.model": "large" if i < 1 else "small"}) for i in range(4)
    ]
    path.write_text(json.dumps(export(*spans)))
    with pytest.raises(DataError, match="These spans do not say"):
        from_otel(path, estimate_propensities=False)
    made = from_otel(path, estimate_propensities=True)
    assert made.log["pmf"][0].to_list() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ('{"spans": []}', "no OTLP export"),
        (json.dumps(export(span(1, {"a": "b"}))), "no span has gen_ai.request.model"),
    ],
)
def test_what_is_no_export_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        from_otel(path, estimate_propensities=True)


def test_the_command_says_what_was_left_out_and_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "spend.csv", tmp_path / "log.parquet"
    pl.DataFrame(SPEND, infer_schema_length=None).write_csv(source)
    command = ["import", "litellm", str(source), "--out", str(out)]
    assert run(command) == 2
    assert "--estimate-propensities" in capsys.readouterr().err
    assert run([*command, "--estimate-propensities"]) == 0
    told = capsys.readouterr().out
    assert "9 of 14 calls written" in told
    assert "left out: 1 answered from the cache" in told
    assert "note: propensities are the models' shares" in told
    assert "no call has a reward" in told
