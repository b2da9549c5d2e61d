"""Laws of the extractors that need no weights, on arbitrary JSON-like requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.config import FeaturesConfig
from bandit_router.features import build_extractor, ngrams
from bandit_router.features.ngrams import ngram_hashes
from bandit_router.features.prompt import USER_TEXT_LIMIT, window
from bandit_router.types import RoutingRequest

EXTRACTOR = build_extractor(FeaturesConfig(metadata=("task", "user_tier")))
# Every code point, lone surrogates included.
ANY_TEXT = st.text(st.characters())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON,
            "content": ANY_TEXT | JSON,
        },
    )
    | JSON,
    max_size=5,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> RoutingRequest:
    return RoutingRequest(
        messages=draw(MESSAGES),
        metadata=draw(st.dictionaries(st.sampled_from(["task", "user_tier", "other"]), SCALARS)),
        tool_count=draw(st.integers()),
        response_format=draw(ANY_TEXT),
        max_output_tokens=draw(st.none() | st.integers()),
    )


@given(requests())
@settings(max_examples=300, deadline=None)
def test_any_request_gives_finite_features_twice_the_same(request: RoutingRequest) -> None:
    features = EXTRACTOR.extract(request)
    assert features.shape == (len(EXTRACTOR.names),)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, EXTRACTOR.extract(request))


@given(requests(), ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_a_label_moves_only_its_own_block(request: RoutingRequest, label: str) -> None:
    relabelled = RoutingRequest(
        messages=request.messages,
        metadata={**request.metadata, "task": label},
        tool_count=request.tool_count,
        response_format=request.response_format,
        max_output_tokens=request.max_output_tokens,
    )
    changed = np.flatnonzero(EXTRACTOR.extract(request) != EXTRACTOR.extract(relabelled))
    block = next(block for block in EXTRACTOR.blocks if block.name == "metadata.task")
    assert all(block.start <= index < block.stop for index in changed)


@given(ANY_TEXT, ANY_TEXT, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_the_middle_of_a_long_text_does_not_matter(one: str, other: str, copies: int) -> None:
    half = "Half of what is read. " * USER_TEXT_LIMIT
    half = half[: USER_TEXT_LIMIT // 2]
    size = max(len(one), len(other)) * copies
    features = [
        EXTRACTOR.extract(
            RoutingRequest(
                messages=({"role": "user", "content": half + (middle * copies).ljust(size) + half},)
            )
        )
        for middle in (one, other)
    ]
    np.testing.assert_array_equal(*features)


@given(ANY_TEXT, st.integers(0, 50))
def test_window_never_exceeds_its_limit(text: str, limit: int) -> None:
    cut = window(text, limit)
    assert len(cut) == min(len(text), limit)
    assert text.startswith(cut[: limit // 2])


def plain_ngrams(text: str) -> tuple[int, int]:
    """Counts of word and character n-grams, the slow and obvious way."""
    words = text.split()
    characters = sum(max(0, len(word) + 2 - length + 1) for word in words for length in (3, 4, 5))
    return len(words) + max(0, len(words) - 1), characters


@given(st.text("abcXYZ019 \n", max_size=60))
def test_ngram_counts_match_the_plain_definition(text: str) -> None:
    words, characters = ngram_hashes(text)
    assert (words.size, characters.size) == plain_ngrams(text)


@given(st.lists(st.text("abcdé漢", min_size=1, max_size=5), min_size=1, max_size=8))
def test_ngrams_of_a_list_of_words_are_the_union_of_each_words(words: list[str]) -> None:
    _, together = ngram_hashes(" ".join(words))
    apart = np.concatenate([ngram_hashes(word)[1] for word in words])
    np.testing.assert_array_equal(np.sort(together), np.sort(apart))


def test_metadata_values_reach_their_block() -> None:
    seen: dict[str, Any] = {}
    for label in ("chat", "code", "search"):
        request = RoutingRequest(messages=(), metadata={"task": label})
        seen[label] = tuple(EXTRACTOR.extract(request).tolist())
    assert len(set(seen.values())) == 3


@given(ANY_TEXT | st.text(alphabet="aB1 .,ΣßÄ", max_size=60))
def test_a_short_text_read_word_by_word_has_the_ngrams_of_the_whole(text: str) -> None:
    by_word = ngram_hashes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "SHORT_TEXT", -1)
        at_once = ngram_hashes(text)
    for left, right in zip(by_word, at_once, strict=True):
        np.testing.assert_array_equal(np.sort(left), np.sort(right))
