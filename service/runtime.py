"""Everything that runs behind the doors, started in order and ended in reverse."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router import rewards, trust
from bandit_router.activity import ActivityLog
from bandit_router.breakers import Breakers
from bandit_router.cascade import first_stage
from bandit_router.cascade.functions import CheckFunction, load_functions
from bandit_router.circuit import settings_of
from bandit_router.completion import FallbackChain
from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.errors import LimitExceeded, NoEligibleModel
from bandit_router.features import build_extractor
from bandit_router.ids import uuid7
from bandit_router.learner import Learner
from bandit_router.learning import Problem
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.overlay import Overlay
from bandit_router.policies import Policy
from bandit_router.prior_file import read_prior
from bandit_router.protocols import Clock, Provider
from bandit_router.providers.registry import build_providers, close_providers
from bandit_router.providers.replayed import FaultPlan
from bandit_router.roster import adapted
from bandit_router.router import Router, policy_of, problem_of
from bandit_router.serving import Serving
from bandit_router.snapshot import prior_digest
from bandit_router.steering import steered
from bandit_router.store import migrate
from bandit_router.store.api_keys import ApiKeys, Principal
from bandit_router.store.decision_list import DecisionList
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import check_server, make_engine, shown
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.leadership import LEARNER_LOCK
from bandit_router.store.learner_store import PostgresLearnerStore
from bandit_router.store.limit_store import LimitStore
from bandit_router.store.live_settings import LIVE_CHANNEL, LiveSettings
from bandit_router.store.models_table import upsert_models
from bandit_router.store.notifications import Notifications
from bandit_router.store.partitions import ensure_partitions
from bandit_router.store.prediction_log import PredictionLog
from bandit_router.store.rollup_reads import RollupReads
from bandit_router.store.rollups import Rollups
from bandit_router.store.session_log import SessionLog
from bandit_router.types import Decision, RoutingRequest
from bandit_router.upstream_limits import UpstreamLimits
from service.admission import Admission, Admitted
from service.alarms import AlarmBoard
from service.alerts import Alerts
from service.books import Books
from service.budgets import Budgets
from service.challenge import Challenge, challenger_parts, prepared
from service.closing import Closing
from service.learner_child import LearnerChild
from service.learner_duty import Duty
from service.learner_standing import Standing
from service.learning_line import LearningLine
from service.limit_headers import limit_headers
from service.live import LiveConfiguration
from service.metrics import Metrics
from service.principals import Doorkeeper
from service.rate_leases import RateLeases
from service.response_cache import ResponseCache
from service.rollup_task import keep_rollups
from service.sessions import Sessions
from service.settings import Settings
from service.trial_watch import TrialWatch
from service.upkeep import keep_up, restore_activity
from service.verdicts import Verdicts

if TYPE_CHECKING:
    from service.tracing.spans import Tracing

ID_BYTES = 10
# After the chain's deadline, a stream may be read for so long yet.
LEAVING_S = 30.0
log = logging.getLogger(__name__)


class Runtime:
    """The parts that the doors use; they stand once ``start`` has returned.

    random_bytes: a source fit for secrets. faults: the plan that replayed models fail by.
    tracing: where spans go, if anywhere; whoever opened it closes it. learns_apart: whether the
    learner is a process of its own, and this one follows it as it would another replica.
    Use as an asynchronous context manager, or call ``start`` and ``stop``.
    """

    engine: AsyncEngine
    router: Router
    chain: FallbackChain
    learner: Learner
    learner_store: PostgresLearnerStore
    inspection: InspectionStore
    decision_list: DecisionList
    predictions: PredictionLog
    keys: ApiKeys
    rollup_reads: RollupReads
    decision_log: PostgresDecisionLog
    feedback: PostgresFeedbackStore
    books: Books
    verdicts: Verdicts
    doorkeeper: Doorkeeper
    sessions: Sessions
    admission: Admission
    budgets: Budgets
    live: LiveConfiguration
    live_settings: LiveSettings
    alarms: AlarmBoard
    trial_watch: TrialWatch

    def __init__(
        self,
        config: RouterConfig,
        settings: Settings,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        faults: FaultPlan | None = None,
        reread: Callable[[], RouterConfig] | None = None,
        tracing: Tracing | None = None,
        learns_apart: bool = False,
    ) -> None:
        self.config = config
        self.settings = settings
        self.clock = clock
        self.tracing = tracing
        self.postgres = "not started"
        self.metrics = Metrics()
        self.served_at_s = clock.monotonic_s()
        self.extractor = build_extractor(config.features)
        self.policy = policy_of(config)
        self._priors: dict[Path, OutcomePrior] = {}
        self.challenge: Challenge | None = None
        self.problem = self.problem_of(config)
        self.models = {model.name: model for model in config.models}
        self.functions = load_functions(config)
        self.breakers = Breakers(self.models, settings_of(config.fallback), clock)
        self.limits = UpstreamLimits(self.models, clock)
        self.cache = ResponseCache(config, clock)
        self.closing = Closing()
        self._random_bytes = random_bytes
        self._faults = faults
        self._reread = reread
        self.learner_child = LearnerChild(clock) if learns_apart else None
        self._providers: dict[str, Provider] = {}
        self._leaving: dict[asyncio.Task[None], dict[str, Provider]] = {}
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

    async def decide(
        self, request: RoutingRequest, *, dry_run: bool = False, cascades: bool = False
    ) -> Decision:
        """Choose a model for a request, and put it under a new id. dry_run: leave no trace.

        Tier, rules, workflow and session have their say first. cascades: whether this may be
        the first stage of one. Raises InvalidRequest, NoEligibleModel, or StoreError where the
        session cannot be looked up.
        """
        if self.tracing is None:
            return await self._decide(request, dry_run, cascades)
        with self.tracing.deciding() as span:
            decision = await self._decide(request, dry_run, cascades)
            span.made(decision, dry_run=dry_run)
            return decision

    async def _decide(self, request: RoutingRequest, dry_run: bool, cascades: bool) -> Decision:
        request = await self.sessions.pinned(steered(self.config, request))
        request = await self.budgets.within(request)
        if cascades and request.cascade is not None:
            staged = first_stage(self.config, request)
            if staged is not request:
                try:
                    return await self._choose(staged, dry_run=dry_run)
                except NoEligibleModel:
                    log.info("cascade %s: none of its first models is eligible", request.cascade)
        return await self._choose(request, dry_run=dry_run)

    async def _choose(self, request: RoutingRequest, *, dry_run: bool) -> Decision:
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

    async def admitted(
        self, principal: Principal, request: RoutingRequest, *, cascades: bool = False
    ) -> Admitted:
        """A decision whose greatest cost is reserved, and what its caller is told of limits.

        Raises LimitExceeded where a limit is used up and nothing local is to answer instead.
        """
        decision = await self.decide(request, cascades=cascades)
        most, told = request.max_output_tokens, {}
        try:
            try:
                left = await self.admission.reserve(principal, decision, most)
            except LimitExceeded as error:
                # A look at the day's budget may be old: what is left may pay for another model.
                if error.what != "usd" or not self.budgets.forget(request):
                    raise
                decision = await self.decide(request, cascades=cascades)
                left = await self.admission.reserve(principal, decision, most)
        except LimitExceeded as error:
            local = self.admission.local_instead(request) if error.what == "usd" else None
            if local is None:
                raise
            decision = await self.decide(local)
            left = await self.admission.reserve(principal, decision, most, dollars=False)
            told = {"x-router-degraded": "budget"}
        return Admitted(decision, {**told, **limit_headers(left)} if left else told)

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
        self.live_settings = LiveSettings(self.engine)
        self.live = LiveConfiguration(config, self.live_settings, self._take_up, self._reread)
        self._use(await self.live.begin())
        config = self.config
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

        def combine(values: Mapping[str, float]) -> Any:
            return rewards.combined(values, rewards=self.config.rewards)

        self.feedback = await exits.enter_async_context(
            PostgresFeedbackStore(
                self.engine, combine, partial(trust.open_ledger, config=config.feedback)
            )
        )
        self.decision_log = await exits.enter_async_context(PostgresDecisionLog(self.engine))
        limits = await exits.enter_async_context(LimitStore(self.engine))
        self.admission = Admission(config, limits, self.models, self.clock)
        self.budgets = Budgets(config, limits, self.models, self.clock)
        exits.push_async_callback(self.admission.settled, self.settings.shutdown_s)
        self.books = Books(self.decision_log, self.admission, self.metrics)
        exits.push_async_callback(self.books.settle, self.settings.shutdown_s)
        self.verdicts = Verdicts(self.feedback, self.clock)
        exits.push_async_callback(self.verdicts.settle, self.settings.shutdown_s)

    async def _open_models(self) -> None:
        # What is open when the service ends, whichever models came and went.
        self._exits.push_async_callback(self._close_models)
        leases = RateLeases(self.engine, self.limits)
        await leases.look()
        self._exits.push_async_callback(leases.close)
        self._in_background(leases.run(), "rate leases")
        self._providers = self._build(self.config.models)
        self.chain = self._chain_of(self.config, self._providers, self.models)

    async def _open_learning(self) -> None:
        config, exits = self.config, self._exits
        overlay = self.live.overlay
        self.learner = self._learner_of(config, self.policy, self.problem, overlay)
        self.challenge = await prepared(self, config, overlay.trial, None)
        activity = ActivityLog(len(self.problem.arms))
        await restore_activity(activity, self.inspection, self.problem.arms, self.clock.now())
        self.router = self._router_of(
            config, await self.learner.load(), activity, overlay, self.challenge
        )
        self._activity = activity
        self._learning = self._line_of(config, self.learner)
        self._learning.start()
        if self.challenge is not None:
            self.challenge.learning.start()
        exits.push_async_callback(self._stop_learning)
        if self.learner_child is not None:
            self.learner_child.start(self._duty(overlay))
            if self.router.serving.version == 0:
                # What comes first teaches most: nothing of it is to be routed unlearned.
                await self.learner_child.until_it_leads()
        upkeep = keep_up(
            self.engine, lambda: (self._activity, self.problem.arms), self.inspection, self.clock
        )
        self._in_background(upkeep, "upkeep")
        if self.learner_child is None:
            rollups = Rollups(self.engine, config.features.metadata)
            sums = keep_rollups(rollups, self.clock, lambda: self.learner_standing.leads)
            self._in_background(sums, "rollups")

        heard = Notifications(self.engine, (LIVE_CHANNEL,))
        await exits.enter_async_context(heard)
        self._in_background(self.live.follow(heard), "live configuration")
        self.alarms = AlarmBoard(self)
        self.trial_watch = TrialWatch(self)
        self._in_background(self.trial_watch.run(), "trial watch")
        self._in_background(Alerts(self, self.alarms).run(), "alerts")

    def _serve(self, serving: Serving) -> None:
        # For a moment after a change the learner still speaks of the models before it.
        if self.learner.problem is self.problem:
            if serving.version != self.router.serving.version:
                self.served_at_s = self.clock.monotonic_s()
            self.router.serving = serving

    @property
    def learner_standing(self) -> Standing:
        """Where learning stands on this replica, for the serving policy."""
        return self.standing_of(self._learning)

    def standing_of(self, line: LearningLine) -> Standing:
        """Where a line of learning stands on this replica."""
        if self.learner_child is None:
            return line.standing
        return self.learner_child.standing(line.name, line.standing)

    def lock_of(self, key: int) -> int | None:
        """The lock that a line of learning asks for in this process; None where it follows."""
        return key if self.learner_child is None else None

    def _duty(self, overlay: Overlay) -> Duty:
        champion = overlay.champion
        return Duty(
            database_url=self.engine.url.render_as_string(hide_password=False),
            config=self.config,
            prior_digest=prior_digest(self.problem),
            frozen=champion is not None and champion.frozen,
            trial=overlay.trial,
        )

    def problem_of(self, config: RouterConfig) -> Problem:
        """What the learner is told of a configuration. Raises ConfigError."""
        path = config.policy.prior
        if path is None:
            return problem_of(config, self.extractor)
        if path not in self._priors:
            # Read once: a reload keeps it, since another prior is another past.
            self._priors[path] = read_prior(path)
        return problem_of(config, self.extractor, self._priors[path])

    def check_fits(self, config: RouterConfig, overlay: Overlay) -> None:
        """Raise ConfigError where this configuration could not be taken up."""
        policy_of(config)
        self.problem_of(config)
        self._build(config.models)
        if overlay.trial is not None:
            challenger_parts(self, config, overlay.trial)
        load_functions(config)

    async def _take_up(self, config: RouterConfig, overlay: Overlay) -> None:
        """Swap in what a configuration makes. Raises ConfigError, or StoreError without a
        database, and then nothing has moved."""
        functions = load_functions(config)
        policy, problem = policy_of(config), self.problem_of(config)
        challenge = await prepared(self, config, overlay.trial, self.challenge)
        old_models, old_providers = dict(self.models), self._providers
        kept = {
            model.name: old_providers[model.name]
            for model in config.models
            if old_models.get(model.name) == model
        }
        fresh = self._build([model for model in config.models if model.name not in kept])
        providers = {**kept, **fresh}
        activity = ActivityLog(len(problem.arms))
        await restore_activity(activity, self.inspection, problem.arms, self.clock.now())
        learner = self.learner
        if policy.name != self.policy.name:
            # Another line of what is learned: a challenger was promoted, or went back.
            learner = self._learner_of(config, policy, problem, overlay)
            serving = await learner.load()
        else:
            serving = self.router.serving
            state = adapted(policy, serving.state, self.problem, problem)
            serving = Serving(serving.version, state)
        await upsert_models(self.engine, config.models)
        # From here on nothing waits or fails: a request sees the old parts or the new ones.
        models = {model.name: model for model in config.models}
        # Decided before, called after: who went away still answers those requests.
        self.chain = self._chain_of(
            config, {**old_providers, **providers}, {**old_models, **models}
        )
        self._use(config, policy, problem, functions)
        self.admission.follow(config)
        self.budgets.follow(config)
        self.sessions.follow(config.sessions)
        self._providers, self._activity = providers, activity
        left = self._swap_learning(config, learner, challenge)
        self.router = self._router_of(config, serving, activity, overlay, challenge)
        if learner.problem is not problem:
            learner.adopt(problem, policy)
            self._learning.task.wake()
        if self.learner_child is not None:
            self.learner_child.assign(self._duty(overlay))
        for line in left:
            await line.stop()
        leaving = {n: p for n, p in old_providers.items() if providers.get(n) is not p}
        if leaving:
            task = asyncio.create_task(self._let_go(leaving), name="models that leave")
            self._leaving[task] = leaving
            task.add_done_callback(self._forget)
        log.info("the configuration is a new one: models %s", ", ".join(models))

    def _use(
        self,
        config: RouterConfig,
        policy: Policy[Any] | None = None,
        problem: Problem | None = None,
        functions: dict[str, CheckFunction] | None = None,
    ) -> None:
        self.functions = load_functions(config) if functions is None else functions
        self.config = config
        self.policy = policy or policy_of(config)
        self.problem = problem or self.problem_of(config)
        # In place: breakers and sessions look into this very dictionary.
        self.models.clear()
        self.models.update({model.name: model for model in config.models})
        self.limits.follow(self.models)
        self.cache.begin_anew(config)

    async def _let_go(self, providers: dict[str, Provider]) -> None:
        await asyncio.sleep(self.config.fallback.deadline_s + LEAVING_S)
        await close_providers(providers)

    def _forget(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._leaving.pop(task, None)

    async def _close_models(self) -> None:
        for task in self._leaving:
            task.cancel()
        for leaving in (*self._leaving.values(), self._providers):
            await close_providers(leaving)

    def _build(self, models: Sequence[ModelConfig]) -> dict[str, Provider]:
        providers = build_providers(
            models, environ=self.settings.environ, clock=self.clock, faults=self._faults
        )
        if self.tracing is None:
            return providers
        # Only here: OpenTelemetry is an extra.
        from service.tracing.attempts import TracedProvider

        return {
            model.name: TracedProvider(providers[model.name], model, self.tracing, self.clock)
            for model in models
        }

    def _chain_of(
        self,
        config: RouterConfig,
        providers: Mapping[str, Provider],
        models: Mapping[str, ModelConfig],
    ) -> FallbackChain:
        return FallbackChain(
            models,
            providers,
            config.fallback,
            breakers=self.breakers,
            limits=self.limits,
            clock=self.clock,
            rng=random.Random(self._random_bytes(ID_BYTES)),
        )

    def _learner_of(
        self, config: RouterConfig, policy: Policy[Any], problem: Problem, overlay: Overlay
    ) -> Learner:
        champion = overlay.champion
        return Learner(
            self.learner_store,
            problem,
            policy,
            self.extractor.version,
            config.learner,
            self.clock,
            frozen=champion is not None and champion.frozen,
        )

    def _line_of(self, config: RouterConfig, learner: Learner) -> LearningLine:
        return LearningLine(
            self.engine,
            self.learner_store,
            learner,
            self._serve,
            self.clock,
            name=self.policy.name,
            interval_s=config.learner.interval_s,
            snapshots_kept=config.store.snapshots_kept,
            lock_key=self.lock_of(LEARNER_LOCK),
        )

    def _swap_learning(
        self, config: RouterConfig, learner: Learner, challenge: Challenge | None
    ) -> list[LearningLine]:
        """Learn by these from now on; returns the lines that are to be stopped."""
        left = []
        if learner is not self.learner:
            left.append(self._learning)
            self.learner, self._learning = learner, self._line_of(config, learner)
            self._learning.start()
        before, self.challenge = self.challenge, challenge
        if before is not None and challenge is not None and challenge.learning is before.learning:
            challenge.contender.serving = before.contender.serving
            return left
        if before is not None:
            left.append(before.learning)
        if challenge is not None:
            challenge.learning.start()
        return left

    async def _stop_learning(self) -> None:
        if self.learner_child is not None:
            await self.learner_child.stop()
        if self.challenge is not None:
            await self.challenge.learning.stop()
        await self._learning.stop()

    def _router_of(
        self,
        config: RouterConfig,
        serving: Serving,
        activity: ActivityLog,
        overlay: Overlay,
        challenge: Challenge | None,
    ) -> Router:
        return Router(
            config,
            self.extractor,
            self.problem,
            self.policy,
            serving,
            breakers=self.breakers,
            activity=activity,
            limits=self.limits,
            secret=self.settings.draw_secret,
            frozen=overlay.frozen,
            contender=None if challenge is None else challenge.contender,
        )

    def _in_background(self, work: Coroutine[None, None, None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._exits.push_async_callback(end)
