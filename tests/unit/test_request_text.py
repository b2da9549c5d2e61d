"""What features and estimates see of a request that is no chat."""

from __future__ import annotations

from typing import Any

import pytest

from bandit_router.prices import estimate_input_tokens
from bandit_router.request_text import messages_of


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"messages": [user("Hi"), {"role": "tool", "content": "7"}]}, 2),
        ({"prompt": "Once upon"}, [user("Once upon")]),
        ({"prompt": ["a", "b"]}, [user("a"), user("b")]),
        ({"input": "Embed me"}, [user("Embed me")]),
        (
            {"instructions": "Be brief.", "input": "Why?"},
            [{"role": "system", "content": "Be brief."}, user("Why?")],
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "See"}]},
                    {"type": "function_call", "call_id": "c", "arguments": '{"x":1}'},
                    {"type": "function_call_output", "call_id": "c", "output": "42"},
                ]
            },
            [
                {"role": "user", "content": [{"type": "text", "text": "See"}]},
                {"role": "assistant", "content": '{"x":1}'},
                {"role": "tool", "content": "42"},
            ],
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]},
            [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}],
        ),
    ],
)
def test_every_operations_text_becomes_messages(body: dict[str, Any], messages: Any) -> None:
    found = messages_of(body)
    if isinstance(messages, int):
        assert list(found) == body["messages"]
    else:
        assert list(found) == messages


@pytest.mark.parametrize("prompt", [[1, 2, 3] * 100, [[1, 2, 3] * 50, [4, 5, 6] * 50]])
def test_token_ids_are_counted_though_nobody_can_read_them(prompt: list[Any]) -> None:
    assert 200 <= estimate_input_tokens(messages_of({"prompt": prompt})) <= 350


@pytest.mark.parametrize(
    "odd", [None, 7, {}, [None], [[]], [{"role": 3}], [{"content": {}}], [1.5]]
)
def test_odd_input_never_raises(odd: Any) -> None:
    for name in ("prompt", "input", "messages", "instructions"):
        assert estimate_input_tokens(messages_of({name: odd})) >= 1
