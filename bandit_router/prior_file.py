"""``prior.json``: a prior as a file, with numbers as text or as packed 32-bit floats."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.errors import ConfigError
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.types import FloatArray

FORMAT = 1
_TABLES = ("reward", "cost_usd", "latency_s", "output_tokens")


def write_prior(prior: OutcomePrior, path: Path) -> None:
    """Write the file. Prompts are in it as features only."""
    tree = {
        "format": FORMAT,
        "models": prior.models,
        "extractor": prior.extractor_version,
        "effective_rows": prior.effective_rows,
        "prompts": prior.features.shape[0],
        "features": _packed(prior.features),
        "input_tokens": _packed(prior.input_tokens),
        **{name: _packed(getattr(prior, name)) for name in _TABLES},
    }
    path.write_text(json.dumps(tree) + "\n")


def read_prior(path: Path) -> OutcomePrior:
    """Read it back. Raises ConfigError, which names the file and the remedy."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"prior {path} cannot be read ({error.strerror}): make it with "
            f"`bandit-router fit-prior DATA.parquet --out {path.name}`"
        ) from None
    try:
        tree = json.loads(data)
        if tree["format"] != FORMAT:
            raise ConfigError(
                f"prior {path}: format {tree['format']} is not {FORMAT}, which this version "
                "reads; make it anew with bandit-router fit-prior"
            )
        count, models = int(tree["prompts"]), tuple(str(name) for name in tree["models"])
        prior = OutcomePrior(
            models=models,
            extractor_version=str(tree["extractor"]),
            features=_unpacked(tree["features"]).reshape(count, -1),
            input_tokens=_unpacked(tree["input_tokens"]).reshape(count),
            effective_rows=float(tree["effective_rows"]),
            digest=hashlib.sha256(data).hexdigest()[:16],
            **{name: _unpacked(tree[name]).reshape(count, len(models)) for name in _TABLES},
        )
        _check_values(prior)
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ConfigError(
            f"prior {path} is damaged ({error}): make it anew with bandit-router fit-prior"
        ) from error
    return prior


def _check_values(prior: OutcomePrior) -> None:
    if not prior.features.size:
        raise ValueError("no prompts")
    if not np.isfinite(prior.features).all() or not np.isfinite(prior.input_tokens).all():
        raise ValueError("a feature is not finite")
    known = prior.reward[np.isfinite(prior.reward)]
    if known.size == 0 or known.min() < 0.0 or known.max() > 1.0:
        raise ValueError("rewards lie outside [0, 1], or there are none")
    if not 0.0 <= prior.effective_rows < np.inf:
        raise ValueError(f"effective_rows is {prior.effective_rows}")


def _packed(values: FloatArray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: Any) -> FloatArray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
