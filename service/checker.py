"""Makes a cascade's checks: in a thread, by the operator's function, or by a judge model."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from bandit_router.cascade import CheckedAnswer, Finding, Verdict, judged, pure_finding
from bandit_router.cascade.answers import answer_of_body
from bandit_router.cascade.judge import judge_messages
from bandit_router.cascade.verdict import ALL_PASSED
from bandit_router.config_cascade import CascadeConfig, CheckConfig, CheckKind
from bandit_router.errors import AllModelsFailed, RequestRefused, RouterError
from bandit_router.store.api_keys import Principal
from bandit_router.types import Operation, RoutingRequest
from service.runtime import Runtime

JUDGE_OF = "judge_of"
log = logging.getLogger(__name__)


class Checker:
    """Runs checks on one request's answers, and knows what its judges have cost."""

    def __init__(self, runtime: Runtime, principal: Principal, cascade: CascadeConfig) -> None:
        self._runtime = runtime
        self._principal = principal
        self._cascade = cascade
        # As they are now: a reload may take them away while the request is under way.
        self._functions = runtime.functions
        self.judges_usd = 0.0

    async def finding(
        self, answer: CheckedAnswer, decision_id: UUID, within_s: float | None = None
    ) -> Finding:
        """What the checks say, in their order up to the first that is not passed.

        within_s: for all of them, beside the time that each may take.
        """
        loop = asyncio.get_running_loop()
        ends_at = None if within_s is None else loop.time() + within_s
        for check in self._cascade.checks:
            left_s = self._cascade.check_timeout_s
            if ends_at is not None:
                left_s = min(left_s, ends_at - loop.time())
            try:
                async with asyncio.timeout(left_s):
                    found = await self._one(check, answer, decision_id, left_s)
            except TimeoutError:
                found = Finding.unknown(check, f"it took longer than {left_s:.3g} s")
            if found.verdict is not Verdict.PASSED:
                return found
        return ALL_PASSED

    async def _one(
        self, check: CheckConfig, answer: CheckedAnswer, decision_id: UUID, within_s: float
    ) -> Finding:
        if check.kind is CheckKind.PYTHON:
            return await self._function(check, answer)
        if check.kind is CheckKind.JUDGE:
            return await self._judge(check, answer, decision_id, within_s)
        # A schema or an expression may take long over an answer that is.
        return await asyncio.to_thread(pure_finding, check, answer)

    async def _function(self, check: CheckConfig, answer: CheckedAnswer) -> Finding:
        function = self._functions[check.function or ""]
        try:
            said = await asyncio.to_thread(function, answer)
            if not isinstance(said, bool | str):
                said = await said
        # The operator's own code may raise anything.
        except Exception as error:
            log.warning("check %s failed", check.function, exc_info=True)
            return Finding.unknown(check, f"{check.function} raised {type(error).__name__}")
        if said is True:
            return Finding.passed(check)
        return Finding.failed(check, said if isinstance(said, str) else f"{check.function}")

    async def _judge(
        self, check: CheckConfig, answer: CheckedAnswer, decision_id: UUID, within_s: float
    ) -> Finding:
        """A judge's call is a decision of its own: logged, limited and paid for as any other."""
        runtime = self._runtime
        messages = judge_messages(check, answer)
        request = RoutingRequest(
            messages=messages,
            override=check.model,
            tenant=self._principal.tenant,
            influences={JUDGE_OF: str(decision_id)},
        )
        try:
            decision = await runtime.decide(request)
            await runtime.admission.reserve(self._principal, decision, None)
        except RouterError as error:
            return Finding.unknown(check, f"the judge cannot be asked: {error}")
        log_of_calls = runtime.chain.new_log(decision.id)
        try:
            await runtime.books.enter(decision)
            done = await runtime.chain.complete(
                (decision.chosen,),
                {"messages": list(messages)},
                decision_id=decision.id,
                context={},
                log=log_of_calls,
                deadline_s=within_s,
            )
        except (AllModelsFailed, RequestRefused) as error:
            return Finding.unknown(check, f"the judge did not answer: {error}")
        finally:
            outcome = log_of_calls.outcome()
            runtime.books.close(outcome, log_of_calls.attempts)
            self.judges_usd += outcome.cost_usd or 0.0
        reply = answer_of_body(Operation.CHAT, decision.chosen, {}, done.answer.body)
        return judged(check, reply.text)
