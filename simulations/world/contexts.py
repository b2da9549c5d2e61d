"""Requests of a synthetic world: a topic, a difficulty, a length, and what can be seen of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import FloatArray, IntArray

# Words that a topic's prompts are made of, so that text features find the topic.
WORDS = {
    "lookup": "what where default value option setting meaning of the name find page",
    "code": "write python function class sort list return error test refactor loop",
    "translation": "translate sentence french german english phrase into polite formal tone",
    "maths": "prove integral matrix eigenvalue sum solve equation probability bound series",
    "summary": "summarise article paragraph key points short report meeting notes brief",
    "chat": "hello thanks tell story joke recommend weekend dinner feel friend",
}
# Said more often the harder a request is, as people do.
HARD_WORDS = ("why", "prove", "edge", "concurrent", "tradeoff", "constraint", "optimal", "migrate")
TYPICAL_TOKENS = 120.0
TOKENS_SPREAD = 0.6


@dataclass(frozen=True, slots=True)
class Contexts:
    """n requests. topic: (n,) index. difficulty: (n,) in [0, 1]. input_tokens: (n,).

    features: (n, d) what a router may see: topic, difficulty and length through a fixed
    random map, with noise. prompts: a text for each, for extractors of text.
    """

    topic: IntArray
    difficulty: FloatArray
    input_tokens: FloatArray
    features: FloatArray
    prompts: tuple[str, ...]


def draw_contexts(
    count: int,
    topics: tuple[str, ...],
    share: FloatArray,
    hardness: FloatArray,
    directions: FloatArray,
    noise: float,
    rng: np.random.Generator,
    *,
    texts: bool,
) -> Contexts:
    """Requests by the topics' shares. hardness: (T,) mean difficulty of each topic.

    directions: (T + 2, d) the map from topic, difficulty and length to features.
    texts: make prompts too, which is slow; without, they are empty.
    """
    topic = rng.choice(len(topics), size=count, p=share)
    centre = hardness[topic]
    # A Beta of concentration 6: most requests of a topic are about as hard as it is.
    difficulty = rng.beta(6.0 * centre + 0.2, 6.0 * (1.0 - centre) + 0.2)
    input_tokens = np.maximum(
        np.round(TYPICAL_TOKENS * rng.lognormal(0.0, TOKENS_SPREAD, count)), 4
    )
    seen = np.zeros((count, len(topics) + 2))
    seen[np.arange(count), topic] = 1.0
    seen[:, -2] = 2.0 * difficulty - 1.0
    seen[:, -1] = np.log(input_tokens / TYPICAL_TOKENS)
    features = seen @ directions
    features += noise * rng.standard_normal(features.shape)
    prompts = ("",) * count
    if texts:
        prompts = tuple(
            _prompt(topics[t], float(d), rng) for t, d in zip(topic, difficulty, strict=True)
        )
    return Contexts(
        topic=topic.astype(np.int64),
        difficulty=difficulty,
        input_tokens=input_tokens,
        features=features,
        prompts=prompts,
    )


def _prompt(topic: str, difficulty: float, rng: np.random.Generator) -> str:
    words = WORDS.get(topic, topic).split()
    chosen = [str(word) for word in rng.choice(words, size=6 + int(10 * difficulty))]
    hard = int(rng.binomial(6, difficulty))
    return " ".join(chosen + [str(word) for word in rng.choice(HARD_WORDS, size=hard)])
