"""Choose a model for a request: features, eligibility, policy, draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.activity import ActivityLog
from bandit_router.basis import coordinates
from bandit_router.breakers import Breakers
from bandit_router.choice import draw, mix, one_hot, uniform_for
from bandit_router.choosers import STATE_OF, Choosers
from bandit_router.config import ExplorationConfig, ModelConfig, RouterConfig
from bandit_router.constraints import QualityFloors, bounded, foresee
from bandit_router.contender import Contender, credited, mixture
from bandit_router.effort import Prices
from bandit_router.eligibility import check_known, check_serves, eligible_models, is_weaker
from bandit_router.errors import ConfigError
from bandit_router.exploration import greedily, no_exploration
from bandit_router.learning import LearnedState, Problem, predict
from bandit_router.outcome_prior import OutcomePrior, check_fits
from bandit_router.policies import Policy, PolicyOptions, build_policy
from bandit_router.policies.base import Beliefs
from bandit_router.prices import estimate_input_tokens
from bandit_router.protocols import FeatureExtractor
from bandit_router.selection import Selection, select
from bandit_router.serving import Serving
from bandit_router.types import (
    BoolArray,
    Decision,
    FeatureArray,
    FloatArray,
    MaskReason,
    Mode,
    Operation,
    Pin,
    RoutingRequest,
    Trial,
)
from bandit_router.upstream_limits import UpstreamLimits

# Utilities closer than this are a tie, broken by reliability.
UTILITY_TIE = 0.01


def problem_of(
    config: RouterConfig, extractor: FeatureExtractor, prior: OutcomePrior | None = None
) -> Problem:
    """What the learner is told of the configuration. Every model is an arm; a last resort is
    never eligible, but what it answers is learned from.

    prior: what ``policy.prior`` holds. Raises ConfigError where it does not fit.
    """
    arms = tuple(model.name for model in config.models)
    if prior is not None:
        check_fits(prior, arms, extractor.names, extractor.version, f"prior {config.policy.prior}")
    half_life = config.policy.half_life_decisions
    return Problem(
        arms=arms,
        feature_names=extractor.names,
        feature_blocks=extractor.blocks,
        prices=Prices(
            input_usd=np.array([m.input_usd_per_million for m in config.models]) / 1e6,
            output_usd=np.array([m.output_usd_per_million for m in config.models]) / 1e6,
            second_usd=np.array([m.usd_per_hour for m in config.models]) / 3600.0,
        ),
        routable=np.array([m.generates and not (m.last_resort or m.paused) for m in config.models]),
        budget_usd=config.policy.budget_usd_per_request,
        value_of_second=config.policy.value_of_second,
        half_life_decisions=half_life if isinstance(half_life, float) else None,
        learns_half_life=half_life == "learned",
        extractor_version=extractor.version,
        predecessors=tuple(m.successor_of or "" for m in config.models),
        tiers=tuple(model.tier for model in config.models),
        prior=prior,
    )


def policy_of(config: RouterConfig) -> Policy[Any]:
    """The configured policy, under the name that its snapshots have. Raises ConfigError for an
    unknown one."""
    policy = build_policy(config.policy.name, options_of(config))
    stored_as = config.policy.learned_as
    return policy if stored_as is None else renamed(policy, stored_as)


def renamed(policy: Policy[Any], name: str) -> Policy[Any]:
    """The same policy, whose decisions and snapshots go by another name."""
    named: Any = policy
    changed: Policy[Any] = replace(named, name=name)
    return changed


def options_of(config: RouterConfig) -> PolicyOptions:
    """What the configuration says of any policy by name."""
    names = [model.name for model in config.models]
    fixed = names.index(config.policy.model) if config.policy.model in names else -1
    return PolicyOptions(fixed_arm=fixed, epsilon=config.policy.epsilon)


class Router:
    """Decides; holds no state but the serving snapshot, breakers and recent activity."""

    def __init__(
        self,
        config: RouterConfig,
        extractor: FeatureExtractor,
        problem: Problem,
        policy: Policy[Any],
        serving: Serving,
        *,
        breakers: Breakers,
        activity: ActivityLog,
        secret: bytes,
        limits: UpstreamLimits | None = None,
        frozen: bool = False,
        contender: Contender | None = None,
    ) -> None:
        if problem.arms != tuple(model.name for model in config.models):
            raise ConfigError("the problem's arms are not the configured models, in their order")
        if contender is not None and contender.problem.arms != problem.arms:
            raise ConfigError("the challenger's models are not the configured ones, in their order")
        self._models: tuple[ModelConfig, ...] = config.models
        self._exploration: ExplorationConfig = config.exploration
        self._last_resorts = config.last_resorts
        self._chain_length = config.fallback.max_models
        self._keep_prompts = config.store.keep_prompts
        self._extractor = extractor
        self._problem = problem
        self._policy = policy
        self._breakers = breakers
        self._limits = limits
        self._choosers = Choosers(config, problem, policy, options_of(config))
        self._activity = activity
        self._secret = secret
        self._frozen = frozen
        self.contender = contender
        self._most_misses = config.policy.latency_miss_probability
        self._floors = QualityFloors()
        self.serving = serving

    def decide(
        self,
        request: RoutingRequest,
        *,
        decision_id: UUID,
        now: datetime,
        dry_run: bool = False,
        features: FeatureArray | None = None,
    ) -> Decision:
        """Choose a model. dry_run: leave no trace in the counts that forced looks go by.
        features: as extracted already, where that takes so long that a thread did it.

        Raises UnknownModel, or NoEligibleModel where constraints leave nothing.
        """
        serving = self.serving
        if features is None:
            features = self._extractor.extract(request)
        input_tokens = estimate_input_tokens(request.messages)
        firm = self._firm_pin(request)
        if firm is not None:
            check_known((firm.model,), self._models, param="model")
            check_known(request.candidates or (), self._models, param="models")
            check_serves((firm.model,), self._models, request.operation, param="model")
            check_serves(request.candidates or (), self._models, request.operation, param="models")
            eligible = np.ones(len(self._models), dtype=np.bool_)
            masked: dict[str, MaskReason] = {}
        else:
            eligible, masked = eligible_models(
                self._models,
                request,
                input_tokens,
                partial(self._is_cooling, decision_id),
                self._is_rate_limited,
            )
            eligible, masked = self._no_weaker(request.pin, eligible, masked)
        now_s = now.timestamp()
        policy, state = self._choosers.of(request, serving.version, serving.state)
        if firm is None and request.controls.bind:
            eligible, masked = self._within_bounds(
                request, policy, state, features, input_tokens, eligible, masked
            )
        selection = select(
            self._problem,
            policy,
            state,
            features.astype(np.float64),
            input_tokens,
            eligible,
            self._exploration,
            None if firm is not None else self._activity.at(now_s),
        )
        pin = firm or self._kept_pin(request.pin, eligible)
        trial: Trial | None = None
        if pin is not None:
            mode, arm = pin.mode, self._problem.arms.index(pin.model)
            pmf, exploration = one_hot(arm, eligible.size), no_exploration(eligible.size)
        else:
            mode, pmf, exploration = Mode.POLICY, selection.pmf, selection.exploration
            if self._frozen:
                best = int(np.where(eligible, selection.utility, -np.inf).argmax())
                exploration = greedily(best, eligible.size)
                pmf = mix(pmf, exploration)
            # A tier's own policy or budget, or a wish not to explore, is not what is on trial.
            if policy is self._policy and state is serving.state:
                trial = self._trial(decision_id, pmf, features, input_tokens, eligible)
            if trial is not None:
                pmf = mixture(trial)
            arm = draw(pmf, uniform_for(decision_id, self._secret))
            if trial is not None and trial.share:
                trial = credited(trial, arm, uniform_for(decision_id, self._secret, b"side"))
        if firm is not None:
            # A named model stands alone, unless others are listed to fall back along.
            listed = dict.fromkeys(request.candidates or ())
            fallbacks = tuple(name for name in listed if name != firm.model)
        else:
            fallbacks = self._fallbacks(selection, eligible, arm, request.operation)
        if not dry_run:
            looked = exploration.look_arm == arm and not self._frozen
            if firm is None and request.controls.quality_floor is not None:
                self._floors.chosen(request.tenant, _beliefs(selection), arm, eligible)
            cost_usd = float(selection.prediction.cost_usd[arm])
            self._activity.pulled(now_s, arm, cost_usd if looked else 0.0)
        return Decision(
            id=decision_id,
            created_at=now,
            tenant=request.tenant,
            session_id=request.session_id,
            mode=mode,
            arms=self._problem.arms,
            eligible=eligible,
            masked=masked,
            pmf=pmf,
            chosen=self._problem.arms[arm],
            propensity=float(pmf[arm]),
            fallbacks=fallbacks,
            features=features,
            extractor_version=self._extractor.version,
            input_tokens=input_tokens,
            policy=policy.name,
            snapshot_version=serving.version,
            price_of_dollar=state.pacer.price_of_dollar,
            price_of_second=self._problem.value_of_second,
            exploration=exploration,
            prediction=selection.prediction,
            metadata=request.metadata,
            prompt=list(request.messages) if self._keep_prompts else None,
            influences=self._influences(request, policy),
            trial=trial,
            operation=request.operation,
        )

    def _trial(
        self,
        decision_id: UUID,
        pmf: FloatArray,
        features: FeatureArray,
        input_tokens: int,
        eligible: BoolArray,
    ) -> Trial | None:
        """What the challenger would do, where there is one and it is asked."""
        contender = self.contender
        if contender is None:
            return None
        if not contender.asked(uniform_for(decision_id, self._secret, b"shadow")):
            return None
        return contender.beside(pmf, features, input_tokens, eligible, frozen=self._frozen)

    def _within_bounds(
        self,
        request: RoutingRequest,
        policy: Policy[Any],
        state: LearnedState,
        features: FeatureArray,
        input_tokens: int,
        eligible: BoolArray,
        masked: dict[str, MaskReason],
    ) -> tuple[BoolArray, dict[str, MaskReason]]:
        """What the request's own bounds on dollars, seconds and quality leave, by prediction."""
        arms, controls = self._problem.arms, request.controls
        if not request.streamed:
            # An answer that comes whole has no first token to wait for.
            controls = replace(controls, max_first_token_s=None)
        z = coordinates(state.basis, features.astype(np.float64))
        beliefs, prediction = predict(self._problem, policy, state, z, input_tokens)
        foresight = foresee(self._problem.prices, state.effort, z, prediction, controls)
        out = bounded(arms, foresight, eligible, controls, self._most_misses)
        left = eligible & np.array([name not in out for name in arms])
        if controls.quality_floor is not None:
            low = self._floors.below(request.tenant, controls.quality_floor, beliefs, left)
            out |= {arms[k]: MaskReason.BELOW_FLOOR for k in np.flatnonzero(low)}
            left = left & ~low
        return left, {**masked, **out}

    def _is_rate_limited(self, name: str, tokens: int) -> bool:
        return self._limits is not None and not self._limits.admits(name, tokens)

    def _is_cooling(self, decision_id: UUID, name: str) -> bool:
        """Whether the breaker keeps this decision from the model: all of them while it is open,
        all but a drawn share of them while it is half open."""
        if self._breakers.is_closed(name):
            return False
        purpose = b"probe:" + name.encode()
        return not self._breakers.admits(name, uniform_for(decision_id, self._secret, purpose))

    def _firm_pin(self, request: RoutingRequest) -> Pin | None:
        """The model that is taken as it is, whatever else is known of it."""
        if request.override is not None:
            return Pin(request.override, Mode.OVERRIDE, firm=True)
        return request.pin if request.pin is not None and request.pin.firm else None

    def _kept_pin(self, pin: Pin | None, eligible: BoolArray) -> Pin | None:
        """A pin that holds only while its model is eligible, and is still configured."""
        if pin is None or pin.model not in self._problem.arms:
            return None
        return pin if eligible[self._problem.arms.index(pin.model)] else None

    def _no_weaker(
        self, pin: Pin | None, eligible: BoolArray, masked: dict[str, MaskReason]
    ) -> tuple[BoolArray, dict[str, MaskReason]]:
        """Leave out what is weaker than a sticky model that cannot go on, if that leaves any."""
        arms = self._problem.arms
        if pin is None or pin.mode is not Mode.STICKY or pin.model not in arms:
            return eligible, masked
        kept = arms.index(pin.model)
        if eligible[kept]:
            return eligible, masked
        weaker = np.array([is_weaker(model, self._models[kept]) for model in self._models])
        if not (eligible & ~weaker).any():
            return eligible, masked
        out = {arms[k]: MaskReason.BELOW_TIER for k in np.flatnonzero(eligible & weaker)}
        return eligible & ~weaker, {**masked, **out}

    def _influences(self, request: RoutingRequest, policy: Policy[Any]) -> Mapping[str, str]:
        """What besides the policy shaped the choice, and whose state was read where not its own."""
        if policy is self._policy:
            return request.influences
        return {**request.influences, STATE_OF: self._policy.name}

    def _fallbacks(
        self, selection: Selection, eligible: BoolArray, arm: int, operation: Operation
    ) -> tuple[str, ...]:
        """The other eligible models by utility, then reliability; last resorts at the end."""
        names = self._problem.arms
        others = [k for k in range(len(names)) if eligible[k] and k != arm]
        others.sort(
            key=lambda k: (
                -round(float(selection.utility[k]) / UTILITY_TIE),
                -self._breakers.reliability(names[k]),
            )
        )
        kept = [names[k] for k in others[: self._chain_length - 1]]
        last = (model.name for model in self._last_resorts if operation in model.serves)
        return (*kept, *last)


def _beliefs(selection: Selection) -> Beliefs:
    return Beliefs(mean=selection.prediction.quality, sd=selection.prediction.quality_sd)
