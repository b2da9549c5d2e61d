"""A challenger at the side of the serving policy: what it would have done, and its share.

In canary a request's pmf is (1 − s)·champion + s·challenger, and the model is drawn from that
very vector, so that the logged propensity is exact whichever side a choice is counted to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bandit_router.config import ExplorationConfig
from bandit_router.learning import Problem
from bandit_router.policies import Policy
from bandit_router.selection import Selection, select
from bandit_router.serving import Serving
from bandit_router.types import BoolArray, FeatureArray, FloatArray, Trial

# What arithmetic raises on a state that is no good. A challenger must never cost a request.
TROUBLE = (ArithmeticError, LookupError, ValueError, np.linalg.LinAlgError)
SUM_TOLERANCE = 1e-6


class Contender:
    """A challenger's policy and state, for the models that the router has now.

    share: of requests that it chooses for, 0 in shadow. sampled: of decisions that it is asked
    about in shadow. failures, last_error: what it could not answer.
    """

    def __init__(
        self,
        policy: Policy[Any],
        problem: Problem,
        exploration: ExplorationConfig,
        serving: Serving,
        *,
        share: float,
        sampled: float,
    ) -> None:
        self.policy = policy
        self.problem = problem
        self.share = share
        self.serving = serving
        self._exploration = exploration
        self._sampled = sampled
        self.failures = 0
        self.last_error: str | None = None

    def asked(self, uniform: float) -> bool:
        """Whether it is asked about a decision. uniform: a draw that this alone depends on."""
        return self.share > 0.0 or uniform < self._sampled

    def beside(
        self,
        champion_pmf: FloatArray,
        features: FeatureArray,
        input_tokens: float,
        eligible: BoolArray,
        *,
        frozen: bool,
    ) -> Trial | None:
        """What it would do where the champion has ``champion_pmf``; None where it cannot say.

        frozen: exploration is frozen, and it too puts all on what looks best.
        """
        serving = self.serving
        try:
            selection = select(
                self.problem,
                self.policy,
                serving.state,
                features.astype(np.float64),
                input_tokens,
                eligible,
                self._exploration,
                None,
            )
            pmf = _best_only(selection, eligible) if frozen else selection.pmf
            _check(pmf, eligible)
        except TROUBLE as error:
            self.failures += 1
            self.last_error = f"{type(error).__name__}: {error}"
            return None
        return Trial(
            challenger=self.policy.name,
            snapshot_version=serving.version,
            share=self.share,
            pmf=pmf,
            champion_pmf=champion_pmf,
            drew=False,
        )


def mixture(trial: Trial) -> FloatArray:
    """(K,) what a request under trial is drawn from."""
    if trial.share == 0.0:
        return trial.champion_pmf
    return np.asarray((1.0 - trial.share) * trial.champion_pmf + trial.share * trial.pmf)


def credited(trial: Trial, arm: int, uniform: float) -> Trial:
    """The trial with the side that ``arm``, drawn from the mixture, came from.

    Given the arm, it came from the challenger with probability s·q / ((1 − s)·p + s·q): the same
    as drawing the side first.
    """
    own = trial.share * float(trial.pmf[arm])
    return replace(trial, drew=uniform * float(mixture(trial)[arm]) < own)


def _best_only(selection: Selection, eligible: BoolArray) -> FloatArray:
    pmf = np.zeros(eligible.size)
    pmf[int(np.where(eligible, selection.utility, -np.inf).argmax())] = 1.0
    return pmf


def _check(pmf: FloatArray, eligible: BoolArray) -> None:
    """Raise ValueError for what nothing may be drawn from."""
    good = pmf.shape == eligible.shape and bool(np.isfinite(pmf).all())
    if not good or (pmf < 0.0).any() or pmf[~eligible].any():
        raise ValueError(f"the challenger's probabilities {pmf.tolist()} cannot be used")
    if abs(float(pmf.sum()) - 1.0) > SUM_TOLERANCE:
        raise ValueError(f"the challenger's probabilities sum to {float(pmf.sum())}")
