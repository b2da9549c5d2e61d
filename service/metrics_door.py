"""GET /metrics, and the states that it reads when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.circuit import CircuitState
from bandit_router.config import AlarmKind
from bandit_router.errors import StoreError
from service.admin.entrance import admit_operator
from service.metrics import CONTENT_TYPE, Gauge
from service.runtime import Runtime

BREAKER_STATES = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 1.0, CircuitState.OPEN: 2.0}
# What stands in the database is left out of a scrape rather than waited for any longer.
PATIENCE_S = 2.0


def metrics_routes(runtime: Runtime) -> APIRouter:
    """The door for Prometheus."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {}}},
            401: {"description": "No API key, or one that is unknown or revoked."},
            403: {"description": "The key lacks the scope `admin`, or is of one tenant only."},
        },
    )
    async def metrics(request: Request) -> Response:
        """Counters, histograms and states in Prometheus' text format; scope `admin`."""
        await admit_operator(runtime, request)
        states = [*_states(runtime), *await _stored_states(runtime)]
        return Response(runtime.metrics.exposition(states), media_type=CONTENT_TYPE)

    return routes


def _one(name: str, text: str, value: float) -> Gauge:
    return name, text, [((), value)], ()


def _states(runtime: Runtime) -> Iterator[Gauge]:
    """Where the learner, the queues and the breakers stand now."""
    learner, serving = runtime.learner_standing, runtime.router.serving
    failing = learner.last_error is not None
    age_s = runtime.clock.monotonic_s() - runtime.served_at_s
    yield _one("learner_leads", "1 in the process that learns.", float(learner.leads))
    yield _one("learner_failing", "1 while learning fails.", float(failing))
    child = runtime.learner_child
    restarts = 0 if child is None else child.restarts
    yield _one("learner_restarts", "How often its process had to be started again.", restarts)
    yield _one("snapshot_version", "Version of the state in use.", float(serving.version))
    yield _one("snapshot_age_seconds", "Since the state in use was taken up.", age_s)
    quarantined = learner.progress.quarantined
    yield _one("quarantined_rows", "Rows that could not be learned from.", quarantined)
    pacer = serving.state.pacer
    yield _one("price_of_dollar", "Quality that a dollar must bring (λ).", pacer.price_of_dollar)
    yield _one("account_usd", "Budget saved so far; a debt where negative.", pacer.account_usd)
    answers = float(runtime.books.store_answers)
    yield _one("store_answers", "0 while decisions cannot be stored.", answers)
    queues = [
        (("decisions",), float(runtime.decision_log.queue_depth)),
        (("feedback",), float(runtime.feedback.queue_depth)),
    ]
    yield "queue_depth", "Rows handed in and not yet durable.", queues, ("queue",)
    yield from _trial(runtime)
    health = {name: runtime.breakers.health(name) for name in runtime.models}
    states = [((name,), BREAKER_STATES[found.state]) for name, found in health.items()]
    yield "breaker_state", "0 closed, 1 half open, 2 open.", states, ("model",)
    shares = [((name,), found.reliability) for name, found in health.items()]
    yield "reliability", "Share of the last calls that succeeded.", shares, ("model",)


def _trial(runtime: Runtime) -> Iterator[Gauge]:
    """Who is on trial and how it stands; without a trial the series are not there."""
    challenge, numbers = runtime.challenge, runtime.trial_watch.numbers
    if challenge is None:
        return
    setting, contender = challenge.setting, challenge.contender
    name = (setting.challenger.name,)

    def of(what: str, text: str, value: float) -> Gauge:
        return f"challenger_{what}", text, [(name, value)], ("challenger",)

    yield of("share", "Of requests that the challenger chooses for; 0 in shadow.", setting.share)
    yield of("held", "1 once it was sent back.", float(bool(setting.held)))
    yield of("failed_answers", "Decisions it could not answer.", float(contender.failures))
    if numbers is None:
        return
    yield of("rewards", "Rewards that speak of it in this stage.", float(numbers.rewards))
    size = numbers.effective_sample_size
    yield of("effective_sample_size", "What they are worth in decisions of its own.", size)
    if numbers.rewards:
        difference = numbers.difference
        yield of("reward_difference", "Its mean reward less the champion's.", difference)
        yield of("reward_difference_low", "Sure lower bound of it, at any time.", numbers.low)
        yield of("reward_difference_high", "Sure upper bound of it, at any time.", numbers.high)


async def _stored_states(runtime: Runtime) -> list[Gauge]:
    """What the database has to be asked for; nothing while it does not answer."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            lag_s = await runtime.alarms.waiting_s(runtime.clock.now())
            standing = await runtime.alarms.look()
    except (StoreError, TimeoutError):
        return []
    counts = dict.fromkeys(AlarmKind, 0)
    for alarm in standing:
        counts[alarm.kind] += 1
    alarms = [((kind.value,), float(count)) for kind, count in counts.items()]
    return [
        _one("learner_lag_seconds", "How long the oldest row not learned from waits.", lag_s),
        ("alarms", "Alarms that stand.", alarms, ("kind",)),
    ]
