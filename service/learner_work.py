"""What the learner's process works at: the serving policy, a challenger, the dashboard's sums."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.config import RouterConfig
from bandit_router.errors import ConfigError
from bandit_router.features import build_extractor
from bandit_router.learner import Learner
from bandit_router.learning import Problem
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.policies import Policy
from bandit_router.prior_file import read_prior
from bandit_router.protocols import Clock
from bandit_router.router import policy_of, problem_of
from bandit_router.store.leadership import LEARNER_LOCK
from bandit_router.store.learner_store import PostgresLearnerStore
from bandit_router.store.rollups import Rollups
from service.challenge import challenger_config
from service.learner_duty import Duty
from service.learner_standing import Role, Standing
from service.learning_line import CHALLENGER_LOCK, LearningLine
from service.rollup_task import keep_rollups


class LearnerWork:
    """Leads where it can, by whatever duty it was given last. Use as an asynchronous context
    manager, whose end gives the locks up."""

    def __init__(self, engine: AsyncEngine, config: RouterConfig, clock: Clock) -> None:
        self._engine = engine
        self._store = PostgresLearnerStore(engine)
        # Features cannot change while the router runs.
        self._extractor = build_extractor(config.features)
        self._rollups = Rollups(engine, config.features.metadata)
        self._clock = clock
        self._prior: tuple[Path, OutcomePrior] | None = None
        self._champion: LearningLine | None = None
        self._challenger: LearningLine | None = None
        self._exits = AsyncExitStack()
        self.last_error: str | None = None

    async def __aenter__(self) -> LearnerWork:
        sums = keep_rollups(self._rollups, self._clock, self._leads)
        task = asyncio.create_task(sums, name="rollups")
        self._exits.push_async_callback(asyncio.wait, [task])
        self._exits.callback(task.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in (self._champion, self._challenger):
            if line is not None:
                await line.stop()
        await self._exits.aclose()

    def standings(self) -> dict[str, Standing]:
        """Where every line stands, by its name."""
        lines = [line for line in (self._champion, self._challenger) if line is not None]
        return {line.name: line.standing for line in lines}

    async def take(self, duty: Duty) -> None:
        """Work at this from now on. Raises ConfigError, and then nothing has changed."""
        config, trial = duty.config, duty.trial
        prior = self._prior_of(duty)
        champion = self._parts(config, prior)
        challenger = None
        if trial is not None:
            challenger = self._parts(challenger_config(config, trial), prior)
        self._champion = await self._taken_up(
            self._champion, champion, config, LEARNER_LOCK, frozen=duty.frozen
        )
        self._challenger = await self._taken_up(
            self._challenger,
            challenger,
            config,
            CHALLENGER_LOCK,
            frozen=trial is not None and trial.frozen,
            books=False,
        )

    def _leads(self) -> bool:
        return self._champion is not None and self._champion.standing.role is Role.LEADS

    def _prior_of(self, duty: Duty) -> OutcomePrior | None:
        path = duty.config.policy.prior
        if path is None:
            return None
        if self._prior is None or self._prior[0] != path:
            self._prior = (path, read_prior(path))
        prior = self._prior[1]
        if prior.digest != duty.prior_digest:
            raise ConfigError(
                f"{path} is another prior than the service has read: restart the service, or "
                "bring the file back"
            )
        return prior

    def _parts(
        self, config: RouterConfig, prior: OutcomePrior | None
    ) -> tuple[Policy[Any], Problem]:
        return policy_of(config), problem_of(config, self._extractor, prior)

    async def _taken_up(
        self,
        line: LearningLine | None,
        parts: tuple[Policy[Any], Problem] | None,
        config: RouterConfig,
        lock_key: int,
        *,
        frozen: bool,
        books: bool = True,
    ) -> LearningLine | None:
        """The line for these parts, started: the one that is there, where the name is the same."""
        if line is not None and parts is not None and line.name == parts[0].name:
            policy, problem = parts
            line.learner.adopt(problem, policy)
            line.task.wake()
            return line
        if line is not None:
            await line.stop()
        if parts is None:
            return None
        policy, problem = parts
        learner = Learner(
            self._store,
            problem,
            policy,
            self._extractor.version,
            config.learner,
            self._clock,
            frozen=frozen,
            books=books,
        )
        line = LearningLine(
            self._engine,
            self._store,
            learner,
            None,
            self._clock,
            name=policy.name,
            interval_s=config.learner.interval_s,
            snapshots_kept=config.store.snapshots_kept,
            lock_key=lock_key,
        )
        line.start()
        return line
