"""Log lines with the request's ids, for people or for machines, without secrets or prompts."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO
from uuid import UUID

import orjson

from bandit_router.errors import ConfigError

FORMAT_VARIABLE = "BANDIT_ROUTER_LOG"
# The request that the running task serves, its decision, and its trace; None outside of any.
current_request: ContextVar[str | None] = ContextVar("current_request", default=None)
current_decision: ContextVar[UUID | None] = ContextVar("current_decision", default=None)
current_trace_id: ContextVar[str | None] = ContextVar("current_trace_id", default=None)
# A line per answer; on where the lines are for machines.
requests = logging.getLogger("service.requests")

# What keys look like: this router's, the providers', and whatever stands where a key would.
SECRETS = re.compile(
    r"(?i)\b(?:br|sk|gsk|xai|pk|key)-[\w-]{8,}|\bAIza[\w-]{20,}"
    r"|(?<=bearer )\S+|(?<=://)[^\s/@]+:[^\s/@]+(?=@)|(?<=api[_-]key[=:])\s*\S+"
)
HIDDEN = "[hidden]"
EXTRAS = ("decision_id", "model", "method", "path", "status", "duration_ms")
ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def set_up_logging(environ: Mapping[str, str], stream: TextIO) -> None:
    """Warnings of everybody, and our own news, as text or, where asked, as JSON lines.

    Raises ConfigError for a format that is not known.
    """
    wanted = environ.get(FORMAT_VARIABLE, "text").strip().lower()
    if wanted not in ("", "text", "json"):
        raise ConfigError(f"{FORMAT_VARIABLE}={wanted}: say text or json")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonLines()
        if wanted == "json"
        else TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("service").setLevel(logging.INFO)
    requests.setLevel(logging.INFO if wanted == "json" else logging.WARNING)


def without_secrets(text: str) -> str:
    """The text with everything that looks like a key taken out."""
    return SECRETS.sub(HIDDEN, text)


class TextLines(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the base class's name
        """Where it happened; its words too, outside of requests.

        Within one, an exception's words may quote what the caller sent.
        """
        if current_request.get() is None:
            return super().formatException(ei)
        parts: list[str] = []
        error = ei[1]
        while error is not None:
            parts += [type(error).__name__, *traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(part.rstrip() for part in parts)


class JsonLines(TextLines):
    """One object a line: time, level, logger, message, ids, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        request_id, decision_id = current_request.get(), current_decision.get()
        if request_id is not None:
            line["request_id"] = without_secrets(request_id)
        if decision_id is not None:
            line["decision_id"] = str(decision_id)
        if (trace_id := current_trace_id.get()) is not None:
            line["trace_id"] = trace_id
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = without_secrets(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()
