"""Every scenario on any outcome matrix, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandit_router.errors import DataError
from simulations.baselines import fixed
from simulations.scenarios.feedback import FEEDBACK, WITHOUT_POISON
from simulations.scenarios.onboarding import VARIANTS, onboarding, onboarding_report
from simulations.scenarios.outage import outage
from simulations.scenarios.phased import PhasedStudy, phase_reports, run_phased
from simulations.scenarios.price_drift import drift_report, price_drift
from simulations.scenarios.repeated import (
    POISONED,
    POISONED_UNGUARDED,
    Repeated,
    most_moved,
    repeated_report,
    run_repeated,
    shifted,
)
from simulations.scenarios.silent_failure import failure_report, silent_failure
from simulations.scenarios.traffic_shift import traffic_shift
from simulations.simulate import Study

PHASED = ("failure", "drift", "outage", "traffic_shift", "onboarding")
NAMES = (*FEEDBACK, POISONED, *PHASED)


@dataclass(frozen=True, slots=True)
class SuitePlan:
    """What to run. requests: of each feedback scenario; the phased ones pass over the prompts."""

    names: Sequence[str]
    requests: int
    seeds: int
    jobs: int
    on_stage: Callable[[str, int], None]
    on_seed: Callable[[], None]


def usual_budget(study: Study) -> float | None:
    """Dollars per request halfway, in orders of magnitude, between the cheapest model and the
    best one; None where not all costs are known."""
    models = fixed(study.matrix)
    costs = [model.cost_usd for model in models]
    if not np.isfinite(study.matrix.cost_usd[study.matrix.known]).all() or min(costs) <= 0.0:
        return None
    best = max(models, key=lambda model: model.reward)
    return float(np.sqrt(min(costs) * best.cost_usd)) if best.cost_usd > min(costs) else None


def run_suite(study: Study, plan: SuitePlan) -> dict[str, dict[str, Any]]:
    """One report per scenario. Raises DataError for an unknown one."""
    unknown = [name for name in plan.names if name not in NAMES]
    if unknown:
        raise DataError(
            f"no scenario {', '.join(unknown)}; there are {', '.join(NAMES)}: name some of these"
        )
    reports: dict[str, dict[str, Any]] = {}
    for name in plan.names:
        if name == POISONED:
            reports[name] = _poisoned(study, plan)
        elif name in FEEDBACK:
            repeated = Repeated(study, name, plan.requests)
            reports[name] = repeated_report(repeated, _repeated(repeated, plan))
        else:
            reports[name] = _phased(name, halved(study), plan)
    return reports


def halved(study: Study) -> Study:
    """The study with every other prompt to learn from first, where the data have no such split."""
    if study.warmup.size:
        return study
    return replace(study, warmup=study.score[0::2], score=study.score[1::2])


def strong_arm(study: Study) -> int:
    """The model that a scenario is about: the best of those not the cheapest that are of use at
    the budget, which is where most is to be lost."""
    models = fixed(study.matrix)
    cheapest = min(range(len(models)), key=lambda k: models[k].cost_usd)
    others = [k for k in range(len(models)) if k != cheapest]
    if not others:
        raise DataError("a single model leaves nothing to choose: give a matrix of two or more")
    budget_usd = study.problem.budget_usd
    useful = [k for k in others if budget_usd is None or models[k].cost_usd <= 10.0 * budget_usd]
    return max(useful or others, key=lambda k: models[k].reward)


def _repeated(repeated: Repeated, plan: SuitePlan) -> list[Any]:
    plan.on_stage(repeated.feedback, plan.seeds)
    return run_repeated(repeated, range(plan.seeds), plan.jobs, plan.on_seed)


def _poisoned(study: Study, plan: SuitePlan) -> dict[str, Any]:
    """One key damns the strong model and praises the cheapest; beside the same where it says
    nothing, and where every source is believed. How far shares move by chance alone is shown by
    another twentieth of the requests of which nothing is said: where two models are nearly alike,
    any small change sends other requests to the one or the other."""
    cheapest = int(np.argmin([model.cost_usd for model in fixed(study.matrix)]))
    lies = {"damned": strong_arm(study), "praised": cheapest}
    clean, other = (
        _repeated(Repeated(study, name, plan.requests), plan) for name in WITHOUT_POISON
    )
    guarded = Repeated(study, POISONED, plan.requests, **lies)
    traces = _repeated(guarded, plan)
    open_ears = Repeated(study, POISONED_UNGUARDED, plan.requests, **lies)
    unguarded = _repeated(open_ears, plan)
    return {
        "damned": study.problem.arms[lies["damned"]],
        "praised": study.problem.arms[cheapest],
        **most_moved(traces, clean),
        "by_chance": most_moved(other, clean),
        "unguarded": most_moved(unguarded, clean),
        "shifts": {study.problem.arms[arm]: shifted(traces, clean, arm) for arm in lies.values()},
        **repeated_report(guarded, traces),
    }


def _phased(name: str, study: Study, plan: SuitePlan) -> dict[str, Any]:
    arm = strong_arm(study)
    model = study.problem.arms[arm]
    if name == "onboarding":
        if len(study.problem.arms) < 3:
            return {"left_out": "a newcomer needs two models that are there before it"}
        without = _run(onboarding(study, model, "recorded", joins=False), plan)
        return {
            "model": model,
            "variants": {
                variant: onboarding_report(joining, _run(joining, plan), without)
                for variant in VARIANTS
                for joining in (onboarding(study, model, variant),)
            },
        }
    if name == "failure":
        phased = silent_failure(study, model)
        return {"model": model, **failure_report(phased, _run(phased, plan))}
    if name == "drift":
        phased = price_drift(study, model)
        return {"model": model, **drift_report(phased, _run(phased, plan))}
    if name == "outage":
        phased = outage(study, model)
        return {"model": model, **failure_report(phased, _run(phased, plan))}
    phased = traffic_shift(study, arm)
    return {"model": model, "phases": phase_reports(phased, _run(phased, plan))}


def _run(phased: PhasedStudy, plan: SuitePlan) -> list[Any]:
    plan.on_stage(phased.name, plan.seeds)
    return run_phased(phased, range(plan.seeds), plan.jobs, plan.on_seed)
