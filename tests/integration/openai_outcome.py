"""What a call of the official client comes to, as values that can be compared."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from openai_cases import Case
from pydantic import BaseModel

PAGE = Path(__file__).parents[2] / "docs" / "openai-client-equality.md"
HEAD = "| | call | model | the client's object | router against upstream |\n|---|---|---|---|---|\n"


async def outcome(case: Case, base_url: str, model: str, **options: Any) -> Any:
    """What the client returns or raises, as plain values. options: of the client."""
    options = {"api_key": "k", **options}
    if case.asynchronous:
        async with AsyncOpenAI(base_url=base_url, **options) as client:
            try:
                got = case.call(client, model)
                got = await got if inspect.isawaitable(got) else got
                if isinstance(got, openai.AsyncStream):
                    got = [chunk async for chunk in got]
                return plain(got)
            except openai.APIError as error:
                return told(error, case)

    def call() -> Any:
        with OpenAI(base_url=base_url, **options) as client:
            try:
                got = case.call(client, model)
                return plain(list(got) if isinstance(got, openai.Stream) else got)
            except openai.APIError as error:
                return told(error, case)

    return await asyncio.to_thread(call)


def plain(got: Any) -> Any:
    if isinstance(got, list):
        return [plain(item) for item in got]
    if isinstance(got, BaseModel):
        # Fields that were not in the answer must not be in the other one either.
        return {"type": type(got).__name__, **got.model_dump(exclude_unset=True, warnings=False)}
    if hasattr(got, "http_response"):
        return {"status": got.http_response.status_code, "parsed": plain(got.parse())}
    raise AssertionError(f"no answer of the client: {got!r}")


def told(error: openai.APIError, case: Case) -> Any:
    assert case.raises is not None, error
    assert type(error) is case.raises, error
    if case.by_class:
        return {"raises": type(error).__name__}
    status = getattr(error, "status_code", None)
    return {"raises": type(error).__name__, "status": status, "body": error.body}


def kind(got: Any) -> str:
    if isinstance(got, list):
        return f"{len(got)} events"
    return str(got.get("raises") or got.get("type") or "raw response")


def check_table(heading: str, rows: Sequence[str]) -> None:
    """Hold a section's table on the page against these rows; write it where the environment
    says so (BANDIT_ROUTER_WRITE_ARTEFACTS=1)."""
    table = HEAD + "".join(f"{row}\n" for row in rows)
    page = PAGE.read_text()
    pattern = re.compile(rf"(?<=\n## {re.escape(heading)}\n\n)(.*?\n\n)\|.*?\n(?=\n|\Z)", re.DOTALL)
    found = pattern.search(page)
    assert found is not None, f"{PAGE.name} has no table under '## {heading}'"
    written = page[: found.start()] + found[1] + table + page[found.end() :]
    if os.environ.get("BANDIT_ROUTER_WRITE_ARTEFACTS"):
        PAGE.write_text(written)
    assert PAGE.read_text() == written
