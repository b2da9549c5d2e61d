"""What the prompt is about: hashed n-grams, projected to a few dimensions. No weights, no fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit_router.features.ngrams import HashArray, mix, ngram_hashes
from bandit_router.features.projection import sign_matrix
from bandit_router.features.prompt import read_prompt
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FeatureArray, RoutingRequest

_BUCKET_BITS = 14
_BUCKETS = 1 << _BUCKET_BITS
_SYSTEM_SALT = 0x2545F491
# Squared length that each group of n-grams gets, where the prompt has it.
_WORD_SHARE, _CHARACTER_SHARE, _SYSTEM_SHARE = 0.45, 0.45, 0.1


class HashedNgrams:
    """Word 1–2-grams and character 3–5-grams of the last user message and the system prompt.

    Signed hashing (Weinberger et al. 2009) into 2^14 buckets, 1 + log tf, each group scaled to
    its share of unit length, then a fixed sign projection to ``dimension`` components of mean
    square about one. An empty prompt gives zeros.
    """

    def __init__(self, dimension: int = 64, seed: int = 1) -> None:
        self._dimension = dimension
        self._seed = seed
        self._signs = sign_matrix(_BUCKETS, dimension, seed)
        self._names = tuple(f"hashed[{index}]" for index in range(dimension))

    @property
    def version(self) -> str:
        seed = "" if self._seed == 1 else f"-seed{self._seed}"
        return f"hashed-{self._dimension}{seed}-1"

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def blocks(self) -> tuple[FeatureBlock, ...]:
        return (FeatureBlock("text", 0, self._dimension),)

    def extract(self, request: RoutingRequest) -> FeatureArray:
        """The projected n-grams: (dimension,)."""
        prompt = read_prompt(request)
        words, characters = ngram_hashes(prompt.user_text)
        groups = [(words, _WORD_SHARE), (characters, _CHARACTER_SHARE)]
        if prompt.system_text:
            system_words, _ = ngram_hashes(prompt.system_text)
            groups.append((mix(system_words, _SYSTEM_SALT), _SYSTEM_SHARE))
        filled = [(hashes, share) for hashes, share in groups if hashes.size]
        if not filled:
            return np.zeros(self._dimension, dtype=np.float32)
        total_share = sum(share for _, share in filled)
        buckets, values = zip(
            *(_bucket_values(hashes, share / total_share) for hashes, share in filled),
            strict=True,
        )
        projected: FeatureArray = np.concatenate(values) @ self._signs[np.concatenate(buckets)]
        return projected


def _bucket_values(hashes: HashArray, share: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The buckets that a group of hashes falls in, and their signed weights: sum of squares
    ``share``."""
    signs = (hashes & np.uint32(1)).astype(np.float64) * 2.0 - 1.0
    sums = np.bincount(hashes >> np.uint32(32 - _BUCKET_BITS), weights=signs, minlength=_BUCKETS)
    buckets = np.flatnonzero(sums)
    counts = sums[buckets]
    values = np.copysign(1.0 + np.log(np.abs(counts)), counts)
    length = float(np.sqrt(values @ values))
    # Every n-gram of a group may cancel against another of the same bucket: then no length.
    scale = np.sqrt(share) / length if length > 0.0 else 0.0
    return buckets, (values * scale).astype(np.float32)
