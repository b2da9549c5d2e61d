"""Everything that runs behind the doors, started in order and ended in reverse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router import rewards, trust
from bandit_router.activity import ActivityLog
from bandit_router.breakers import Breakers
from bandit_router.circuit import settings_of
from bandit_router.completion import FallbackChain
from bandit_router.config import RouterConfig
from bandit_router.features import build_extractor
from bandit_router.ids import uuid7
from bandit_router.learner import Learner
from bandit_router.protocols import Clock
from bandit_router.providers.registry import build_providers, close_providers
from bandit_router.providers.replayed import FaultPlan
from bandit_router.router import Router, Serving, policy_of, problem_of
from bandit_router.steering import steered
from bandit_router.store import migrate
from bandit_router.store.api_keys import ApiKeys
from bandit_router.store.decision_list import DecisionList
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import check_server, make_engine, shown
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.leadership import LeaderLock
from bandit_router.store.learner_store import SNAPSHOTS_CHANNEL, PostgresLearnerStore
from bandit_router.store.models_table import upsert_models
from bandit_router.store.notifications import Notifications
from bandit_router.store.partitions import ensure_partitions
from bandit_router.store.prediction_log import PredictionLog
from bandit_router.store.reward_log import REWARDS_CHANNEL
from bandit_router.store.rollup_reads import RollupReads
from bandit_router.store.rollups import Rollups
from bandit_router.store.session_log import SessionLog
from bandit_router.types import Decision, RoutingRequest
from service.books import Books
from service.learner_task import LearnerTask
from service.principals import Doorkeeper
from service.rollup_task import keep_rollups
from service.sessions import Sessions
from service.settings import Settings
from service.upkeep import keep_up, restore_activity

ID_BYTES = 10


class Runtime:
    """The parts that the doors use; they stand once ``start`` has returned.

    random_bytes: a source fit for secrets. faults: the plan that replayed models fail by.
    Use as an asynchronous context manager, or call ``start`` and ``stop``.
    """

    engine: AsyncEngine
    router: Router
    chain: FallbackChain
    learner: Learner
    learner_task: LearnerTask
    learner_store: PostgresLearnerStore
    inspection: InspectionStore
    decision_list: DecisionList
    predictions: PredictionLog
    keys: ApiKeys
    rollup_reads: RollupReads
    decision_log: PostgresDecisionLog
    feedback: PostgresFeedbackStore
    books: Books
    doorkeeper: Doorkeeper
    sessions: Sessions

    def __init__(
        self,
        config: RouterConfig,
        settings: Settings,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        faults: FaultPlan | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.clock = clock
        self.postgres = "not started"
        self.extractor = build_extractor(config.features)
        self.policy = policy_of(config)
        self.problem = problem_of(config, self.extractor)
        self.models = {model.name: model for model in config.models}
        self.breakers = Breakers(self.models, settings_of(config.fallback), clock)
        self._random_bytes = random_bytes
        self._faults = faults
        self._exits = AsyncExitStack()

    async def start(self) -> Self:
        """Bring everything up. Raises ConfigError or StoreError, and then leaves nothing."""
        try:
            await self._start()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def stop(self) -> None:
        """Store what is under way, and end everything; a second call does nothing."""
        await self._exits.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def new_id(self) -> UUID:
        """A decision id for this moment."""
        return uuid7(self.clock.now(), int.from_bytes(self._random_bytes(ID_BYTES), "big"))

    async def decide(self, request: RoutingRequest, *, dry_run: bool = False) -> Decision:
        """Choose a model for a request, and put it under a new id. dry_run: leave no trace.

        Tier, rules, workflow and session have their say first. Raises InvalidRequest,
        NoEligibleModel, or StoreError where the session cannot be looked up.
        """
        request = await self.sessions.pinned(steered(self.config, request))
        features = None
        if self.config.features.text == "minilm":
            # Tens of milliseconds of arithmetic would stop every other request.
            features = await asyncio.to_thread(self.extractor.extract, request)
        return self.router.decide(
            request,
            decision_id=self.new_id(),
            now=self.clock.now(),
            dry_run=dry_run,
            features=features,
        )

    async def _start(self) -> None:
        await self._open_store(await self._database_url())
        await self._open_models()
        await self._open_learning()

    async def _database_url(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url
        server = EmbeddedPostgres(self.config.store.data_dir)
        await asyncio.to_thread(server.start)
        self._exits.push_async_callback(asyncio.to_thread, server.stop)
        self.postgres = f"embedded, in {server.folder}"
        return server.url

    async def _open_store(self, url: str) -> None:
        config, exits = self.config, self._exits
        self.engine = make_engine(url)
        exits.push_async_callback(self.engine.dispose)
        version = await check_server(self.engine)
        if self.settings.database_url is not None:
            self.postgres = f"{shown(self.engine)} (Postgres {version})"
        await migrate.upgrade(url)
        await ensure_partitions(self.engine, self.clock.now())
        await upsert_models(self.engine, config.models)
        self.inspection = InspectionStore(self.engine)
        self.rollup_reads = RollupReads(self.engine)
        self.learner_store = PostgresLearnerStore(self.engine)
        self.decision_list = DecisionList(self.engine)
        self.predictions = PredictionLog(self.engine)
        self.keys = ApiKeys(self.engine, self._random_bytes)
        self.sessions = Sessions(config.sessions, SessionLog(self.engine), self.models, self.clock)
        self.doorkeeper = Doorkeeper(
            self.keys,
            self.clock,
            require_api_key=config.server.require_api_key,
        )
        combine = partial(rewards.combined, rewards=config.rewards)
        self.feedback = await exits.enter_async_context(
            PostgresFeedbackStore(
                self.engine, combine, partial(trust.open_ledger, config=config.feedback)
            )
        )
        self.decision_log = await exits.enter_async_context(PostgresDecisionLog(self.engine))
        self.books = Books(self.decision_log)
        exits.push_async_callback(self.books.settle, self.settings.shutdown_s)

    async def _open_models(self) -> None:
        providers = build_providers(
            self.config.models,
            environ=self.settings.environ,
            clock=self.clock,
            faults=self._faults,
        )
        self._exits.push_async_callback(close_providers, providers)
        self.chain = FallbackChain(
            self.models,
            providers,
            self.config.fallback,
            breakers=self.breakers,
            clock=self.clock,
            rng=random.Random(self._random_bytes(ID_BYTES)),
        )

    async def _open_learning(self) -> None:
        config, exits = self.config, self._exits
        self.learner = Learner(
            self.learner_store,
            self.problem,
            self.policy,
            self.extractor.version,
            config.learner,
            self.clock,
        )
        activity = ActivityLog(len(self.problem.arms))
        await restore_activity(activity, self.inspection, self.problem.arms, self.clock.now())
        self.router = Router(
            config,
            self.extractor,
            self.problem,
            self.policy,
            await self.learner.load(),
            breakers=self.breakers,
            activity=activity,
            secret=self.settings.draw_secret,
        )
        notifications = Notifications(self.engine, (REWARDS_CHANNEL, SNAPSHOTS_CHANNEL))
        await exits.enter_async_context(notifications)
        lock = LeaderLock(self.engine)
        exits.push_async_callback(lock.release)
        self.learner_task = LearnerTask(
            self.learner,
            lock,
            self.learner_store,
            notifications,
            self._serve,
            self.clock,
            policy=self.policy.name,
            interval_s=config.learner.interval_s,
            snapshots_kept=config.store.snapshots_kept,
        )
        self._in_background(self.learner_task.run(), "learner")
        upkeep = keep_up(self.engine, activity, self.inspection, self.problem.arms, self.clock)
        self._in_background(upkeep, "upkeep")
        rollups = Rollups(self.engine, config.features.metadata)
        sums = keep_rollups(rollups, self.clock, lambda: self.learner_task.leads)
        self._in_background(sums, "rollups")

    def _serve(self, serving: Serving) -> None:
        self.router.serving = serving

    def _in_background(self, work: Coroutine[None, None, None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._exits.push_async_callback(end)
