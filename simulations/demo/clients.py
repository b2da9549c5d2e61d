"""The clients: ask the running service, read what it chose, and post how good the answer was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import httpx

from bandit_router.errors import DemoError
from simulations.demo.tally import Answered
from simulations.matrix import OutcomeMatrix

METRIC = "quality"
TIMEOUT_S = 60.0


def make_client(url: str, clients: int) -> httpx.AsyncClient:
    """A client that keeps a connection open for each of the concurrent clients."""
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    # Loopback must not go by way of a proxy that the environment names.
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


async def replay(
    client: httpx.AsyncClient,
    matrix: OutcomeMatrix,
    clients: int,
    on_answer: Callable[[Answered], None],
    rows: Iterable[int] | None = None,
) -> None:
    """Send every prompt of the matrix in its order, so many at a time, and rate each answer.

    A client posts its feedback before it sends the next prompt; nothing but the prompt is sent.
    rows: the prompts to send instead of all. Raises DemoError at the first answer that is not one.
    """
    left = iter(range(len(matrix.prompts)) if rows is None else rows)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_one_client(client, matrix, left, on_answer))
    except ExceptionGroup as failures:
        # The first tells the cause: the others were cancelled, or failed in its wake.
        raise failures.exceptions[0] from None


async def _one_client(
    client: httpx.AsyncClient,
    matrix: OutcomeMatrix,
    rows: Iterator[int],
    on_answer: Callable[[Answered], None],
) -> None:
    for row in rows:
        message = {"role": "user", "content": matrix.prompts[row]}
        answer = await call(
            client, "POST", "/v1/chat/completions", {"model": "auto", "messages": [message]}
        )
        answered = _read(matrix, row, answer)
        if answered.quality is not None:
            feedback = {
                "decision_id": str(answered.decision_id),
                "metric": METRIC,
                "value": answered.quality,
            }
            await call(client, "POST", "/v1/feedback", feedback)
        on_answer(answered)


def _read(matrix: OutcomeMatrix, row: int, answer: httpx.Response) -> Answered:
    try:
        model = answer.headers["x-router-model"]
        arm = matrix.models.index(model) if model in matrix.models else -1
        return Answered(
            row=row,
            decision_id=UUID(answer.headers["x-router-decision-id"]),
            arm=arm,
            quality=float(matrix.quality[row, arm]) if arm >= 0 else None,
            cost_usd=float(answer.headers["x-router-cost-usd"]),
            propensity=float(answer.headers["x-router-propensity"]),
            overhead_s=float(answer.headers["x-router-overhead-ms"]) / 1000.0,
        )
    except (KeyError, ValueError) as error:
        raise DemoError(
            f"the answer to prompt {matrix.prompt_ids[row]} lacks what the router should tell "
            f"of it ({error!r}): its headers are {dict(answer.headers)}"
        ) from error


async def call(
    client: httpx.AsyncClient, method: str, path: str, body: Any = None
) -> httpx.Response:
    """One request; raises DemoError, with what the service said, unless it answers 2xx."""
    try:
        answer = await client.request(method, path, json=body)
    except httpx.TransportError as error:
        raise DemoError(
            f"{method} {path}: the service gave no answer: {error or type(error).__name__}"
        ) from error
    if not answer.is_success:
        raise DemoError(
            f"{method} {path}: the service answered {answer.status_code}: {answer.text[:500]}"
        )
    return answer
