"""Which failure is what: the treatment of every way in which an upstream can fail.

| what happens | status | same model again | next model |
|---|---|---|---|
| refused, DNS, TLS, no connection in time | connect_error | no | yes |
| silence, first token late, idle stream | timeout | no | yes |
| 429 | rate_limited | yes, unless the quota is spent | yes |
| 408, 409, 425, 5xx, connection lost before an answer | server_error | yes | yes |
| 401, 403 | authentication | no | yes |
| 400, 422 for the context's length; 413 | context_window | no | yes |
| 400, 422 by a content filter | content_filter | no | yes |
| 400, 422 for an unknown model; 402, 404, other 4xx | rejected | no | yes |
| any other 400, 422: the caller's request is malformed | rejected | no | no |
| 3xx | bad_response | no | yes |
| 2xx with an error inside, bad or cut JSON, no choices | by its code, or bad_response | yes | yes |
| stream cut, error event in a stream | by its code, or stream_broken | yes | yes |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from bandit_router.errors import ProviderError
from bandit_router.types import AttemptStatus

MAX_MESSAGE_CHARACTERS = 500
CALLER_AT_FAULT = frozenset({400, 422})
TRANSIENT = frozenset({408, 409, 425})
CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
)
CONTEXT_MESSAGE = re.compile(
    r"context.{0,20}(length|window|size)|maximum context|prompt is too long|too many tokens"
    r"|input.{0,20}too long",
    re.IGNORECASE | re.DOTALL,
)
CONTENT_CODES = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
)
MODEL_CODES = frozenset({"model_not_found", "invalid_model", "model_not_supported"})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests"})
AUTHENTICATION_CODES = frozenset({"invalid_api_key", "authentication_error", "permission_error"})
KEY_CODES = frozenset({"invalid_api_key", "authentication_error"})
SERVER_CODES = frozenset({"server_error", "internal_error", "overloaded_error", "api_error"})


def failure_of_status(
    model: str, http_status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> ProviderError:
    """The failure that a response outside 2xx stands for. now: UTC, for Retry-After dates."""
    codes, said = _error_words(_loads(body))
    if not said:
        said = body[:MAX_MESSAGE_CHARACTERS].decode("utf-8", errors="replace")
    message = f"model '{model}': upstream answered {http_status}: {said or 'no message'}"
    status, retry, next_model = _treatment_of_status(http_status, codes, said)
    return ProviderError(
        message,
        status=status,
        retry=retry,
        next_model=next_model,
        http_status=http_status,
        retry_after_s=retry_after_s(headers, now),
        body=body,
        key_at_fault=http_status == 401 or bool(codes & QUOTA_CODES),
    )


def _treatment_of_status(
    http_status: int, codes: frozenset[str], said: str
) -> tuple[AttemptStatus, bool, bool]:
    """Status, retry, next_model."""
    if http_status == 429:
        return AttemptStatus.RATE_LIMITED, not codes & QUOTA_CODES, True
    if http_status >= 500 or http_status in TRANSIENT:
        return AttemptStatus.SERVER_ERROR, True, True
    if http_status in (401, 403):
        return AttemptStatus.AUTHENTICATION, False, True
    if http_status == 413:
        return AttemptStatus.CONTEXT_WINDOW, False, True
    if http_status < 400:
        return AttemptStatus.BAD_RESPONSE, False, True
    if http_status not in CALLER_AT_FAULT:
        return AttemptStatus.REJECTED, False, True
    if codes & CONTEXT_CODES or CONTEXT_MESSAGE.search(said):
        return AttemptStatus.CONTEXT_WINDOW, False, True
    if codes & CONTENT_CODES:
        # Another model may have no such filter.
        return AttemptStatus.CONTENT_FILTER, False, True
    return AttemptStatus.REJECTED, False, bool(codes & MODEL_CODES)


def failure_of_error_object(
    model: str, error: object, *, otherwise: AttemptStatus
) -> ProviderError:
    """The failure that an error inside a 2xx answer or a stream stands for.

    otherwise: the status where the error's code says nothing. The next model is always
    tried: an upstream that reports errors as success is not trusted to blame the caller.
    """
    codes, said = _error_words({"error": error})
    status, retry = otherwise, True
    numeric = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    if codes & CONTEXT_CODES:
        status, retry = AttemptStatus.CONTEXT_WINDOW, False
    elif codes & CONTENT_CODES:
        status, retry = AttemptStatus.CONTENT_FILTER, False
    elif codes & QUOTA_CODES:
        status, retry = AttemptStatus.RATE_LIMITED, False
    elif codes & RATE_CODES:
        status = AttemptStatus.RATE_LIMITED
    elif codes & AUTHENTICATION_CODES:
        status, retry = AttemptStatus.AUTHENTICATION, False
    elif codes & SERVER_CODES:
        status = AttemptStatus.SERVER_ERROR
    elif numeric is not None:
        status, retry, _ = _treatment_of_status(numeric, codes, said)
    return ProviderError(
        f"model '{model}': upstream reported an error inside its answer: {said or error!r}",
        status=status,
        retry=retry,
        key_at_fault=bool(codes & (KEY_CODES | QUOTA_CODES)),
    )


def failure_of_exception(
    model: str, exception: aiohttp.ClientError | OSError, *, in_stream: bool
) -> ProviderError:
    """The failure that a broken connection stands for. TimeoutError is not for this door."""
    said = f"{type(exception).__name__}: {exception}"
    if isinstance(
        exception,
        aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError | aiohttp.InvalidURL,
    ):
        return ProviderError(
            f"model '{model}': no connection to its base_url: {said}",
            status=AttemptStatus.CONNECT_ERROR,
            retry=False,
        )
    if in_stream:
        status = AttemptStatus.STREAM_BROKEN
    elif isinstance(exception, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        status = AttemptStatus.BAD_RESPONSE
    else:
        status = AttemptStatus.SERVER_ERROR
    return ProviderError(
        f"model '{model}': the connection broke: {said}", status=status, retry=True
    )


def timed_out(model: str, waited_for: str, limit_s: float) -> ProviderError:
    """A TIMEOUT failure. The time is better spent on another model than on the same again."""
    return ProviderError(
        f"model '{model}': {waited_for} took longer than {limit_s:.3g} s",
        status=AttemptStatus.TIMEOUT,
        retry=False,
    )


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that Retry-After (or retry-after-ms) asks for, or None; never negative.

    A date is read against the response's own Date, which spares us skewed clocks.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000.0)
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    at = _date(value)
    if at is None:
        return None
    return max(0.0, (at - (_date(headers.get("Date")) or now)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _date(text: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _error_words(body: Any) -> tuple[frozenset[str], str]:
    """The error's code and type in lower case, and its message, from the usual shapes."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, str):
        return frozenset(), error[:MAX_MESSAGE_CHARACTERS]
    if not isinstance(error, dict):
        return frozenset(), ""
    words = {str(error[key]).lower() for key in ("code", "type") if error.get(key) is not None}
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):
        words.add(str(inner["code"]).lower())
    said = error.get("message") or error.get("detail") or ""
    return frozenset(words), str(said)[:MAX_MESSAGE_CHARACTERS]
