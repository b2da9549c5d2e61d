"""Laws of the doors' bodies: whatever bytes come, a checked request or an error of ours."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bandit_router.config import FeaturesConfig
from bandit_router.errors import InvalidRequest
from bandit_router.features import build_extractor
from bandit_router.prices import estimate_input_tokens
from service.body import MAX_DEPTH, parse_object, validated
from service.chat_request import parse_chat
from service.errors import problem_of
from service.feedback import FeedbackBody
from service.outcomes import OutcomeBody

TEXTS = st.text(max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
PARTS = st.fixed_dictionaries(
    {}, optional={"type": JSON, "text": JSON, "image_url": JSON, "input_image": JSON}
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", ""]) | JSON},
        optional={"content": TEXTS | st.lists(PARTS, max_size=3) | JSON, "tool_calls": JSON},
    ),
    max_size=3,
)
# Bodies that are nearly right: each field as it should be, or anything at all.
CHATS = st.fixed_dictionaries(
    {"model": st.sampled_from(["auto", "small"]) | JSON, "messages": MESSAGES | JSON},
    optional={
        "models": st.lists(st.sampled_from(["small", "large"])) | JSON,
        "metadata": st.dictionaries(TEXTS, TEXTS, max_size=3) | JSON,
        "tools": st.lists(JSON, max_size=2) | JSON,
        "functions": JSON,
        "response_format": st.fixed_dictionaries({"type": TEXTS | JSON}) | JSON,
        "max_tokens": JSON,
        "max_completion_tokens": JSON,
        "stream": st.booleans() | JSON,
        "store": JSON,
        "field_of_next_year": JSON,
    },
)
EXTRACTOR = build_extractor(FeaturesConfig(text="hashed"))


def assert_told(error: InvalidRequest) -> None:
    """The error becomes a 4xx in OpenAI's shape, with words in it."""
    problem = problem_of(error)
    assert 400 <= problem.status < 500
    body = orjson.loads(problem.event())["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]


@given(raw=st.binary(max_size=200))
@example(raw=b'{"a": NaN}')
@example(raw=b'{"a": 1e400}')
@example(raw=b'{"a": "\\ud800"}')
def test_any_bytes_are_an_object_or_a_told_error(raw: bytes) -> None:
    try:
        value = parse_object(raw)
    except InvalidRequest as error:
        assert_told(error)
    else:
        assert isinstance(value, dict)
        orjson.dumps(value)


@given(value=JSON)
def test_what_is_an_object_comes_through_unchanged(value: Any) -> None:
    body = {"value": value}
    assert parse_object(orjson.dumps(body)) == orjson.loads(orjson.dumps(body))


@given(depth=st.integers(1, 2 * MAX_DEPTH))
def test_depth_is_bounded_exactly(depth: int) -> None:
    raw = b'{"a":' * depth + b"1" + b"}" * depth
    if depth <= MAX_DEPTH:
        parse_object(raw)
    else:
        with pytest.raises(InvalidRequest, match="nested deeper"):
            parse_object(raw)


@given(body=CHATS)
def test_a_chat_is_refused_with_words_or_fit_for_every_later_step(body: dict[str, Any]) -> None:
    try:
        chat = parse_chat(body)
    except InvalidRequest as error:
        assert_told(error)
        return
    routing = chat.routing
    # What the router computes from a checked request never raises.
    assert EXTRACTOR.extract(routing).size == len(EXTRACTOR.names)
    assert estimate_input_tokens(routing.messages) >= 1
    assert all(isinstance(v, str) for pair in routing.metadata.items() for v in pair)
    # Whatever the router does not use goes to the model as it came.
    kept = {name: value for name, value in body.items() if name != "metadata"}
    assert {name: chat.upstream[name] for name in kept} == kept
    assert ("metadata" in chat.upstream) == ("metadata" in body and body.get("store") is True)


@given(body=st.dictionaries(st.sampled_from([*FeedbackBody.model_fields, "odd"]), JSON))
def test_any_object_is_feedback_or_a_told_error(body: dict[str, Any]) -> None:
    try:
        told = validated(FeedbackBody, body)
    except InvalidRequest as error:
        assert_told(error)
    else:
        assert told.value is None or isinstance(told.value, bool | int | float)


@given(body=st.dictionaries(st.sampled_from([*OutcomeBody.model_fields, "odd"]), JSON))
def test_any_object_is_an_outcome_or_a_told_error(body: dict[str, Any]) -> None:
    try:
        told = validated(OutcomeBody, body)
    except InvalidRequest as error:
        assert_told(error)
    else:
        assert told.latency_s > 0.0
