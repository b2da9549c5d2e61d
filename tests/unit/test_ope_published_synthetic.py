"""The Open Bandit Pipeline's synthetic example: 10,000 rounds, 30 actions, five features."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from bandit_router.ope import ESTIMATORS, Options, evaluate, logged_rounds
from bandit_router.ope.contributions import Contributions, value_of
from bandit_router.types import FloatArray, IntArray

RUNS = 10
ROUNDS, ACTIONS, FEATURES = 10_000, 30, 5
PUBLISHED_RUNS = 20
# Relative error by estimator, mean and sd over 20 runs: the log leans to what is bad (inverse
# temperature -3), the target is a classifier fitted on another log, weighted by reward over
# propensity; the model of rewards is logistic in features and action, without their products.
# Over 24 runs: .097 .0087 .0058 .0061 .0060.
PUBLISHED = {
    "dm": (0.074390, 0.024525),
    "ips": (0.009481, 0.006899),
    "snips": (0.006665, 0.004541),
    "dr": (0.006175, 0.004245),
    "sndr": (0.006118, 0.003997),
}


class Example:
    """One run's world; logs are drawn from it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    def quality(self, x: FloatArray) -> FloatArray:
        """(n, 30) true probabilities of a reward: a logistic with a slope of its own per action
        and feature and a level per action, all even on (0, 1)."""
        rng = np.random.default_rng([self._seed, 1])
        slope = rng.uniform(size=(ACTIONS, FEATURES))
        return np.asarray(expit(x @ slope.T + rng.uniform(size=ACTIONS)))

    def log(self) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, FloatArray]:
        """Features, true quality, logging pmf, chosen action and reward."""
        x = self._rng.normal(size=(ROUNDS, FEATURES))
        truth = self.quality(x)
        pmf = softmax(-3.0 * truth, axis=1)
        uniform = self._rng.random(ROUNDS)[:, None]
        arm = np.minimum((pmf.cumsum(axis=1) < uniform).sum(axis=1), ACTIONS - 1)
        chosen = truth[np.arange(ROUNDS), arm]
        return x, truth, pmf, arm, (self._rng.random(ROUNDS) < chosen).astype(np.float64)


def additive_model(x: FloatArray, arm: IntArray, reward: FloatArray) -> FloatArray:
    """(n, 30) predictions, cross-fitted on three folds, by features and action alone."""
    fold = np.random.default_rng(0).permutation(ROUNDS) % 3
    one_hot = np.eye(ACTIONS)
    predicted = np.empty((ROUNDS, ACTIONS))
    for each in range(3):
        fit, held = fold != each, fold == each
        model = LogisticRegression(C=100.0, max_iter=1000)
        model.fit(np.hstack([x[fit], one_hot[arm[fit]]]), reward[fit])
        weights = model.coef_[0]
        score = (x[held] @ weights[:FEATURES])[:, None] + weights[FEATURES:] + model.intercept_
        predicted[held] = expit(score)
    return predicted


def errors_of(seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Relative errors with the example's model of rewards, and with the library's own."""
    world = Example(seed)
    x, _, pmf, arm, reward = world.log()
    weight = reward / pmf[np.arange(ROUNDS), arm]
    paid = reward > 0.0
    policy = LogisticRegression(C=100.0, max_iter=1000)
    policy.fit(x[paid], arm[paid], sample_weight=weight[paid])
    x, truth, pmf, arm, reward = world.log()
    target = np.zeros((ROUNDS, ACTIONS))
    target[:, policy.classes_] = policy.predict_proba(x)
    target /= target.sum(axis=1, keepdims=True)
    value = float((truth * target).sum(axis=1).mean())
    rows = np.arange(ROUNDS)
    predicted = additive_model(x, arm, reward)
    rounds = Contributions(
        weight=target[rows, arm] / pmf[rows, arm],
        seen=np.ones(ROUNDS),
        outcome=reward,
        predicted=predicted[rows, arm],
        predicted_target=(target * predicted).sum(axis=1),
        uniform=np.zeros(ROUNDS),
        weight_bound=1.0,
    )
    theirs = {name: abs(value_of(ESTIMATORS[name], rounds) / value - 1.0) for name in PUBLISHED}
    log = logged_rounds(
        arms=[str(action) for action in range(ACTIONS)],
        arm=arm,
        pmf=pmf,
        reward=reward,
        features=x,
    )
    options = Options(outcomes=("reward",), estimators=tuple(PUBLISHED), resamples=2)
    found = evaluate(log, {"policy": lambda part: target[part.order]}, options)["policy"]
    assert found.refused is None
    ours = {name: abs(found.estimate(estimator=name).value / value - 1.0) for name in PUBLISHED}
    return theirs, ours


def test_errors_on_the_synthetic_example_are_those_published() -> None:
    runs = [errors_of(seed) for seed in range(RUNS)]
    for name, (mean, deviation) in PUBLISHED.items():
        allowed = 3.0 * deviation * np.sqrt(1.0 / RUNS + 1.0 / PUBLISHED_RUNS)
        theirs = float(np.mean([run[0][name] for run in runs]))
        ours = float(np.mean([run[1][name] for run in runs]))
        if name == "dm":
            # How far a wrong model is off depends on how it is fitted: the order of it, here.
            assert 0.5 * mean < theirs < 2.0 * mean, theirs
            # A line per arm sees the products that the example's model leaves out.
            assert ours < 0.6 * mean, ours
        else:
            assert abs(theirs - mean) < allowed, (name, theirs)
            assert abs(ours - mean) < allowed, (name, ours)
    # As published, a wrong model alone is by far the worst.
    assert np.mean([run[0]["dm"] for run in runs]) > 3 * np.mean([run[0]["ips"] for run in runs])
