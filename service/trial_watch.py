"""Follows the trial under way: every replica counts, the one that learns acts."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from bandit_router.config_challengers import Stage, TrialSetting
from bandit_router.errors import RouterError
from bandit_router.store.standing_alarms import StandingAlarms
from bandit_router.store.trial_store import TrialStore
from bandit_router.trial_evidence import TrialEvidence, TrialNumbers
from bandit_router.trial_verdict import Step, Verdict, verdict
from service.trials import THE_ROUTER, Trials

if TYPE_CHECKING:  # the runtime itself starts what stands here
    from service.runtime import Runtime

EVERY_S = 1.0
PAGE_ROWS = 2_000
# Of alarms, those that speak of a model; a router's own are nobody's doing.
OF_MODELS = ("quality", "cost", "failure", "breaker")
log = logging.getLogger(__name__)


class TrialWatch:
    """The evidence of the trial under way, and the steps that follow from it.

    numbers, verdict: as of the last look; None without a trial.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = EVERY_S) -> None:
        self._runtime = runtime
        self._every_s = every_s
        self._store = TrialStore(runtime.engine)
        self._trials = Trials(runtime)
        self._evidence: TrialEvidence | None = None
        self._of: TrialSetting | None = None
        self._cursor = (0, 0)
        self._failures_before = 0
        self.numbers: TrialNumbers | None = None
        self.verdict: Verdict | None = None
        self.last_error: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
                self.last_error = None
            except RouterError as error:
                self._note(error)
                log.warning("no look at the trial: %s", error)
            except Exception as error:
                # A trial that nobody watches is worse than one that is counted anew.
                self._note(error)
                log.exception("looking at the trial failed; counting anew")
            await asyncio.sleep(self._every_s)

    def _note(self, error: Exception) -> None:
        self.last_error = f"{type(error).__name__}: {error}"
        # Rows may have been counted in part: their sums go, and are read again.
        self._evidence = None

    async def look(self) -> None:
        """Count what arrived, and take the step that follows if this process leads."""
        challenge = self._runtime.challenge
        if challenge is None:
            self._of = self._evidence = self.numbers = self.verdict = None
            return
        setting, contender = challenge.setting, challenge.contender
        if self._evidence is None or not _same_stage(self._of, setting):
            self._evidence = TrialEvidence(
                alpha=setting.challenger.alpha,
                share=setting.challenger.share,
                budget_usd=contender.problem.budget_usd,
            )
            self._cursor, self._failures_before = setting.cursor, contender.failures
        self._of = setting
        await self._count(setting, self._evidence)
        numbers = await asyncio.to_thread(self._evidence.numbers)
        alarms = await self._alarms(setting)
        failures = contender.failures - self._failures_before
        found = verdict(setting, numbers, alarms, failures, contender.last_error)
        self.numbers, self.verdict = numbers, found
        standing = self._runtime.challenge
        if (
            standing is not None
            and standing.setting == setting
            and self._runtime.learner_standing.leads
        ):
            await self._act(setting, numbers, found)

    async def _count(self, setting: TrialSetting, evidence: TrialEvidence) -> None:
        while True:
            page = await self._store.arrived(
                setting.line,
                setting.stage_since,
                self._cursor,
                canary=setting.stage is Stage.CANARY,
                limit=PAGE_ROWS,
            )
            if page.cursor == self._cursor:
                return
            await asyncio.to_thread(evidence.add, page.rows)
            self._cursor = page.cursor

    async def _alarms(self, setting: TrialSetting) -> list[tuple[str, str, str]]:
        if setting.stage is not Stage.CANARY:
            return []
        raised = await StandingAlarms(self._runtime.engine).raised_since(setting.stage_since)
        return [(a.kind, a.subject, a.evidence) for a in raised if a.kind in OF_MODELS]

    async def _act(self, setting: TrialSetting, numbers: TrialNumbers, found: Verdict) -> None:
        told = shown_numbers(numbers)
        if found.step is Step.BACK:
            log.warning("challenger %s goes back: %s", setting.challenger.name, found.reason)
            await self._trials.move(
                Stage.SHADOW, actor=THE_ROUTER, reason=found.reason, held=True, numbers=told
            )
        elif found.step is Step.CANARY:
            await self._trials.move(
                Stage.CANARY, actor=THE_ROUTER, reason=found.reason, numbers=told
            )
        elif found.step is Step.PROMOTE:
            await self._trials.promote(actor=THE_ROUTER, reason=found.reason, numbers=told)


def shown_numbers(numbers: TrialNumbers) -> dict[str, object]:
    """The numbers of a trial by name; NaN is null."""
    values = {name: getattr(numbers, name) for name in TrialNumbers.__slots__}
    return {
        name: None if isinstance(value, float) and value != value else value
        for name, value in values.items()
    } | {"refused": numbers.refused}


def _same_stage(before: TrialSetting | None, now: TrialSetting) -> bool:
    """Whether evidence goes on: the same stage of the same trial."""
    return before is not None and (before.line, before.stage, before.stage_since) == (
        now.line,
        now.stage,
        now.stage_since,
    )
