"""Hashed labels get back the words that made them."""

from __future__ import annotations

import numpy as np

from bandit_router.feature_words import label_words
from bandit_router.features.metadata import MetadataLabels
from bandit_router.types import RoutingRequest


def test_a_label_is_found_by_its_bucket_and_with_its_sign() -> None:
    extractor = MetadataLabels(["task", "tier"], buckets=16)
    values = ["math", "chat", "law", "code", "poetry"]
    found = label_words(("line_count", *extractor.names), [("task", value) for value in values])
    for value in values:
        request = RoutingRequest(messages=(), metadata={"task": value})
        features = extractor.extract(request)
        (place,) = np.flatnonzero(features)
        words = found[extractor.names[place]]
        assert words.key == "task"
        assert value in (words.high if features[place] > 0 else words.low)
    assert sum(len(words.high) + len(words.low) for words in found.values()) == len(values)


def test_labels_that_are_no_features_name_nothing() -> None:
    extractor = MetadataLabels(["task"], buckets=8)
    assert label_words(extractor.names, [("tenant", "acme"), ("tas", "k=math")]) == {}
    assert label_words(("line_count",), [("task", "math")]) == {}
