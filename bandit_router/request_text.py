"""The text of a request to any operation, in the form of chat messages.

Features, token estimates and eligibility read chat messages; this is the one place that knows
where the other operations keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# How Responses name what chat calls text and image_url.
TEXT_PARTS = frozenset({"input_text", "output_text", "text", "summary_text"})
IMAGE_PART = "input_image"


def messages_of(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The messages of a chat, completions, embeddings or responses body; never raises.

    ``prompt`` and ``input`` become user messages, ``instructions`` a system message. Token
    ids, which only the model can read, become one word each, so that they are still counted.
    """
    messages = body.get("messages")
    if isinstance(messages, list):
        return tuple(message for message in messages if isinstance(message, Mapping))
    found: list[Mapping[str, Any]] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        found.append({"role": "system", "content": instructions})
    for name in ("prompt", "input"):
        value = body.get(name)
        if isinstance(value, str):
            found.append({"role": "user", "content": value})
        elif isinstance(value, list):
            found += _from_list(value)
    return tuple(found)


def _from_list(items: list[Any]) -> Iterable[Mapping[str, Any]]:
    if items and all(type(item) is int for item in items):
        yield _user("id " * len(items))
        return
    for item in items:
        if isinstance(item, str):
            yield _user(item)
        elif isinstance(item, list):
            yield _user("id " * len(item))
        elif isinstance(item, Mapping):
            yield _from_item(item)


def _from_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """One input item of Responses: a message, a tool call, a tool's result, reasoning …"""
    role = item.get("role")
    content = item.get("content")
    if isinstance(role, str):
        parts = content if isinstance(content, list) else None
        return {"role": role, "content": content if parts is None else [_part(p) for p in parts]}
    if "output" in item:
        output = item["output"]
        return {"role": "tool", "content": output if isinstance(output, str) else str(output)}
    return {"role": "assistant", "content": str(item.get("arguments") or "")}


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    if part.get("type") == IMAGE_PART:
        return {"type": "image_url", "image_url": part.get("image_url")}
    if part.get("type") in TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part


def _user(text: str) -> Mapping[str, Any]:
    return {"role": "user", "content": text}
