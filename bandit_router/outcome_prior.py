"""What is believed before any request: outcomes that were recorded elsewhere, at a low weight.

Coordinates are learned anew at every fit, so beliefs cannot be written down in them. What is
written down instead is a bounded number of recorded prompts, as features and never as text, with
what every model earned on them, and how many rows of feedback all of that is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.errors import ConfigError
from bandit_router.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class OutcomePrior:
    """P prompts by K models; NaN where an outcome is not known.

    features: (P, n). input_tokens: (P,). reward, cost_usd, latency_s, output_tokens: (P, K).
    effective_rows: what one model's outcomes count for together, in rows of its own feedback.
    digest: of the file, by which a snapshot says under which prior it was learned.
    """

    models: tuple[str, ...]
    extractor_version: str
    features: FloatArray
    input_tokens: FloatArray
    reward: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    output_tokens: FloatArray
    effective_rows: float
    digest: str = ""

    def weights(self) -> FloatArray:
        """(K,) what one outcome of each model counts: never more than a row of feedback."""
        known = np.isfinite(self.reward).sum(axis=0)
        return np.asarray(np.minimum(self.effective_rows / np.maximum(known, 1), 1.0))

    def places(self, arms: Sequence[str]) -> IntArray:
        """(K,) index among ``arms`` of each model of the prior, -1 for one that is not there."""
        index = {name: k for k, name in enumerate(arms)}
        return np.array([index.get(name, -1) for name in self.models], dtype=np.int64)


def check_fits(
    prior: OutcomePrior,
    arms: Sequence[str],
    feature_names: Sequence[str],
    extractor_version: str,
    source: str,
) -> None:
    """Raise ConfigError, with the remedy, where a prior says nothing of these models or features.

    Models of the prior that are not there are passed over, since models come and go.
    """
    remedy = "make it anew with bandit-router fit-prior"
    if prior.extractor_version != extractor_version:
        raise ConfigError(
            f"{source}: made with features {prior.extractor_version}, and they are now "
            f"{extractor_version}; {remedy}, with the same --feature-set and --metadata"
        )
    if prior.features.shape[1] != len(feature_names):
        raise ConfigError(
            f"{source}: holds {prior.features.shape[1]} features a prompt, and there are "
            f"{len(feature_names)}; {remedy}"
        )
    if (prior.places(arms) < 0).all():
        raise ConfigError(
            f"{source}: knows only the models {', '.join(prior.models)}, and none of them is among "
            f"{', '.join(arms)}; {remedy}, from outcomes under these names"
        )
