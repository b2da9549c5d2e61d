"""What hashed labels are called, from the kinds of requests that the sums know."""

from __future__ import annotations

from bandit_router.feature_words import LabelWords, label_words
from service.runtime import Runtime


async def words_of(runtime: Runtime) -> dict[str, LabelWords]:
    """Words for the hashed features of labels that requests had so far."""
    return label_words(runtime.problem.feature_names, await runtime.rollup_reads.labels())
