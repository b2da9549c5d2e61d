"""Ready-made worlds by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bandit_router.errors import DataError
from simulations.world.truth import World, WorldModel, make_world


def office(feature_count: int = 16) -> World:
    """Five topics and four models: a cheap all-rounder, a coder, a translator, a dear best one."""
    topics = ("lookup", "code", "translation", "maths", "chat")
    models = (
        WorldModel("mini", (2.6, 0.3, 1.2, -0.6, 2.2), 2.2, 0.10, 0.40, 180.0, 0.5),
        WorldModel("coder", (1.2, 2.6, 0.2, 1.2, 0.9), 1.6, 0.60, 2.20, 260.0, 1.1),
        WorldModel("linguist", (1.8, 0.4, 2.8, -0.2, 2.0), 1.6, 0.50, 1.50, 220.0, 0.9),
        WorldModel("grand", (2.9, 2.7, 2.7, 2.3, 2.6), 1.0, 3.00, 15.0, 320.0, 2.6),
    )
    return make_world(
        models,
        topics,
        topic_share=np.array([0.32, 0.24, 0.14, 0.1, 0.2]),
        hardness=np.array([0.25, 0.55, 0.4, 0.75, 0.25]),
        feature_count=feature_count,
    )


def documentation(feature_count: int = 8, noise: float = 0.1) -> World:
    """A documentation chatbot: 70 % simple and 30 % hard questions, a small and a large model.

    Both answer simple questions alike; the small one fails on most hard ones. A call of the
    small one costs $0.0003, of the large one $0.003, whatever its length. Little noise: where
    perfect rules could be written, what tells the two kinds apart can be seen.
    """
    models = (
        WorldModel("small", (3.0, -0.8), 0.6, call_usd=0.0003, latency_s=0.6),
        WorldModel("large", (3.0, 2.2), 0.6, call_usd=0.003, latency_s=2.0, output_tokens=350.0),
    )
    return make_world(
        models,
        ("lookup", "code"),
        topic_share=np.array([0.7, 0.3]),
        hardness=np.array([0.2, 0.75]),
        feature_count=feature_count,
        signal="thumb",
        noise=noise,
    )


def eight(feature_count: int = 63) -> World:
    """Eight models and six topics, for speed and scale."""
    topics = ("lookup", "code", "translation", "maths", "summary", "chat")
    rng = np.random.default_rng(8)
    models = tuple(
        WorldModel(
            name=f"model-{k}",
            skill=tuple(float(s) for s in rng.normal(0.4 + 0.3 * k, 0.8, len(topics))),
            fragility=2.5 - 0.2 * k,
            input_usd_per_million=0.05 * 2.0**k,
            output_usd_per_million=0.2 * 2.0**k,
            latency_s=0.4 + 0.3 * k,
        )
        for k in range(8)
    )
    return make_world(models, topics, feature_count=feature_count)


WORLDS: dict[str, Callable[[], World]] = {
    "office": office,
    "documentation": documentation,
    "eight": eight,
}


def named_world(name: str) -> World:
    """A ready-made world. Raises DataError with the known names otherwise."""
    if name not in WORLDS:
        raise DataError(f"no world '{name}'; there are {', '.join(WORLDS)}")
    return WORLDS[name]()
