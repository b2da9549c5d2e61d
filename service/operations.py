"""What a completions, responses or embeddings body says to the router, read as a chat's is.

Each is laid out as the chat request that asks for the same, and checked by the same code; the
model gets the body as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bandit_router.errors import InvalidRequest
from bandit_router.request_text import messages_of
from bandit_router.types import Operation
from service.chat_request import AUTO, ChatRequest, parse_chat

# Fields by which Responses go on with what one upstream has stored.
STORED_UPSTREAM = ("previous_response_id", "conversation")


def parse_request(operation: Operation, body: dict[str, Any], **given: Any) -> ChatRequest:
    """A checked request of any operation. given: what ``parse_chat`` takes beside the body.

    Raises InvalidRequest that names the field and the remedy.
    """
    if operation is Operation.CHAT:
        return parse_chat(body, **given)
    as_chat = parse_chat(_AS_CHAT[operation](body), **given)
    upstream = body
    if operation is not Operation.EMBEDDINGS and body.get("store") is not True:
        upstream = {name: value for name, value in body.items() if name != "metadata"}
    return replace(
        as_chat,
        routing=replace(as_chat.routing, operation=operation),
        upstream=upstream,
    )


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    prompt = body.get("prompt")
    if not _is_text(prompt):
        raise InvalidRequest("prompt must be a text, a list of texts, or token ids", param="prompt")
    return _with_messages(body)


def _embedding(body: dict[str, Any]) -> dict[str, Any]:
    if not _is_text(body.get("input")):
        raise InvalidRequest("input must be a text, a list of texts, or token ids", param="input")
    if body.get("model") == AUTO or body.get("models") is not None:
        raise InvalidRequest(
            "vectors of different models cannot be compared, so the router does not choose one: "
            "name a model that serves embeddings, and leave models out",
            param="model",
        )
    if body.get("stream") is True:
        raise InvalidRequest("embeddings do not stream; leave stream out", param="stream")
    return _with_messages(body)


def _response(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("background") is True:
        raise InvalidRequest(
            "background responses have to be fetched later from the upstream that made them, "
            "which the router does not do; leave background out",
            param="background",
        )
    for name in STORED_UPSTREAM:
        if body.get(name) is not None and (body.get("model") == AUTO or body.get("models")):
            raise InvalidRequest(
                f"{name} is known only to the upstream that stored it: name the model that "
                "answered before (x-router-model) and leave models out, or send the whole "
                "input again",
                param=name,
            )
    instructions, value = body.get("instructions"), body.get("input")
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidRequest("instructions must be a text", param="instructions")
    items = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if value is not None and not isinstance(value, str) and not items:
        raise InvalidRequest("input must be a text or a list of items", param="input")
    as_chat = _with_messages(body)
    text = body.get("text")
    if text is not None and not isinstance(text, dict):
        raise InvalidRequest("text must be an object", param="text")
    if isinstance(text, dict) and text.get("format") is not None:
        as_chat["response_format"] = text["format"]
    if body.get("max_output_tokens") is not None:
        as_chat["max_completion_tokens"] = body["max_output_tokens"]
    return as_chat


def _with_messages(body: dict[str, Any]) -> dict[str, Any]:
    messages = list(messages_of({name: body.get(name) for name in TEXT_FIELDS}))
    kept = {name: value for name, value in body.items() if name != "response_format"}
    # A prompt stored with the upstream has no text here; the request is routed all the same.
    return {**kept, "messages": messages or [{"role": "user", "content": ""}]}


TEXT_FIELDS = ("instructions", "prompt", "input")
_AS_CHAT: Mapping[Operation, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Operation.COMPLETIONS: _completion,
    Operation.EMBEDDINGS: _embedding,
    Operation.RESPONSES: _response,
}


def _is_text(value: object) -> bool:
    """A text, a list of texts, token ids, or lists of them."""
    if isinstance(value, str):
        return True
    if not isinstance(value, list) or not value:
        return False
    first = type(value[0])
    if first not in (str, int, list) or any(type(item) is not first for item in value):
        return False
    return first is not list or all(all(type(t) is int for t in item) for item in value)
