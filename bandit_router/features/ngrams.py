"""Stable 32-bit hashes of a text's word and character n-grams, a whole text at a time.

Python's ``hash`` is salted per process, and a crc per n-gram costs 2 ms on a long prompt; these
are sums of code points times fixed odd constants, mixed by MurmurHash3's finaliser.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HashArray = NDArray[np.uint32]

_BLANK = 32
_ODD = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1], dtype=np.uint32)
_SALTS = {
    "word": 0x3C6EF372,
    "word_pair": 0xA54FF53A,
    3: 0x510E527F,
    4: 0x9B05688C,
    5: 0x1F83D9AB,
}
_LETTER_WEIGHT_COUNT = 64


def ngram_hashes(text: str) -> tuple[HashArray, HashArray]:
    """Hash a text's n-grams: (words and word pairs, 3- to 5-grams of characters).

    Case is ignored; letters and digits of any script make words, everything else parts them.
    Character n-grams stay within a word and include the blank before and after it. Lone
    surrogates are letters like any other. Repeated n-grams stand repeated.
    """
    raw = f" {text.lower()} ".encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(raw, dtype="<u4").astype(np.uint32, copy=False)
    in_word = _WORD_TABLE[np.minimum(points, np.uint32(_WORD_TABLE.size - 1))]
    # Keep letters and the first separator after each word; the first one kept is a letter.
    kept = np.flatnonzero(in_word[1:] | in_word[:-1]) + 1
    if kept.size == 0:
        return _NONE, _NONE
    letters = np.empty(kept.size + 1, dtype=np.uint32)
    letters[0] = _BLANK
    letters[1:] = np.where(in_word[kept], points[kept], np.uint32(_BLANK))
    blank = letters == _BLANK
    return _word_hashes(letters, np.flatnonzero(blank)), _character_hashes(letters, ~blank)


def mix(values: HashArray, salt: int) -> HashArray:
    """Spread every input bit over all 32 output bits. Source: MurmurHash3, fmix32."""
    values = values ^ np.uint32(salt)
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def _word_hashes(letters: HashArray, blanks: NDArray[np.intp]) -> HashArray:
    starts = blanks[:-1] + 1
    place = np.arange(1, letters.size, dtype=np.intp) - np.repeat(starts, np.diff(blanks))
    # The blank after a word goes into its sum, and with it the word's length.
    weighted = letters[1:] * _LETTER_WEIGHTS[place % _LETTER_WEIGHTS.size]
    words = np.add.reduceat(weighted, blanks[:-1], dtype=np.uint32)
    pairs = words[:-1] * _ODD[0] + words[1:] * _ODD[1]
    return np.concatenate((mix(words, _SALTS["word"]), mix(pairs, _SALTS["word_pair"])))


def _character_hashes(letters: HashArray, solid: NDArray[np.bool_]) -> HashArray:
    found = []
    sums = letters[:-1] * _ODD[0] + letters[1:] * _ODD[1]
    inside = np.ones(letters.size - 1, dtype=np.bool_)
    for length in (3, 4, 5):
        if letters.size < length:
            break
        sums = sums[:-1] + letters[length - 1 :] * _ODD[length - 1]
        inside = inside[:-1] & solid[length - 2 : -1]
        found.append(mix(sums[inside], _SALTS[length]))
    return np.concatenate(found)


def _word_table() -> NDArray[np.bool_]:
    """Which code points are letters or digits; the last entry stands for all that follow."""
    table = np.ones(0x10000, dtype=np.bool_)
    ascii_word = [chr(point).isalnum() for point in range(0x80)]
    table[:0x80] = ascii_word
    for first, last in ((0x80, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2000, 0x206F)):
        table[first : last + 1] = False
    for first, last in ((0x3000, 0x303F), (0xFF00, 0xFF0F)):
        table[first : last + 1] = False
    return table


_NONE = np.empty(0, dtype=np.uint32)
_WORD_TABLE = _word_table()
_LETTER_WEIGHTS = mix(np.arange(_LETTER_WEIGHT_COUNT, dtype=np.uint32), 0x5BE0CD19) | np.uint32(1)
