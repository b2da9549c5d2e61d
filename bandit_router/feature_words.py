"""What hashed labels are called: ``metadata.task[17]`` in the words that callers sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bandit_router.features.metadata import bucket_of

HASHED = re.compile(r"metadata\.(?P<key>.+)\[(?P<bucket>\d+)\]")


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The known values of one hashed feature. high: those that make it +1, low: −1, sorted; where
    there are several, nothing tells them apart but their sign."""

    key: str
    high: tuple[str, ...]
    low: tuple[str, ...]


def label_words(names: Sequence[str], labels: Iterable[tuple[str, str]]) -> dict[str, LabelWords]:
    """Words for those features of which a value is known.

    names: of all features, so that a key's buckets can be counted. labels: key and value of
    labels that requests had.
    """
    found = {name: match for name in names if (match := HASHED.fullmatch(name))}
    buckets = Counter(match["key"] for match in found.values())
    values: dict[tuple[str, int, float], set[str]] = {}
    for key, value in labels:
        if key in buckets:
            values.setdefault((key, *bucket_of(key, value, buckets[key])), set()).add(value)
    words = {}
    for name, match in found.items():
        key, bucket = match["key"], int(match["bucket"])
        high, low = (tuple(sorted(values.get((key, bucket, sign), ()))) for sign in (1.0, -1.0))
        if high or low:
            words[name] = LabelWords(key, high, low)
    return words
