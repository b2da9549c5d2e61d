"""What an operator should know of now: breakers, budget, learner, configuration, and models
that are no longer what they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from bandit_router.alarms import changes
from bandit_router.circuit import CircuitState
from bandit_router.config import AlarmKind
from bandit_router.store.engine import store_errors

if TYPE_CHECKING:  # the runtime itself starts what stands here
    from service.runtime import Runtime

# A debt of so many requests' budgets is more than the pacer's ordinary swing.
DEBT_REQUESTS = 200.0
# Feedback that waits longer than this to be learned from.
STALL = timedelta(seconds=60)
# Where a transaction that is still open holds the learner back, that is a stall too.
WAITING = text(
    "SELECT created_at FROM rewards WHERE (xid, seq) > (:xid, :seq) ORDER BY xid, seq LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong. subject: the model, or ``router``. since: when it was first seen
    here. evidence: what shows it."""

    kind: AlarmKind
    subject: str
    since: datetime
    evidence: str


class AlarmBoard:
    """The alarms that stand, as this process sees them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._since: dict[tuple[AlarmKind, str], datetime] = {}

    async def look(self) -> tuple[Alarm, ...]:
        """Every alarm that stands now. Raises StoreUnavailable without a database."""
        now = self._runtime.clock.now()
        found = [
            *self._breakers(),
            *self._budget(),
            *self._configuration(),
            *self._changed_models(),
            *self._held_challenger(),
        ]
        stalled = await self._stalled(now)
        if stalled is not None:
            found.append((AlarmKind.LEARNER, "router", stalled))
        standing = {(kind, subject): evidence for kind, subject, evidence in found}
        self._since = {key: self._since.get(key, now) for key in standing}
        return tuple(
            Alarm(kind, subject, self._since[kind, subject], evidence)
            for (kind, subject), evidence in standing.items()
        )

    def _breakers(self) -> Iterator[tuple[AlarmKind, str, str]]:
        for name in self._runtime.models:
            health = self._runtime.breakers.health(name)
            if health.state is CircuitState.OPEN:
                yield AlarmKind.BREAKER, name, health.reason or "open"

    def _budget(self) -> Iterator[tuple[AlarmKind, str, str]]:
        budget_usd = self._runtime.problem.budget_usd
        debt_usd = -self._runtime.router.serving.state.pacer.account_usd
        if budget_usd and debt_usd > DEBT_REQUESTS * budget_usd:
            yield (
                AlarmKind.BUDGET,
                "router",
                f"${debt_usd:.4g} more were spent than ${budget_usd:.4g} a request allow: "
                f"{debt_usd / budget_usd:.0f} requests' worth",
            )

    def _configuration(self) -> Iterator[tuple[AlarmKind, str, str]]:
        error = self._runtime.live.last_error
        if error is not None:
            yield AlarmKind.CONFIGURATION, "router", f"a change was not taken up: {error}"

    def _changed_models(self) -> Iterator[tuple[AlarmKind, str, str]]:
        state = self._runtime.router.serving.state
        for change in changes(state.watch, state.pacer.paid):
            model = self._runtime.problem.arms[change.arm]
            kind = AlarmKind(change.kind)
            what = "the rate of failed calls" if kind is AlarmKind.FAILURE else kind.value
            yield (
                kind,
                model,
                f"{what} is {'higher' if change.risen else 'lower'} than it was: odds of "
                f"{change.odds:,.0f} to 1, {change.requests} requests ago",
            )

    def _held_challenger(self) -> Iterator[tuple[AlarmKind, str, str]]:
        challenge, error = self._runtime.challenge, self._runtime.trial_watch.last_error
        if challenge is None:
            return
        name = challenge.setting.challenger.name
        if challenge.setting.held_by_router:
            yield AlarmKind.CHALLENGER, name, f"it was sent back: {challenge.setting.held}"
        elif error is not None:
            yield AlarmKind.CHALLENGER, name, f"nobody watches its trial: {error}"

    async def waiting_s(self, now: datetime) -> float:
        """How long the oldest row that this process has not learned from waits; 0 without one.

        Raises StoreUnavailable without a database.
        """
        if self._runtime.learner.frozen:
            return 0.0
        xid, seq = self._runtime.learner.progress.cursor
        with store_errors(self._runtime.engine):
            async with self._runtime.engine.connect() as connection:
                oldest = await connection.scalar(WAITING, {"xid": xid, "seq": seq})
        return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())

    async def _stalled(self, now: datetime) -> str | None:
        waited_s = await self.waiting_s(now)
        if waited_s <= STALL.total_seconds():
            return None
        error = self._runtime.learner_standing.last_error
        return f"feedback waits for {waited_s:.0f} s to be learned from" + (
            f": {error}" if error else ""
        )
