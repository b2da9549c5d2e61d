"""Studies on a small matrix made up here: what is reported, and that learning pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router.errors import ConfigError, DataError
from simulations.baselines import fixed
from simulations.matrix import OutcomeMatrix
from simulations.simulate import Study, Summary, make_study, run_seed, run_study, split_rows

KEYS = {
    "policy",
    "budget_usd",
    "seeds",
    "requests",
    "reward",
    "cost_usd",
    "utilisation",
    "shares",
    "regret",
    "baselines",
}
TASKS = ("Write a Python function that sorts a list.", "Translate this sentence into French.")


def made_up(
    count: int = 400, models: int = 2, splits: bool = True, **changes: Any
) -> OutcomeMatrix:
    """Code and translation by turns: each model is good at one of them, the later ones at none.

    The first model costs a tenth of the second.
    """
    rng = np.random.default_rng(0)
    task = np.arange(count) % 2
    quality = np.full((count, models), 0.2)
    quality[task == 0, 0], quality[task == 0, 1] = 0.5, 0.9
    quality[task == 1, 0], quality[task == 1, 1] = 0.8, 0.4
    quality = np.clip(quality + rng.normal(0.0, 0.05, quality.shape), 0.0, 1.0)
    cost = np.geomspace(1e-4, 1e-3 * 10.0 ** max(models - 2, 0), models)
    values: dict[str, Any] = {
        "prompt_ids": tuple(f"q{i}" for i in range(count)),
        "prompts": tuple(f"{TASKS[task[i]]} Variant {i}." for i in range(count)),
        "category": tuple("code" if t == 0 else "translation" for t in task),
        "split": tuple("val" if i < count // 4 else "test" for i in range(count))
        if splits
        else ("",) * count,
        "models": tuple("abcdefgh"[:models]),
        "quality": quality,
        "cost_usd": cost * np.exp(rng.normal(0.0, 0.2, (count, models))),
        "latency_s": np.full((count, models), np.nan),
        "input_tokens": np.full((count, models), 12.0),
        "output_tokens": np.full((count, models), np.nan),
    }
    return OutcomeMatrix(**{**values, **changes})


def study(matrix: OutcomeMatrix, **changes: Any) -> Study:
    values: dict[str, Any] = {
        "policy": "thompson",
        "budget_usd": None,
        "warmup_split": None,
        "score_split": None,
        "text": "none",
        "metadata": (),
    }
    return make_study(matrix, **{**values, **changes})


def ran(matrix: OutcomeMatrix, seeds: int = 2, jobs: int = 1, **changes: Any) -> Summary:
    return run_study(study(matrix, **changes), range(seeds), jobs)


NO_COST = {"cost_usd": np.full((400, 2), np.nan)}


def test_learning_ends_above_random_and_near_the_best() -> None:
    summary = ran(made_up(), warmup_split="val", score_split="test")
    # Random earns 0.65, the best single model 0.65, knowing the task 0.85.
    assert summary.baselines["random"].reward == pytest.approx(0.65, abs=0.01)
    assert summary.baselines["best_single"].reward == pytest.approx(0.65, abs=0.01)
    assert summary.reward > 0.82
    assert summary.regret < 0.05
    assert summary.requests == 300
    assert summary.shares["a"] == pytest.approx(0.5, abs=0.06)


def test_a_budget_is_held_and_still_beats_the_static_mix() -> None:
    summary = ran(made_up(), budget_usd=3e-4, warmup_split="val", score_split="test")
    assert summary.utilisation is not None
    assert summary.utilisation[0] == pytest.approx(1.0, abs=0.1)
    assert summary.reward > summary.baselines["static_mix"].reward + 0.03
    assert summary.reward < summary.baselines["oracle"].reward + 0.01


@pytest.mark.parametrize("budget_usd", [None, 5e-4])
def test_the_report_has_exactly_the_documented_keys(budget_usd: float | None) -> None:
    told = ran(made_up(80), policy="random", budget_usd=budget_usd).as_json()
    assert told.keys() == KEYS
    assert told["policy"] == "random"
    assert told["budget_usd"] == budget_usd
    assert (told["seeds"], told["requests"]) == (2, 80)
    assert told["reward"].keys() == {"mean", "ci95"}
    low, high = told["reward"]["ci95"]
    assert low <= told["reward"]["mean"] <= high
    assert told["cost_usd"].keys() == {"mean"}
    assert told["shares"].keys() == {"a", "b"}
    assert sum(told["shares"].values()) == pytest.approx(1.0)
    assert told["baselines"].keys() == {"best_single", "static_mix", "random", "oracle"}
    for baseline in told["baselines"].values():
        assert baseline.keys() == {"reward", "cost_usd"}
    oracle = told["baselines"]["oracle"]["reward"]
    assert told["regret"] == pytest.approx(oracle - told["reward"]["mean"])
    if budget_usd is None:
        assert told["utilisation"] is None
    else:
        assert told["utilisation"].keys() == {"mean", "worst"}


def test_one_seed_has_no_interval() -> None:
    assert ran(made_up(40), seeds=1, policy="random").as_json()["reward"]["ci95"] is None


def test_the_interval_is_students() -> None:
    summary = ran(made_up(60), seeds=4, policy="random")
    rewards = np.array([seed.reward for seed in summary.seeds])
    # t with three degrees of freedom: 3.182 standard errors.
    half = 3.182446 * rewards.std(ddof=1) / 2.0
    assert summary.reward_ci95 == pytest.approx((rewards.mean() - half, rewards.mean() + half))


@pytest.mark.parametrize("model", ["a", "b"])
def test_a_fixed_model_earns_its_own_mean(model: str) -> None:
    matrix = made_up()
    summary = ran(matrix, policy=f"fixed:{model}")
    mean = fixed(matrix)["ab".index(model)]
    assert summary.shares[model] == 1.0
    assert summary.reward == pytest.approx(mean.reward, abs=1e-12)
    assert summary.cost_usd == pytest.approx(mean.cost_usd, rel=1e-12)


def test_more_processes_give_the_same_numbers() -> None:
    matrix = made_up(120)
    one, two = (ran(matrix, seeds=3, jobs=jobs, budget_usd=4e-4) for jobs in (1, 2))
    assert one.as_json() == two.as_json()


def test_the_same_seed_gives_the_same_replay_and_another_another() -> None:
    values = study(made_up(100), policy="random")
    assert run_seed(values, 3).reward == run_seed(values, 3).reward
    assert run_seed(values, 3).reward != run_seed(values, 4).reward


@pytest.mark.parametrize("models", [2, 5])
def test_any_number_of_models_will_do(models: int) -> None:
    summary = ran(made_up(300, models))
    assert len(summary.shares) == models
    assert summary.reward > summary.baselines["random"].reward + 0.1


def test_without_costs_rewards_are_still_learned() -> None:
    told = ran(made_up(**NO_COST))
    assert told.reward > 0.72
    report = told.as_json()
    assert report["cost_usd"]["mean"] is None
    assert all(baseline["cost_usd"] is None for baseline in report["baselines"].values())


def test_without_costs_a_budget_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"\$0.001 needs cost_usd.*800 outcomes have none"):
        study(made_up(**NO_COST), budget_usd=1e-3)


def test_costs_known_in_part_are_averaged_where_known() -> None:
    matrix = made_up(100)
    cost = matrix.cost_usd.copy()
    cost[::3] = np.nan
    report = ran(made_up(100, cost_usd=cost), seeds=2).as_json()
    assert 1e-4 / 2 < report["cost_usd"]["mean"] < 2e-3
    assert report["baselines"]["static_mix"]["reward"] is not None


def test_without_a_split_column_everything_is_scored() -> None:
    matrix = made_up(40, splits=False)
    warmup, score = split_rows(matrix, None, None)
    assert (warmup.size, score.size) == (0, 40)
    with pytest.raises(DataError, match="no prompt is in split 'val'; the data have"):
        split_rows(matrix, "val", None)


def test_splits_are_kept_apart() -> None:
    matrix = made_up(40)
    for asked, sizes in (
        (("val", "test"), (10, 30)),
        (("val", None), (10, 30)),
        ((None, "test"), (0, 30)),
        ((None, None), (0, 40)),
    ):
        warmup, score = split_rows(matrix, *asked)
        assert (warmup.size, score.size) == sizes
        assert not set(warmup) & set(score)
    with pytest.raises(DataError, match="cannot be both learned first and scored"):
        split_rows(matrix, "test", "test")


def test_prompts_without_any_outcome_are_left_out() -> None:
    quality = made_up(40).quality.copy()
    quality[:7] = np.nan
    summary = ran(made_up(40, quality=quality, splits=False), policy="random")
    assert summary.requests == 33


def test_a_model_is_not_chosen_where_its_outcome_is_not_known() -> None:
    quality = made_up(60).quality.copy()
    quality[::2, 1] = np.nan
    summary = ran(made_up(60, quality=quality), policy="fixed:b")
    assert np.isfinite(summary.reward)
    assert summary.shares["b"] == pytest.approx(0.5, abs=0.05)


def test_a_category_can_be_a_feature() -> None:
    # Prompts that say nothing: only the label tells the tasks apart.
    matrix = made_up(prompts=("?",) * 400)
    blind, told = (ran(matrix, metadata=metadata) for metadata in ((), ("category",)))
    assert told.reward > blind.reward + 0.05


def test_what_cannot_be_studied_is_told() -> None:
    matrix = made_up(40)
    with pytest.raises(DataError, match="no metadata column user_tier"):
        study(matrix, metadata=("category", "user_tier"))
    with pytest.raises(DataError, match=r"no model 'z'; the data have a, b"):
        study(matrix, policy="fixed:z")
    with pytest.raises(ConfigError, match="no policy 'greedy'"):
        study(matrix, policy="greedy")
    with pytest.raises(DataError, match="only fixed takes a model; write thompson alone"):
        study(matrix, policy="thompson:a")
    with pytest.raises(DataError, match="no prompt has a quality for any model"):
        study(made_up(40, quality=np.full_like(matrix.quality, np.nan)))
