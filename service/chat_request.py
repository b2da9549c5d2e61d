"""What a chat body says to the router; everything else in it belongs to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandit_router.config import Capability
from bandit_router.errors import InvalidRequest
from bandit_router.types import RoutingRequest
from service.wishes import NO_WISHES, Wishes

AUTO = "auto"
# OpenAI's own bounds on metadata.
MOST_LABELS = 16
LONGEST_LABEL_NAME = 64
LONGEST_LABEL = 512
LONGEST_SESSION_ID = 256
IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
AUDIO_PARTS = frozenset({"input_audio", "audio"})
JSON_FORMATS = frozenset({"json_object", "json_schema"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked chat request. upstream: the body for the models, ``model`` still to be set."""

    routing: RoutingRequest
    upstream: Mapping[str, Any]
    stream: bool
    wishes: Wishes = NO_WISHES


def parse_chat(
    body: dict[str, Any],
    *,
    session_id: str | None = None,
    tenant: str = "default",
    wishes: Wishes = NO_WISHES,
) -> ChatRequest:
    """Check what the router reads of a chat body. Unknown fields are the model's business.

    wishes: what the caller asks of the router; models named there replace the body's.

    Raises InvalidRequest that names the field and the remedy.
    """
    messages = _messages(body.get("messages"))
    override, candidates = _models(_with_models(body, wishes))
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest(f"stream is {stream!r}; send true or false", param="stream")
    tool_count = _tool_count(body)
    answer_format = _response_format(body.get("response_format"))
    needed = set()
    if tool_count:
        needed.add(Capability.TOOLS.value)
    if answer_format in JSON_FORMATS:
        needed.add(Capability.JSON_MODE.value)
    if any(_has_part(message, "image_url", IMAGE_PARTS) for message in messages):
        needed.add(Capability.VISION.value)
    if _asks_for_audio(body) or any(_has_part(m, "input_audio", AUDIO_PARTS) for m in messages):
        needed.add(Capability.AUDIO.value)
    return ChatRequest(
        routing=RoutingRequest(
            messages=messages,
            metadata=_labels(body.get("metadata")),
            tool_count=tool_count,
            response_format=answer_format,
            max_output_tokens=_limit(body),
            candidates=candidates,
            override=override,
            required_capabilities=frozenset(needed),
            tenant=tenant,
            session_id=_session(session_id),
            controls=wishes.controls,
            user_tier=wishes.user_tier,
            workflow=wishes.workflow,
            cascade=wishes.cascade,
            streamed=stream is True,
        ),
        upstream=_for_upstream(body),
        stream=stream is True,
        wishes=wishes,
    )


def _with_models(body: Mapping[str, Any], wishes: Wishes) -> Mapping[str, Any]:
    if wishes.model is None and wishes.models is None:
        return body
    named = {} if wishes.model is None else {"model": wishes.model, "models": None}
    listed = {} if wishes.models is None else {"models": list(wishes.models)}
    return {**body, **named, **listed}


def _for_upstream(body: dict[str, Any]) -> Mapping[str, Any]:
    # OpenAI refuses metadata unless the answer is to be stored; it is the router's until then.
    if "metadata" in body and body.get("store") is not True:
        return {name: value for name, value in body.items() if name != "metadata"}
    return body


def _messages(value: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest(
            'messages must be a list of at least one message, such as {"role": "user", '
            '"content": "Hello"}',
            param="messages",
        )
    for index, message in enumerate(value):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"{where} must be an object with role and content", param=where)
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise InvalidRequest(
                f"{where}.role must be a text: system, user, assistant or tool",
                param=f"{where}.role",
            )
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        if not isinstance(content, str | list | None) or not all(
            isinstance(part, dict) for part in parts
        ):
            raise InvalidRequest(
                f"{where}.content must be a text, a list of parts, or null",
                param=f"{where}.content",
            )
    return tuple(value)


def _models(body: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...] | None]:
    """The model named outright, if one, and the caller's own list, if one."""
    name, listed = body.get("model"), body.get("models")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            'model is missing; send "auto" to let the router choose, or one of GET /v1/models',
            param="model",
        )
    if listed is None:
        return (None if name == AUTO else name), None
    if not isinstance(listed, list) or not listed or not all(isinstance(m, str) for m in listed):
        raise InvalidRequest(
            "models must be a list of at least one model's name, or be left out", param="models"
        )
    candidates = tuple(dict.fromkeys(listed))
    if name == AUTO:
        return None, candidates
    if candidates[0] != name:
        raise InvalidRequest(
            f"model '{name}' is named outright, but models begins with '{candidates[0]}'; send "
            'model "auto" to choose among models, or put the named one first to fall back '
            "along the rest",
            param="models",
        )
    return name, candidates


def _labels(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(
            'metadata must be an object of texts, such as {"task": "math"}', param="metadata"
        )
    if len(value) > MOST_LABELS:
        raise InvalidRequest(
            f"metadata has {len(value)} labels; send at most {MOST_LABELS}", param="metadata"
        )
    for name, label in value.items():
        where = f"metadata.{name[:LONGEST_LABEL_NAME]}"
        if len(name) > LONGEST_LABEL_NAME:
            raise InvalidRequest(
                f"{where}… is a name of {len(name)} characters; use {LONGEST_LABEL_NAME} at most",
                param="metadata",
            )
        if not isinstance(label, str) or len(label) > LONGEST_LABEL:
            raise InvalidRequest(
                f"{where} must be a text of at most {LONGEST_LABEL} characters", param=where
            )
        if "\0" in name or "\0" in label:
            raise InvalidRequest(f"{where} holds a NUL character; leave it out", param="metadata")
    return value


def _session(session_id: str | None) -> str | None:
    if session_id is not None and not 1 <= len(session_id) <= LONGEST_SESSION_ID:
        raise InvalidRequest(
            f"x-session-id has {len(session_id)} characters; send 1 to {LONGEST_SESSION_ID}",
            param="x-session-id",
        )
    if session_id is not None and "\0" in session_id:
        raise InvalidRequest(
            "the session's id holds a NUL character; leave it out", param="x-session-id"
        )
    return session_id


def _tool_count(body: Mapping[str, Any]) -> int:
    count = 0
    for name in ("tools", "functions"):
        tools = body.get(name)
        if tools is not None and not isinstance(tools, list):
            raise InvalidRequest(f"{name} must be a list, or be left out", param=name)
        count += len(tools or ())
    return count


def _response_format(value: object) -> str:
    if value is None:
        return "text"
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest(
            'response_format must be an object such as {"type": "json_object"}',
            param="response_format",
        )
    return kind


def _has_part(message: Mapping[str, Any], key: str, kinds: frozenset[str]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(
        key in part or str(part.get("type")) in kinds for part in content
    )


def _asks_for_audio(body: Mapping[str, Any]) -> bool:
    """Whether the answer is to be spoken; odd modalities are left for the model to refuse."""
    modalities = body.get("modalities")
    return isinstance(modalities, list) and "audio" in modalities


def _limit(body: Mapping[str, Any]) -> int | None:
    """The caller's bound on the answer; an odd one is left for the model to refuse."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if type(value) is int and value > 0:
            return value
    return None
