"""Published figures of the Open Bandit Pipeline, within the error of so many runs."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from bandit_router.ope import Limits, LoggedRounds, Options, evaluate, logged_rounds
from bandit_router.types import FloatArray

ALL = Limits(least_effective_sample_size=0.0, largest_weight=np.inf, most_unsupported=1.0)
RUNS = 10
PUBLISHED_RUNS = 30
# Relative error by estimator, mean and sd over 30 runs on digits: logging by logistic regression
# (0.4, the rest uniform), target by a random forest (0.9), 70 % of the data logged.
PUBLISHED = {
    "ips": (0.030288, 0.024506),
    "snips": (0.022764, 0.017917),
    "dr": (0.016156, 0.012679),
    "sndr": (0.022082, 0.016865),
    "dr_os": (0.015868, 0.012537),
}


def digits_log(seed: int) -> tuple[LoggedRounds, FloatArray, float]:
    """Classification as a bandit: reward one for the right digit. Log, target and its value."""
    x, y = load_digits(return_X_y=True)
    x_fit, x_log, y_fit, y_log = train_test_split(x, y, test_size=0.7, random_state=seed)
    scaler = StandardScaler().fit(x_fit)
    logger = LogisticRegression(max_iter=1000).fit(scaler.transform(x_fit), y_fit)
    forest = RandomForestClassifier(n_estimators=50, random_state=seed).fit(x_fit, y_fit)
    logging = 0.4 * np.eye(10)[logger.predict(scaler.transform(x_log))] + 0.6 / 10.0
    target = 0.9 * np.eye(10)[forest.predict(x_log)] + 0.1 / 10.0
    rng = np.random.default_rng(seed)
    arm = np.minimum((logging.cumsum(axis=1) < rng.random(y_log.size)[:, None]).sum(axis=1), 9)
    log = logged_rounds(
        arms=[str(digit) for digit in range(10)],
        arm=arm,
        pmf=logging,
        reward=(arm == y_log).astype(np.float64),
        features=scaler.transform(x_log),
    )
    return log, target, float(target[np.arange(y_log.size), y_log].mean())


def test_errors_on_digits_are_those_published() -> None:
    errors: dict[str, list[float]] = {name: [] for name in [*PUBLISHED, "switch_dr", "dm"]}
    for seed in range(RUNS):
        log, target, truth = digits_log(seed)
        options = Options(outcomes=("reward",), estimators=tuple(errors), resamples=2, limits=ALL)
        found = evaluate(log, {"forest": lambda rounds, pmf=target: pmf[rounds.order]}, options)
        for name, error in errors.items():
            value = found["forest"].estimate(estimator=name).value
            error.append(abs(value - truth) / truth)
    for name, (mean, deviation) in PUBLISHED.items():
        allowed = 3.0 * deviation * np.sqrt(1.0 / RUNS + 1.0 / PUBLISHED_RUNS)
        assert abs(np.mean(errors[name]) - mean) < allowed, (name, errors[name])
    # The model is another than theirs, and so is the error of what believes it.
    assert np.mean(errors["dr"]) < np.mean(errors["dm"])
    assert np.mean(errors["switch_dr"]) < np.mean(errors["dm"]) + 0.01
