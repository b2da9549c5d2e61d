"""What a body needs of a model, as the router sees it."""

from __future__ import annotations

from typing import Any

import pytest

from bandit_router.types import Operation
from service.operations import parse_request

SPOKEN = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
SEEN = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
SAID = {"type": "text", "text": "Hello"}


def needed(operation: Operation = Operation.CHAT, **fields: Any) -> frozenset[str]:
    chat = parse_request(operation, {"model": "auto", **fields})
    return chat.routing.required_capabilities


@pytest.mark.parametrize(
    ("parts", "more", "capabilities"),
    [
        ([SAID], {}, set()),
        ([SAID, SEEN], {}, {"vision"}),
        ([SAID, SPOKEN], {}, {"audio"}),
        ([SEEN, SPOKEN], {}, {"audio", "vision"}),
        ([{"input_audio": {"data": "AAAA"}}], {}, {"audio"}),
        ([SAID], {"modalities": ["text", "audio"]}, {"audio"}),
        ([SAID], {"modalities": ["text"]}, set()),
        ([SAID], {"modalities": None}, set()),
        ([SAID], {"modalities": "audio"}, set()),
        ([SAID], {"modalities": [["audio"], {}]}, set()),
    ],
)
def test_a_chat_needs_the_senses_that_it_uses(
    parts: list[Any], more: dict[str, Any], capabilities: set[str]
) -> None:
    assert needed(messages=[{"role": "user", "content": parts}], **more) == capabilities


def test_spoken_input_of_responses_needs_audio_too() -> None:
    items = [{"role": "user", "content": [SPOKEN]}]
    assert needed(Operation.RESPONSES, input=items) == {"audio"}
