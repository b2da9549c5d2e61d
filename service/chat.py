"""The doors that ask a model, chat completions and its sisters: choose, call, hand the answer
on, remember what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from bandit_router.cascade import CASCADE
from bandit_router.chain_budget import ChainBudget, strictest
from bandit_router.completion import NO_BUDGET
from bandit_router.errors import AllModelsFailed, RequestRefused, RouterError, StoreUnavailable
from bandit_router.open_stream import OpenStream
from bandit_router.store.api_keys import Scope
from bandit_router.types import Decision, Operation
from service.asking import asked
from service.body import read_object
from service.cascades import Cascades
from service.chat_request import ChatRequest
from service.decision_headers import decision_headers
from service.disconnect import first_of, watching
from service.errors import problem_of
from service.runtime import Runtime
from service.transparency import explanation
from service.turn import Turn, abandon, ask, given_up, streamed, whole


class ChatDoor:
    """The hot path."""

    def __init__(self, runtime: Runtime, operation: Operation = Operation.CHAT) -> None:
        self._runtime = runtime
        self._operation = operation
        self._cascades = Cascades(runtime)

    async def complete(self, request: Request) -> Response:
        """Answer one request of this door's operation, whole or streamed."""
        runtime = self._runtime
        begun_s = runtime.clock.monotonic_s()
        principal = await runtime.doorkeeper.admit(request.headers, Scope.ROUTE)
        body = await read_object(request, runtime.config.server)
        chat = asked(runtime, request, principal, body, self._operation)
        place = runtime.cache.place_of(chat, body)
        if (kept := place.answer(runtime.clock.monotonic_s() - begun_s)) is not None:
            return kept
        turn = Turn(request, chat, begun_s, principal)
        return place.watched(await self._asked(turn))

    async def _asked(self, turn: Turn) -> Response:
        """A model's answer, even if only the last resort's, while decisions cannot be stored."""
        try:
            return await self._routed(turn)
        except StoreUnavailable:
            names = self._without_store(turn.chat)
            if not names:
                raise
            return await self._degraded(turn, names)

    async def _routed(self, turn: Turn) -> Response:
        """The answer to a decision that is durable before its first byte leaves."""
        books = self._runtime.books
        admitted = await self._runtime.admitted(turn.principal, turn.chat.routing, cascades=True)
        decision, told = admitted.decision, admitted.headers
        # A reload may have taken it away since.
        if decision.influences.get(CASCADE) in self._runtime.config.cascades:
            return await self._cascades.answer(turn, admitted)
        names = (decision.chosen, *decision.fallbacks)
        log = self._runtime.chain.new_log(decision.id)
        beside = books.store_answers
        entered = books.enter(decision)
        if not beside:
            # A model that is paid for an answer which then may not leave would be a waste.
            await entered
        budget = self._budget(turn.chat, decision)
        call = asyncio.create_task(
            ask(self._runtime, turn.chat, names, decision.id, log, budget), name="chain"
        )
        try:
            async with watching(turn.request.receive, self._runtime.closing) as gone:
                while not (call.done() and entered.done()):
                    await first_of(*(t for t in (call, entered, gone) if not t.done()))
                    if entered.done():
                        entered.result()
                    if gone.done():
                        raise given_up(gone)
            result, upstream_s = call.result()
        except (AllModelsFailed, RequestRefused) as error:
            books.close(log.outcome(), log.attempts)
            headers = {**decision_headers(decision), **told}
            headers["x-router-attempts"] = str(len(error.attempts))
            return problem_of(error).response(headers)
        except BaseException as error:
            await abandon(call)
            if not isinstance(error, RouterError):
                books.close(log.outcome(), log.attempts)
            raise
        overhead_s = self._runtime.clock.monotonic_s() - turn.begun_s - upstream_s
        headers = {**decision_headers(decision), **told}
        if isinstance(result, OpenStream):
            explained_by = decision if turn.chat.wishes.metadata else None
            return streamed(
                self._runtime, result, headers, overhead_s, books.close_stream, explained_by
            )
        books.close(result.outcome, result.attempts)
        if turn.chat.wishes.metadata:
            result.answer.body["router"] = explanation(decision, result.attempts)
        return whole(result, headers, overhead_s)

    async def _degraded(self, turn: Turn, names: Sequence[str]) -> Response:
        """The last resort's answer while decisions cannot be stored: nothing is learned of it."""
        decision_id = self._runtime.new_id()
        log = self._runtime.chain.new_log(decision_id)
        call = asyncio.create_task(
            ask(self._runtime, turn.chat, names, decision_id, log), name="chain"
        )
        try:
            async with watching(turn.request.receive, self._runtime.closing) as gone:
                await first_of(call, gone)
                if not call.done():
                    raise given_up(gone)
            result, upstream_s = call.result()
        except BaseException:
            await abandon(call)
            raise
        overhead_s = self._runtime.clock.monotonic_s() - turn.begun_s - upstream_s
        headers = {"x-router-degraded": "store"}
        if isinstance(result, OpenStream):
            return streamed(self._runtime, result, headers, overhead_s, lambda _: None)
        return whole(result, headers, overhead_s)

    def _without_store(self, chat: ChatRequest) -> tuple[str, ...]:
        """Who may answer without a stored decision: a last resort, if the caller takes one."""
        last = self._runtime.config.last_resorts
        names = tuple(model.name for model in last if self._operation in model.serves)
        named = chat.routing.override
        return names if named is None else tuple(name for name in names if name == named)

    def _budget(self, chat: ChatRequest, decision: Decision) -> ChainBudget:
        """What all calls of the request may cost: by the file, or less by the caller."""
        limit_usd = strictest(
            self._runtime.config.fallback.max_cost_usd, chat.routing.controls.max_cost_usd
        )
        if limit_usd is None:
            return NO_BUDGET
        costs_usd = decision.prediction.cost_usd.tolist()
        return ChainBudget(limit_usd, dict(zip(decision.arms, costs_usd, strict=True)))
