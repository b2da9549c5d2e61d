"""What the prompt is about: hashed n-grams, projected to a few dimensions. No weights, no fit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bandit_router.features.ngrams import HashArray, mix, ngram_hashes
from bandit_router.features.projection import sign_matrix
from bandit_router.features.prompt import read_prompt
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FeatureArray, RoutingRequest

_BUCKET_BITS = 14
_BUCKETS = 1 << _BUCKET_BITS
_BUCKET_SHIFT, _LOWEST_BIT = np.uint32(32 - _BUCKET_BITS), np.uint32(1)
_SYSTEM_SALT = np.uint32(0x2545F491)
# Squared length that each group of n-grams gets, where the prompt has it.
_WORD_SHARE, _CHARACTER_SHARE, _SYSTEM_SHARE = 0.3, 0.6, 0.1


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
            groups.append((mix(system_words ^ _SYSTEM_SALT), _SYSTEM_SHARE))
        filled = [(hashes, share) for hashes, share in groups if hashes.size]
        if not filled:
            return np.zeros(self._dimension, dtype=np.float32)
        total_share = sum(share for _, share in filled)
        buckets, values = zip(
            *(_weigh(hashes, share / total_share) for hashes, share in filled),
            strict=True,
        )
        projected: FeatureArray = np.concatenate(values) @ self._signs.take(
            np.concatenate(buckets), axis=0
        )
        return projected


def _weigh(hashes: HashArray, share: float) -> tuple[HashArray, NDArray[np.float32]]:
    """Each distinct n-gram's bucket and signed weight; the weights' squares sum to share.

    The bucket is the hash's top bits, the sign its lowest: independent after mixing.
    """
    ordered = np.sort(hashes)
    new = ordered[1:] != ordered[:-1]
    if np.count_nonzero(new) == new.size:
        # Most short prompts repeat nothing: one weight for all.
        weight = math.sqrt(share / ordered.size)
        signed = np.array([-weight, weight], dtype=np.float32)
        return ordered >> _BUCKET_SHIFT, signed.take(ordered & _LOWEST_BIT)
    # Where each run of equal hashes begins, and the end of the last.
    edges = np.concatenate(([0], new.nonzero()[0] + 1, [ordered.size]))
    distinct = ordered[edges[:-1]]
    weights = 1.0 + np.log(edges[1:] - edges[:-1])
    weights *= np.sqrt(share / (weights @ weights))
    signs = (distinct & _LOWEST_BIT) * 2.0 - 1.0
    return distinct >> _BUCKET_SHIFT, (weights * signs).astype(np.float32)
