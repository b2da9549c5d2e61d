"""The challenger on trial in this process: what it learns, and what the router asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bandit_router.config import RouterConfig
from bandit_router.config_challengers import TrialSetting
from bandit_router.contender import Contender
from bandit_router.errors import ConfigError
from bandit_router.learner import Learner
from bandit_router.learning import Problem
from bandit_router.policies import Policy
from bandit_router.router import policy_of
from bandit_router.serving import Serving
from service.learning_line import CHALLENGER_LOCK, LearningLine

if TYPE_CHECKING:  # the runtime itself starts what stands here
    from service.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Challenge:
    """A trial as this process carries it out."""

    setting: TrialSetting
    contender: Contender
    learning: LearningLine


def challenger_config(config: RouterConfig, setting: TrialSetting) -> RouterConfig:
    """What the router would be under the challenger. Raises ConfigError where it cannot be."""
    challenger = setting.challenger
    try:
        return config.varied(challenger.policy, challenger.exploration, learned_as=setting.line)
    except ValueError as error:
        raise ConfigError(f"challenger '{challenger.name}': {error}") from error


def challenger_parts(
    runtime: Runtime, config: RouterConfig, setting: TrialSetting
) -> tuple[RouterConfig, Policy[Any], Problem]:
    """The configuration, policy and problem of a challenger. Raises ConfigError."""
    varied = challenger_config(config, setting)
    return varied, policy_of(varied), runtime.problem_of(varied)


async def prepared(
    runtime: Runtime, config: RouterConfig, setting: TrialSetting | None, now: Challenge | None
) -> Challenge | None:
    """The challenge for a configuration; what it learns goes on where the line is the same.

    Nothing runs yet: whoever takes it up starts its learning, where that is not ``now``'s, and
    stops the old one's. Raises ConfigError or StoreError.
    """
    if setting is None:
        return None
    varied, policy, problem = challenger_parts(runtime, config, setting)

    def contender(serving: Serving) -> Contender:
        return Contender(
            policy,
            problem,
            varied.exploration,
            serving,
            share=setting.share,
            sampled=setting.challenger.sampled,
        )

    def serve(serving: Serving) -> None:
        standing = runtime.challenge
        if standing is not None and standing.learning.learner is learner:
            standing.contender.serving = serving

    if now is not None and now.setting.line == setting.line and _alike(now, problem):
        known = now.contender
        made = contender(known.serving)
        made.failures, made.last_error = known.failures, known.last_error
        return Challenge(setting, made, now.learning)
    learner = Learner(
        runtime.learner_store,
        problem,
        policy,
        runtime.extractor.version,
        config.learner,
        runtime.clock,
        frozen=setting.frozen,
        books=False,
    )
    made = contender(await learner.load())
    learning = LearningLine(
        runtime.engine,
        runtime.learner_store,
        learner,
        serve,
        runtime.clock,
        name=setting.line,
        interval_s=config.learner.interval_s,
        snapshots_kept=config.store.snapshots_kept,
        lock_key=runtime.lock_of(CHALLENGER_LOCK),
    )
    return Challenge(setting, made, learning)


def _alike(now: Challenge, problem: Problem) -> bool:
    """Whether what is learned needs no other problem: models, prices and budget are the same."""
    before = now.contender.problem
    return (
        before.arms == problem.arms
        and before.budget_usd == problem.budget_usd
        and before.value_of_second == problem.value_of_second
        and (before.routable == problem.routable).all()
        and all(
            (getattr(before.prices, name) == getattr(problem.prices, name)).all()
            for name in ("input_usd", "output_usd", "second_usd")
        )
    )
