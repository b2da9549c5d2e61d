"""A cascade's way through the gateway: a cheaper model, checks, then a stronger one.

Both stages are decisions of their own, under one deadline and one bound on dollars. The
stronger model gets the caller's request as it came; what the first one said is never shown it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from bandit_router.cascade import CASCADE, CheckedAnswer, Verdict, second_stage
from bandit_router.cascade.answers import answer_of_body, answer_of_pieces
from bandit_router.cascade.confidence import (
    asking_for_confidence,
    hide_confidence,
    without_confidence,
)
from bandit_router.completion import Completed
from bandit_router.config_cascade import CascadeConfig, CheckKind
from bandit_router.errors import (
    AllModelsFailed,
    LimitExceeded,
    NoEligibleModel,
    StoreUnavailable,
)
from bandit_router.open_stream import HeardStream, ModelStream
from bandit_router.types import AttemptStatus, Decision, RoutingRequest
from service.admission import Admitted
from service.cascade_stage import Failure, Stage, Stages
from service.checker import Checker
from service.decision_headers import decision_headers
from service.disconnect import end, first_of, watching
from service.errors import problem_of
from service.limit_headers import limit_headers
from service.log_lines import current_decision
from service.runtime import Runtime
from service.transparency import explanation
from service.turn import Turn, given_up, streamed, whole

PASSED, ESCALATED, EXHAUSTED = "passed", "escalated", "exhausted"


class Cascades:
    """Answers requests whose decision is the first stage of a cascade."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def answer(self, turn: Turn, admitted: Admitted) -> Response:
        """The answer of whichever stage; raises as a request without a cascade would."""
        run = _Run(self._runtime, turn, admitted)
        work = asyncio.create_task(run.answered(), name="cascade")
        try:
            async with watching(turn.request.receive, self._runtime.closing) as gone:
                await first_of(work, gone)
        finally:
            over = work.done() and not work.cancelled()
            await end(work)
        if not over:
            raise given_up(gone)
        # Of the two, the one that the answer's headers name; set in the task, it would be lost.
        current_decision.set(run.answering.id)
        return work.result()


