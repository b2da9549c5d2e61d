"""ParetoBandit's protocol: learn on the validation split, score on the test split, at a budget.

Three models; both splits shuffled by the seed; each prompt is routed before its outcome is seen
and only the chosen model's outcome is revealed, while scoring too. Here from a cold start;
the published figures had a prior from 8,374 further prompts. Source: arXiv 2604.00136.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandit_router.errors import DataError
from simulations.baselines import static_mix
from simulations.matrix import OutcomeMatrix
from simulations.protocols.paretobandit_peer import PeerResult
from simulations.scenarios import (
    VARIANTS,
    PhasedStudy,
    drift_report,
    failure_report,
    onboarding,
    onboarding_report,
    price_drift,
    run_phased,
    silent_failure,
    with_budget,
)
from simulations.simulate import Study, Summary, make_study, run_study

MODELS = (
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-large-2512",
    "google/gemini-2.5-pro",
)
FAILING_MODEL = "mistralai/mistral-large-2512"
DRIFTING_MODEL = "google/gemini-2.5-pro"
NEW_MODEL = "google/gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Published:
    """Mean test reward and spend over budget, as the paper gives them."""

    reward: float
    spend_ratio: float


# By budget in dollars per request; with the prior that the paper's runs started from.
PUBLISHED: Mapping[float, Published] = {
    2.9e-5: Published(0.793, 0.98),
    8.3e-5: Published(0.813, 1.00),
    2.3e-4: Published(0.859, 1.00),
    6.6e-4: Published(0.898, 0.98),
    1.9e-3: Published(0.917, 0.91),
    5.3e-3: Published(0.924, 0.89),
    1.5e-2: Published(0.929, 0.74),
}
BUDGETS_USD = tuple(PUBLISHED)
SCENARIO_BUDGETS_USD = (3.0e-4, 6.62e-4, 1.87e-3)
# Reward while the model fails, by budget; and the steps until a new model was adopted.
PUBLISHED_FAILURE: Mapping[float, float] = {3.0e-4: 0.800, 6.62e-4: 0.795, 1.87e-3: 0.794}
PUBLISHED_ADOPTION_STEPS = 142


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how it is told: on_stage names each stage, on_seed follows each replay."""

    seeds: int
    jobs: int
    on_stage: Callable[[str, int], None]
    on_seed: Callable[[], None]


def protocol_study(
    matrix: OutcomeMatrix,
    *,
    policy: str = "thompson",
    text: str = "hashed",
    half_life_decisions: float | None = None,
    on_prompt: Callable[[], None] = lambda: None,
) -> Study:
    """All models of the matrix, on its splits. Raises DataError where a model or split lacks."""
    missing = [name for name in MODELS if name not in matrix.models]
    if missing:
        raise DataError(
            f"the data have no outcomes of {', '.join(missing)}; ParetoBandit's protocol needs "
            f"{', '.join(MODELS)}"
        )
    study = make_study(
        matrix,
        policy=policy,
        budget_usd=BUDGETS_USD[0],
        warmup_split="val",
        score_split="test",
        text=text,
        metadata=(),
        on_prompt=on_prompt,
    )
    problem = replace(
        study.problem,
        half_life_decisions=half_life_decisions,
        learns_half_life=half_life_decisions is None,
    )
    return replace(study, problem=problem)


def of_models(study: Study, models: Sequence[str]) -> Study:
    """The study of some of its models only, in that order."""
    index = [study.problem.arms.index(name) for name in models]
    columns = ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens")
    changes: dict[str, Any] = {name: getattr(study.matrix, name)[:, index] for name in columns}
    prices = study.problem.prices
    kept = {name: getattr(prices, name)[index] for name in ("input_usd", "output_usd")}
    return replace(
        study,
        matrix=replace(study.matrix, models=tuple(models), **changes),
        problem=replace(
            study.problem,
            arms=tuple(models),
            prices=replace(prices, second_usd=prices.second_usd[index], **kept),
            routable=study.problem.routable[index],
        ),
    )


