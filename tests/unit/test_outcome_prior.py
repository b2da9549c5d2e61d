"""What is believed before any request: model cards, recorded outcomes, and how both wash out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bandit_router.config import FeaturesConfig, RouterConfig
from bandit_router.errors import ConfigError
from bandit_router.features import build_extractor
from bandit_router.learner import log_rows
from bandit_router.learning import Problem, fold, init_state, predict, refit
from bandit_router.outcome_prior import OutcomePrior, check_fits
from bandit_router.prior_file import read_prior, write_prior
from bandit_router.roster import with_arms
from bandit_router.router import problem_of
from bandit_router.types import FloatArray, Tier
from tests.core_samples import ARMS, folded, make_policy, make_problem, make_row, make_rows

POLICY = make_policy()
# What make_rows is about.
TRUE_MEANS = np.array([0.5, 0.6, 0.7])
MEANS = np.array([0.3, 0.5, 0.8])


def make_prior(
    effective_rows: float = 30.0, means: FloatArray = MEANS, slope: float = 0.1
) -> OutcomePrior:
    rng = np.random.default_rng(1)
    count, arms = 120, len(ARMS)
    features = rng.normal(size=(count, 4))
    rewards = means + slope * features[:, :1] + rng.normal(0.0, 0.05, (count, arms))
    return OutcomePrior(
        models=ARMS,
        extractor_version="surface-1",
        features=features,
        input_tokens=np.full(count, 20.0),
        reward=np.clip(rewards, 0.0, 1.0),
        cost_usd=np.tile([1e-4, 1e-3, 1e-5], (count, 1)),
        latency_s=np.full((count, arms), np.nan),
        output_tokens=np.full((count, arms), np.nan),
        effective_rows=effective_rows,
        digest="made here",
    )


def qualities(problem: Problem, rows: int = 0) -> FloatArray:
    state = folded(problem, POLICY, make_rows(problem, rows))
    z = np.eye(1, state.basis.dimension)[0]
    return predict(problem, POLICY, state, z, 20.0)[1].quality


def test_a_prior_is_believed_before_the_first_request_and_counts_as_it_says() -> None:
    problem = make_problem(prior=make_prior(30.0))
    state = init_state(problem, POLICY)
    assert np.allclose(qualities(problem), MEANS, atol=0.03)
    assert [arm.sums.weight for arm in state.policy.arms] == pytest.approx([30.0] * 3)
    _, expected = predict(problem, POLICY, state, np.eye(1, state.basis.dimension)[0], 20.0)
    assert np.allclose(expected.cost_usd, [1e-4, 1e-3, 1e-5], rtol=0.2)
    assert not state.pulls.any()
    assert not state.rewards.any()


def test_a_prior_of_no_rows_is_a_cold_start() -> None:
    problem = make_problem(prior=make_prior(0.0))
    assert np.allclose(qualities(problem), 0.5)


def test_a_refit_counts_the_prior_as_the_fold_does() -> None:
    problem = make_problem(prior=make_prior(10.0, TRUE_MEANS, slope=0.0))
    rows = make_rows(problem, 60)
    told = folded(problem, POLICY, rows)
    fitted = refit(problem, POLICY, init_state(problem, POLICY), log_rows(problem, rows))
    for arm, again in zip(told.policy.arms, fitted.policy.arms, strict=True):
        assert arm.sums.weight == pytest.approx(30.0)
        assert again.sums.weight == pytest.approx(30.0)
        assert again.sums.total == pytest.approx(arm.sums.total)
    once_more = refit(problem, POLICY, fitted, log_rows(problem, rows))
    assert once_more.policy.means.tobytes() == fitted.policy.means.tobytes()


def test_a_refit_leaves_out_a_prior_that_the_log_speaks_against() -> None:
    problem = make_problem(prior=make_prior(10.0, 1.0 - TRUE_MEANS))
    rows = log_rows(problem, make_rows(problem, 60))
    fitted = refit(problem, POLICY, init_state(problem, POLICY), rows)
    assert [arm.sums.weight for arm in fitted.policy.arms] == pytest.approx([20.0] * 3)


def test_forgetting_fades_a_prior_alike_in_fold_and_refit() -> None:
    problem = make_problem(prior=make_prior(10.0, TRUE_MEANS, slope=0.0), half_life_decisions=100.0)
    rows = make_rows(problem, 257)
    told = folded(problem, POLICY, rows)
    fitted = refit(problem, POLICY, told, log_rows(problem, rows))
    for arm, again in zip(told.policy.arms, fitted.policy.arms, strict=True):
        assert again.sums.weight == pytest.approx(arm.sums.weight, rel=1e-9)


def test_a_prior_for_other_models_says_nothing_of_those_it_does_not_know() -> None:
    problem = make_problem(("large", "new"), prior=make_prior())
    state = init_state(problem, POLICY)
    assert state.policy.arms[0].sums.weight == pytest.approx(30.0)
    assert state.policy.arms[1].sums.weight == 0.0


def test_an_inverted_prior_washes_out() -> None:
    """Greedy regret against no prior, on a stream of independent arms."""
    truth = np.array([0.55, 0.6, 0.8])

    def lost(prior: OutcomePrior | None) -> tuple[float, float]:
        problem = make_problem(prior=prior)
        rng, state, loss = np.random.default_rng(3), init_state(problem, POLICY), []
        every = []
        next_refit = 24
        for seq in range(1500):
            x = rng.normal(size=4)
            z = np.eye(1, state.basis.dimension)[0]
            mean = predict(problem, POLICY, state, z, 20.0)[1]
            drawn = mean.quality + mean.quality_sd * rng.normal(size=3)
            k = int(rng.integers(3)) if rng.random() < 0.03 else int(drawn.argmax())
            loss.append(truth.max() - truth[k])
            reward = float(rng.random() < truth[k])
            every.append(make_row(seq, ARMS[k], x, reward=reward, cost_usd=1e-4))
            state = fold(problem, POLICY, state, every[-1])
            if seq + 1 >= next_refit:
                next_refit = int(1.5 * next_refit) + 1
                state = refit(problem, POLICY, state, log_rows(problem, every))
        return float(np.mean(loss[:300])), float(np.mean(loss[1000:]))

    _, cold = lost(None)
    early, late = lost(make_prior(10.0, means=1.0 - truth))
    assert early > 0.01
    assert late < cold + 0.005


def test_a_card_moves_the_level_only_and_gives_way_to_feedback() -> None:
    problem = make_problem(tiers=(Tier.SMALL, Tier.LARGE, None))
    cold = qualities(problem)
    assert cold[0] < cold[2] < cold[1]
    assert cold[2] == 0.5
    state = init_state(problem, POLICY)
    assert not state.policy.means[:, 1:].any()
    rows = make_rows(problem, 600)
    without = refit(
        make_problem(), POLICY, init_state(make_problem(), POLICY), log_rows(problem, rows)
    )
    fitted = refit(problem, POLICY, state, log_rows(problem, rows))
    assert np.allclose(fitted.policy.means[:, 0], without.policy.means[:, 0], atol=0.005)


def test_a_newcomer_starts_from_its_card_beside_the_others() -> None:
    old = make_problem(("small", "large"))
    new = make_problem(("small", "large", "local"), tiers=(None, None, Tier.SMALL))
    state = folded(old, POLICY, make_rows(old, 100))
    grown = with_arms(POLICY, state, old, new)
    assert grown.policy.means[2, 0] < grown.policy.means[:2, 0].mean()
    assert grown.policy.means[:2].tobytes() == state.policy.means.tobytes()


def test_a_file_comes_back_as_it_was_and_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    prior = make_prior()
    write_prior(prior, path)
    back = read_prior(path)
    assert np.allclose(back.features, prior.features, atol=1e-6)
    assert np.allclose(back.reward, prior.reward, atol=1e-6)
    assert np.isnan(back.latency_s).all()
    assert (back.models, back.effective_rows) == (ARMS, 30.0)
    assert len(back.digest) == 16
    write_prior(replace(prior, effective_rows=3.0), path)
    assert read_prior(path).digest != back.digest


def test_a_file_that_is_none_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prior(path)
    write_prior(make_prior(), path)
    tree = json.loads(path.read_text())
    cut = tree["reward"][:-8]
    for change in ({"reward": cut}, {"prompts": 7}, {"effective_rows": -1}, {"models": None}):
        path.write_text(json.dumps({**tree, **change}))
        with pytest.raises(ConfigError, match="is damaged"):
            read_prior(path)
    path.write_text(json.dumps({**tree, "format": 2}))
    with pytest.raises(ConfigError, match="format 2"):
        read_prior(path)
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="is damaged"):
        read_prior(path)


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    names = [f"x{i}" for i in range(4)]
    prior = make_prior()
    check_fits(prior, ["large", "other"], names, "surface-1", "prior.json")
    with pytest.raises(ConfigError, match="made with features surface-1, and they are now other"):
        check_fits(prior, ARMS, names, "other", "prior.json")
    with pytest.raises(ConfigError, match="4 features a prompt, and there are 3"):
        check_fits(prior, ARMS, names[:3], "surface-1", "prior.json")
    with pytest.raises(ConfigError, match="none of them is among gpt"):
        check_fits(prior, ["gpt"], names, "surface-1", "prior.json")


def test_a_configuration_hands_on_its_cards_and_refuses_a_prior_of_other_features() -> None:
    models = [
        {"name": n, "base_url": "http://localhost:1", "tier": t}
        for n, t in (("small", "small"), ("large", "large"))
    ]
    config = RouterConfig.model_validate({"models": models, "policy": {"prior": "prior.json"}})
    extractor = build_extractor(FeaturesConfig(text="none"))
    assert problem_of(config, extractor).tiers == (Tier.SMALL, Tier.LARGE)
    with pytest.raises(ConfigError, match=r"prior prior\.json: made with features"):
        problem_of(config, extractor, make_prior())
