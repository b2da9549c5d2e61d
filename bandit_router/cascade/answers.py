"""What a check looks at: an answer's texts, however the operation lays them out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bandit_router.types import Operation

# How chat and completions, and Responses, say that an answer is not whole, or was withheld.
CUT_OFF = frozenset({"length", "max_output_tokens"})
WITHHELD = frozenset({"content_filter"})


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a request, of which ``n`` may ask for several.

    refusal: what the model said in the field of that name. calls_tools: there may be no text
    then. log_probabilities: of the tokens, natural logarithms; empty where not known.
    """

    text: str = ""
    refusal: str = ""
    finish_reason: str = ""
    calls_tools: bool = False
    log_probabilities: tuple[float, ...] = ()

    @property
    def cut_off(self) -> bool:
        return self.finish_reason in CUT_OFF

    @property
    def withheld(self) -> bool:
        return self.finish_reason in WITHHELD


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """model: who answered. request: the caller's body. body: the whole answer, as the upstream
    gave it; None of a stream."""

    model: str
    choices: tuple[Choice, ...]
    request: Mapping[str, Any]
    body: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text if self.choices else ""


def answer_of_body(
    operation: Operation, model: str, request: Mapping[str, Any], body: Mapping[str, Any]
) -> CheckedAnswer:
    """A whole answer; odd parts of it are passed over."""
    if operation is Operation.RESPONSES:
        choices: tuple[Choice, ...] = (_of_response(body),)
    else:
        choices = tuple(_of_choice(choice, "message") for choice in _objects(body.get("choices")))
    return CheckedAnswer(model, choices, request, body)


def answer_of_pieces(
    operation: Operation, model: str, request: Mapping[str, Any], pieces: Iterable[bytes]
) -> CheckedAnswer:
    """A stream's chunks put together."""
    found: dict[int, Choice] = {}
    for piece in pieces:
        chunk = json.loads(piece) if piece else None
        if not isinstance(chunk, dict):
            continue
        if operation is Operation.RESPONSES:
            whole = chunk.get("response")
            if isinstance(whole, dict) and whole.get("output") is not None:
                found[0] = _of_response(whole)
            continue
        for choice in _objects(chunk.get("choices")):
            index = choice.get("index")
            at = index if isinstance(index, int) else 0
            found[at] = _joined(found.get(at, Choice()), _of_choice(choice, "delta"))
    return CheckedAnswer(model, tuple(found[index] for index in sorted(found)), request)


def _of_choice(choice: Mapping[str, Any], part: str) -> Choice:
    """One entry of ``choices``: its message, or what a chunk adds to it."""
    message = choice.get(part)
    said: Mapping[str, Any] = message if isinstance(message, dict) else {}
    content = said.get("content", choice.get("text"))
    return Choice(
        text=_text(content),
        refusal=_text(said.get("refusal")),
        finish_reason=_text(choice.get("finish_reason")),
        calls_tools=bool(said.get("tool_calls") or said.get("function_call")),
        log_probabilities=tuple(_log_probabilities(choice.get("logprobs"))),
    )


def _joined(one: Choice, more: Choice) -> Choice:
    return replace(
        one,
        text=one.text + more.text,
        refusal=one.refusal + more.refusal,
        finish_reason=more.finish_reason or one.finish_reason,
        calls_tools=one.calls_tools or more.calls_tools,
        log_probabilities=one.log_probabilities + more.log_probabilities,
    )


def _of_response(body: Mapping[str, Any]) -> Choice:
    """All messages of a Responses answer as one choice."""
    texts, refusals, known = [], [], []
    calls_tools = False
    for item in _objects(body.get("output")):
        calls_tools = calls_tools or str(item.get("type", "")).endswith("_call")
        for part in _objects(item.get("content")):
            if part.get("type") == "output_text":
                texts.append(_text(part.get("text")))
                known += list(_log_probabilities({"content": part.get("logprobs")}))
            elif part.get("type") == "refusal":
                refusals.append(_text(part.get("refusal")))
    reason = body.get("incomplete_details")
    return Choice(
        text="".join(texts),
        refusal="".join(refusals),
        finish_reason=_text(reason.get("reason")) if isinstance(reason, dict) else "stop",
        calls_tools=calls_tools,
        log_probabilities=tuple(known),
    )


def _log_probabilities(found: object) -> Iterator[float]:
    """Chat keeps them per token under ``content``, completions in one list."""
    if not isinstance(found, dict):
        return
    for token in _objects(found.get("content")):
        value = token.get("logprob")
        if isinstance(value, int | float):
            yield float(value)
    listed = found.get("token_logprobs")
    if isinstance(listed, list):
        yield from (float(value) for value in listed if isinstance(value, int | float))


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    # Some servers answer with a list of parts, as requests may.
    return "".join(_text(part.get("text")) for part in _objects(value))