class _Run:
    """One request on its way through a cascade."""

    def __init__(self, runtime: Runtime, turn: Turn, admitted: Admitted) -> None:
        decision = admitted.decision
        self._runtime = runtime
        self._turn = turn
        self._first = self.answering = decision
        self._limits = admitted.headers
        self._name = decision.influences[CASCADE]
        # As it is now: a reload may change it while the request is under way.
        self._config = runtime.config
        self._cascade: CascadeConfig = runtime.config.cascades[self._name]
        self._checker = Checker(runtime, turn.principal, self._cascade)
        self._ends_at_s = turn.begun_s + runtime.config.fallback.deadline_s
        self._stages = Stages(runtime, turn, lambda: self._checker.judges_usd)

    async def answered(self) -> Response:
        first = await self._first_stage()
        stage: Stage | None = None
        if first.finding.verdict is Verdict.PASSED:
            return self._told(PASSED, first)
        try:
            stage = await self._second_stage(first)
        except StoreUnavailable:
            # The first decision is stored, the second one is not, and its answer may not leave.
            if first.result is None or not self._gives_first:
                raise
        if stage is not None:
            if stage.failure is None:
                return self._told(ESCALATED, first, stage)
            failure: Failure = stage.failure
        else:
            failure = first.failure or AllModelsFailed(
                f"the answer of '{first.models[-1]}' failed check '{first.finding.check}' "
                f"({first.finding.reason}), and no stronger model could be asked; raise the "
                'request\'s bounds, or set when_exhausted = "answer"',
                first.attempts,
            )
        if first.result is not None and self._gives_first:
            self.answering = self._first
            return self._told(EXHAUSTED, first, stage)
        self._runtime.metrics.cascaded(self._name, EXHAUSTED)
        headers = {
            **decision_headers(self.answering),
            **self._limits,
            "x-router-cascade": EXHAUSTED,
        }
        attempts = failure.attempts if stage is None else (*first.attempts, *stage.attempts)
        headers["x-router-attempts"] = str(len(attempts))
        return problem_of(failure).response(headers)

    @property
    def _gives_first(self) -> bool:
        return self._cascade.when_exhausted == "answer"

    def _left_s(self) -> float:
        return self._ends_at_s - self._runtime.clock.monotonic_s()

    async def _first_stage(self) -> Stage:
        """The first answer, heard to its end, and what the checks say of it."""
        chat, operation = self._turn.chat, self._turn.chat.routing.operation
        asks = any(check.kind is CheckKind.CONFIDENCE for check in self._cascade.checks)
        upstream = asking_for_confidence(operation, chat.upstream) if asks else chat.upstream
        within_s = self._left_s() * self._cascade.first_share
        # A last resort's answer would come too early here.
        stage = await self._stages.make(self._first, upstream, within_s, spares_last_resort=True)
        result = stage.result
        if result is None:
            return stage
        answer = self._to_check(result)
        stage.finding = await self._checker.finding(answer, self._first.id, self._left_s())
        self._runtime.verdicts.teach(self._first.id, stage.finding)
        if upstream is not chat.upstream:
            _hide_confidence(result)
        return stage

    async def _second_stage(self, first: Stage) -> Stage | None:
        """A stronger model's answer or failure; None where none can be asked."""
        second = await self._second_decision(first)
        if second is None:
            return None
        return await self._stages.make(
            second,
            self._turn.chat.upstream,
            self._left_s(),
            first,
            # It would be no better than the answer that there is.
            spares_last_resort=first.result is not None and self._gives_first,
        )

    async def _second_decision(self, first: Stage) -> Decision | None:
        """A choice among stronger models; None where there is none, or no time or money left."""
        turn = self._turn
        left_usd = self._stages.left_usd(first)
        if self._left_s() <= 0.0 or (left_usd is not None and left_usd <= 0.0):
            return None
        request = second_stage(
            self._config,
            turn.chat.routing,
            cascade=self._name,
            first_id=self._first.id,
            asked=first.models,
            left_usd=left_usd,
        )
        if request is None:
            return None
        try:
            self.answering = await self._reserved(request)
        except (NoEligibleModel, LimitExceeded):
            return None
        return self.answering

    async def _reserved(self, request: RoutingRequest) -> Decision:
        decision = await self._runtime.decide(request)
        most_tokens = request.max_output_tokens
        left = await self._runtime.admission.reserve(self._turn.principal, decision, most_tokens)
        self._limits = limit_headers(left)
        return decision

    def _told(self, how: str, first: Stage, second: Stage | None = None) -> Response:
        """The answer of one of the stages on its way to the caller. second: where it was made."""
        runtime, turn = self._runtime, self._turn
        runtime.metrics.cascaded(self._name, how)
        stages = [first] if second is None else [first, second]
        given = stages[-1] if how == ESCALATED else first
        waited_s = sum(stage.upstream_s for stage in stages)
        overhead_s = runtime.clock.monotonic_s() - turn.begun_s - waited_s
        headers = {
            **decision_headers(given.decision),
            **self._limits,
            "x-router-cascade": how,
        }
        if first.finding.check and how != PASSED:
            headers["x-router-check"] = first.finding.check
        if how == ESCALATED:
            headers["x-router-first-decision-id"] = str(first.decision.id)
        if how == EXHAUSTED:
            headers["x-router-degraded"] = CASCADE
        result = given.result
        assert result is not None
        if isinstance(result, HeardStream):
            explained = given.decision if turn.chat.wishes.metadata else None

            def finished(stream: ModelStream) -> None:
                if how == ESCALATED:
                    runtime.books.close_stream(stream)
                    if stream.outcome().status is AttemptStatus.OK:
                        self._check_later(given.decision, result)

            return streamed(runtime, result, headers, overhead_s, finished, explained)
        if how == ESCALATED:
            self._check_later(given.decision, result)
        if second is not None:
            spent = [stage.cost_usd for stage in stages if stage.cost_usd is not None]
            if spent:
                headers["x-router-cost-usd"] = repr(float(sum(spent)))
            headers["x-router-attempts"] = str(sum(len(stage.attempts) for stage in stages))
        if turn.chat.wishes.metadata:
            more = {"cascade": self._explained(how, first)}
            result.answer.body["router"] = explanation(given.decision, given.attempts, **more)
        return whole(result, headers, overhead_s)

    def _explained(self, how: str, before: Stage) -> dict[str, Any]:
        """The first stage, for a caller who asks why."""
        return {
            "name": self._name,
            "result": how,
            "first_decision_id": str(before.decision.id),
            "first_models": before.models,
            "verdict": before.finding.verdict.value,
            "check": before.finding.check,
            "reason": before.finding.reason,
        }

    def _to_check(self, result: Completed | HeardStream) -> CheckedAnswer:
        chat = self._turn.chat
        operation = chat.routing.operation
        if isinstance(result, HeardStream):
            pieces = [piece.data for piece in result.held]
            return answer_of_pieces(operation, result.model, chat.upstream, pieces)
        model = result.outcome.answered_by or ""
        return answer_of_body(operation, model, chat.upstream, dict(result.answer.body))

    def _check_later(self, decision: Decision, result: Completed | HeardStream) -> None:
        """Check the second answer too: the learner is to compare like with like."""
        if not self._cascade.check_last:
            return
        answer = self._to_check(result)

        async def check() -> None:
            finding = await self._checker.finding(answer, decision.id)
            self._runtime.verdicts.teach(decision.id, finding)

        self._runtime.verdicts.later(asyncio.create_task(check(), name="check of the last answer"))


def _hide_confidence(result: Completed | HeardStream) -> None:
    if isinstance(result, HeardStream):
        result.held[:] = [without_confidence(piece) for piece in result.held]
    else:
        hide_confidence(result.answer.body)