def run_budgets(
    study: Study, budgets_usd: Sequence[float], plan: Plan, peer: PeerResult
) -> list[dict[str, Any]]:
    """One row per budget. peer: figures of the installed package by budget, may be empty."""
    three = of_models(study, MODELS)
    rows = []
    for budget_usd in budgets_usd:
        plan.on_stage(f"${budget_usd:.2g} a request", plan.seeds)
        at_budget = replace(three, problem=replace(three.problem, budget_usd=budget_usd))
        summary = run_study(at_budget, range(plan.seeds), plan.jobs, plan.on_seed)
        rows.append(budget_row(at_budget, summary, peer))
    return rows


def budget_row(study: Study, summary: Summary, peer: PeerResult) -> dict[str, Any]:
    """The report of one budget. static_mix is the best mix at what was really spent."""
    budget_usd = float(summary.budget_usd or 0.0)
    mean, worst = summary.utilisation or (None, None)
    interval = summary.reward_ci95
    published = PUBLISHED.get(budget_usd)
    cold, warm = peer.cold.get(budget_usd), peer.warm.get(budget_usd)
    return {
        "budget_usd": budget_usd,
        "reward": summary.reward,
        "reward_ci95": list(interval) if interval else None,
        "spend_ratio": mean,
        "spend_ratio_worst": worst,
        "static_mix": summary.baselines["static_mix"].reward,
        "static_mix_at_budget": static_mix(study.matrix.rows(study.score), budget_usd).reward,
        "published": published.reward if published else None,
        "published_spend_ratio": published.spend_ratio if published else None,
        "peer": cold.reward if cold else None,
        "peer_spend_ratio": cold.spend_ratio if cold else None,
        "peer_with_prior": warm.reward if warm else None,
        "peer_with_prior_spend_ratio": warm.spend_ratio if warm else None,
        "shares": summary.shares,
    }


def run_scenarios(
    study: Study, budgets_usd: Sequence[float], plan: Plan
) -> dict[str, list[dict[str, Any]]]:
    """Failure, price drift and, where the matrix has the fourth model, onboarding."""
    three = of_models(study, MODELS)
    reports: dict[str, list[dict[str, Any]]] = {"failure": [], "drift": [], "onboarding": []}
    for budget_usd in budgets_usd:
        failing = with_budget(silent_failure(three, FAILING_MODEL), budget_usd)
        reports["failure"].append(
            {
                "budget_usd": budget_usd,
                **failure_report(failing, _run(failing, plan)),
                "published_failed_reward": PUBLISHED_FAILURE.get(budget_usd),
            }
        )
        drifting = with_budget(price_drift(three, DRIFTING_MODEL), budget_usd)
        report = drift_report(drifting, _run(drifting, plan))
        reports["drift"].append({"budget_usd": budget_usd, **report})
        if NEW_MODEL not in study.problem.arms:
            continue
        four = of_models(study, (*MODELS, NEW_MODEL))
        alone = with_budget(onboarding(four, NEW_MODEL, "recorded", joins=False), budget_usd)
        without = _run(alone, plan)
        for variant in VARIANTS:
            joining = with_budget(onboarding(four, NEW_MODEL, variant), budget_usd)
            reports["onboarding"].append(
                {
                    "budget_usd": budget_usd,
                    "variant": variant,
                    **onboarding_report(joining, _run(joining, plan), without),
                    "published_steps_to_adopt": PUBLISHED_ADOPTION_STEPS,
                }
            )
    return reports


def _run(phased: PhasedStudy, plan: Plan) -> list[Any]:
    budget_usd = float(phased.study.problem.budget_usd or np.nan)
    plan.on_stage(f"{phased.name}, ${budget_usd:.2g} a request", plan.seeds)
    return run_phased(phased, range(plan.seeds), plan.jobs, plan.on_seed)
