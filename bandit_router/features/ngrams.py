"""Stable 32-bit hashes of a text's word and character n-grams, a whole text at a time.

Python's ``hash`` is salted per process, and a crc per n-gram costs 2 ms on a long prompt; these
are sums of code points times fixed odd constants, mixed by MurmurHash3's finaliser.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HashArray = NDArray[np.uint32]

# In longer texts the arrays of all words at once are quicker than one look-up a word.
SHORT_TEXT = 512
# Of short texts' words, which ones are worth remembering.
LONGEST_KEPT = 32

_BLANK = np.uint32(32)
_HALF, _MIX_SHIFT = np.uint32(16), np.uint32(13)
_MIX_FIRST, _MIX_SECOND = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_WORD_SALT, _PAIR_SALT = np.uint32(0x3C6EF372), np.uint32(0xA54FF53A)
# One odd constant for every place in a character n-gram, and one salt for every length.
_PLACES = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1], dtype=np.uint32)
_LENGTH_SALTS = {3: np.uint32(0x510E527F), 4: np.uint32(0x9B05688C), 5: np.uint32(0x1F83D9AB)}


def ngram_hashes(text: str) -> tuple[HashArray, HashArray]:
    """Hash a text's n-grams: (words and word pairs, 3- to 5-grams of characters).

    Case is ignored; letters and digits of any script make words, everything else parts them.
    Character n-grams stay within a word and include the blank before and after it. Lone
    surrogates are letters like any other. Repeated n-grams stand repeated; the order of the
    character n-grams says nothing.
    """
    if len(text) <= SHORT_TEXT:
        return _by_word([word for word in text.lower().translate(_PARTED).split(" ") if word])
    letters, solid = _letters(text)
    if letters.size == 0:
        return _NONE, _NONE
    sums = _word_sums(letters, np.flatnonzero(~solid))
    return _word_hashes(sums), mix(np.concatenate(_character_sums(letters, solid)))


def _by_word(words: list[str]) -> tuple[HashArray, HashArray]:
    """The same for a short text, of which most words have been seen before."""
    if not words:
        return _NONE, _NONE
    known = [(_kept if len(word) <= LONGEST_KEPT else _of_word)(word) for word in words]
    sums, characters = zip(*known, strict=True)
    return _word_hashes(np.array(sums, dtype=np.uint32)), np.concatenate(characters)


def _of_word(word: str) -> tuple[int, HashArray]:
    """One word's sum, and the hashes of its character n-grams."""
    letters, solid = _letters(word)
    sums = _word_sums(letters, np.flatnonzero(~solid))
    return int(sums[0]), mix(np.concatenate(_character_sums(letters, solid)))


# A few megabytes at most.
_kept = lru_cache(maxsize=8192)(_of_word)


def _letters(text: str) -> tuple[HashArray, NDArray[np.bool_]]:
    """The words' code points with one blank before, between and after, and which are none."""
    raw = f" {text.lower()} ".encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(raw, dtype="<u4").astype(np.uint32, copy=False)
    in_word = _WORD_TABLE.take(points, mode="clip")
    # Keep letters and the first separator after each word; the first one kept is a letter.
    kept = np.flatnonzero(in_word[1:] | in_word[:-1]) + 1
    if kept.size == 0:
        return _NONE, np.empty(0, dtype=np.bool_)
    solid = np.empty(kept.size + 1, dtype=np.bool_)
    solid[0] = False
    solid[1:] = in_word[kept]
    letters = np.full(kept.size + 1, _BLANK)
    letters[1:] = points[kept]
    letters[~solid] = _BLANK
    return letters, solid


def _word_hashes(sums: HashArray) -> HashArray:
    """Of each word, then of each pair of words that follow one another."""
    hashes = np.empty(2 * sums.size - 1, dtype=np.uint32)
    np.add(sums, _WORD_SALT, out=hashes[: sums.size])
    pairs = sums[:-1] * _PLACES[0]
    pairs += sums[1:] * _PLACES[1]
    np.add(pairs, _PAIR_SALT, out=hashes[sums.size :])
    return mix(hashes)


def mix(values: HashArray) -> HashArray:
    """Spread every input bit over all 32 output bits. Source: MurmurHash3, fmix32."""
    values = values ^ (values >> _HALF)
    values *= _MIX_FIRST
    values ^= values >> _MIX_SHIFT
    values *= _MIX_SECOND
    values ^= values >> _HALF
    return values


def _word_sums(letters: HashArray, blanks: NDArray[np.intp]) -> HashArray:
    # The blank after a word goes into its sum, and with it the word's length.
    place = np.arange(letters.size - 1) - np.repeat(blanks[:-1], blanks[1:] - blanks[:-1])
    weighted = letters[1:] * _LETTER_WEIGHTS.take(place, mode="wrap")
    sums: HashArray = np.add.reduceat(weighted, blanks[:-1], dtype=np.uint32)
    return sums


def _character_sums(letters: HashArray, solid: NDArray[np.bool_]) -> list[HashArray]:
    found = []
    sums = letters[:-1] * _PLACES[0] + letters[1:] * _PLACES[1]
    inside: NDArray[np.bool_] | None = None
    for length, salt in _LENGTH_SALTS.items():
        if letters.size < length:
            break
        # A blank may stand first or last, never between.
        between = solid[length - 2 : -1]
        inside = between if inside is None else inside[:-1] & between
        sums = sums[:-1] + letters[length - 1 :] * _PLACES[length - 1]
        found.append(sums[inside] + salt)
    return found


def _word_table() -> NDArray[np.bool_]:
    """Which code points are letters or digits; the last entry stands for all that follow."""
    table = np.ones(0x10000, dtype=np.bool_)
    table[:0x80] = [chr(point).isalnum() for point in range(0x80)]
    for first, last in _SEPARATORS:
        table[first : last + 1] = False
    return table


# Punctuation beyond ASCII: Latin-1, general, ideographic and full-width.
_SEPARATORS = (
    *((0x80, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2000, 0x206F)),
    *((0x3000, 0x303F), (0xFF00, 0xFF0F)),
)
_NONE = np.empty(0, dtype=np.uint32)
_WORD_TABLE = _word_table()
_PARTED = {int(point): " " for point in np.flatnonzero(~_WORD_TABLE)}
_LETTER_WEIGHTS = mix(np.arange(64, dtype=np.uint32) ^ np.uint32(0x5BE0CD19)) | np.uint32(1)
