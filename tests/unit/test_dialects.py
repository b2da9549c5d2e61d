"""What is read of a stream's events, operation by operation."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bandit_router.providers.dialects import DIALECTS, Reading
from bandit_router.providers.sse import ServerSentEvent
from bandit_router.types import Operation

USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


def read(operation: Operation, chunk: dict[str, Any], **body: Any) -> Reading:
    _, reader = DIALECTS[operation].streaming(body)
    return reader.read(ServerSentEvent(orjson.dumps(chunk)), chunk)


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.COMPLETIONS])
def test_usage_that_nobody_asked_for_is_read_and_kept_back(operation: Operation) -> None:
    only_usage = {"choices": [], "usage": USAGE}
    found = read(operation, only_usage).piece
    assert found.data == b""
    assert found.usage is not None
    assert found.usage.output_tokens == 4
    asked = read(operation, only_usage, stream_options={"include_usage": True}).piece
    assert orjson.loads(asked.data) == only_usage


def test_null_usage_leaves_the_chunks_of_those_who_did_not_ask() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": None}
    assert "usage" not in orjson.loads(read(Operation.CHAT, dict(chunk)).piece.data)
    asked = read(Operation.CHAT, dict(chunk), stream_options={"include_usage": True})
    assert orjson.loads(asked.piece.data)["usage"] is None


def test_a_chunk_without_usage_is_handed_on_byte_by_byte() -> None:
    raw = b'{ "choices" :[{"index":0,"delta":{}}], "x": 1.50 }'
    _, reader = DIALECTS[Operation.CHAT].streaming({})
    assert reader.read(ServerSentEvent(raw), orjson.loads(raw)).piece.data == raw


def test_a_response_is_early_until_something_is_written_and_ends_with_its_usage() -> None:
    kinds = ["response.created", "response.in_progress", "response.output_text.delta"]
    assert [read(Operation.RESPONSES, {"type": kind}).early for kind in kinds] == [
        True,
        True,
        False,
    ]
    last = {
        "type": "response.completed",
        "response": {"usage": {"input_tokens": 5, "output_tokens": 6}},
    }
    found = read(Operation.RESPONSES, last)
    assert found.ends
    assert found.finishes
    assert found.piece.event == b"response.completed"
    assert found.piece.usage is not None
    assert (found.piece.usage.input_tokens, found.piece.usage.output_tokens) == (5, 6)


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ({"type": "error", "code": "server_error"}, {"type": "error", "code": "server_error"}),
        ({"type": "response.failed", "response": {"error": {"code": "x"}}}, {"code": "x"}),
    ],
)
def test_a_failed_response_is_a_failure(chunk: dict[str, Any], error: object) -> None:
    assert read(Operation.RESPONSES, chunk).error == error


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (Operation.CHAT, {"choices": []}),
        (Operation.COMPLETIONS, {"choices": ["text"]}),
        (Operation.RESPONSES, {"object": "response"}),
        (Operation.EMBEDDINGS, {"data": None}),
    ],
)
def test_an_answer_without_its_main_part_is_none(
    operation: Operation, body: dict[str, Any]
) -> None:
    assert DIALECTS[operation].lacks(body) is not None


def test_embeddings_write_no_tokens() -> None:
    usage = DIALECTS[Operation.EMBEDDINGS].usage({"usage": {"prompt_tokens": 9}})
    assert (usage.input_tokens, usage.output_tokens) == (9, 0)
