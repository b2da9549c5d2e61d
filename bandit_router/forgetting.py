"""Choose how fast to forget by what would have predicted the log's rewards best.

Every half-life is a way of predicting each reward from those before it. The log's rewards, block
after block, are predicted under each, and the logarithms of what each thought of what then came
are added up. One that remembers everything is kept unless the odds against it are long: under it
the others' likelihood ratios have mean one, so that each reaches such odds by chance at most as
often as the odds say (Ville's inequality).
Source: Dawid 1984, "The prequential approach"; West & Harrison 1997, section 6.3, discounting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandit_router.evidence import log_evidence
from bandit_router.policies.base import Rows
from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray, IntArray

# At most so many of the newest rewards are asked, in so many blocks, of so many each at least.
MOST_ROWS = 16_384
BLOCKS = 48
LEAST_BLOCK = 16
# Half-lives in decisions: doubling, from this one on, the longest six.
SHORTEST = 500.0
MOST_CANDIDATES = 6
# Forgetting has to be so many times likelier than remembering everything.
LOG_ODDS = float(np.log(1e3))


def candidates(decisions: float, blocks: int) -> tuple[float, ...]:
    """The half-lives, in decisions, that so many blocks of a log of so many decisions can tell
    apart: none is shorter than a block or longer than the log."""
    doublings = int(np.floor(np.log2(max(decisions, 1.0) / SHORTEST)))
    all_of_them = (SHORTEST * 2.0**k for k in range(doublings + 1))
    return tuple(each for each in all_of_them if each * blocks >= decisions)[-MOST_CANDIDATES:]


def askable(decision_seq: IntArray) -> tuple[float, ...]:
    """The half-lives that rewards of these decisions, oldest first, are asked about; none where
    they are too few or too close together."""
    recent = decision_seq[-MOST_ROWS:]
    blocks = _blocks(recent.size)
    return candidates(float(recent[-1] - recent[0]), blocks) if blocks >= 2 else ()


def _blocks(rewards: int) -> int:
    return min(BLOCKS, rewards // LEAST_BLOCK)


def chosen_half_life(rows: Rows, decision_seq: IntArray, priors: Sequence[Prior]) -> float | None:
    """The half-life in decisions that predicts the rewards best; None to remember everything.

    rows: oldest first, at the weights that they have without forgetting; one that an alarm had
    forgotten says as little here. decision_seq: (n,). priors: one per arm.
    """
    half_lives = askable(decision_seq)
    if not half_lives:
        return None
    recent = slice(max(rows.value.size - MOST_ROWS, 0), None)
    rows = Rows(rows.z[recent], rows.arm[recent], rows.value[recent], rows.weight[recent])
    blocks = _blocks(rows.value.size)
    scores = log_scores(rows, decision_seq[recent], priors, (None, *half_lives), blocks)
    best = int(scores[1:].argmax())
    margin = LOG_ODDS + np.log(len(half_lives))
    return half_lives[best] if scores[1 + best] - scores[0] > margin else None


def log_scores(
    rows: Rows,
    decision_seq: IntArray,
    priors: Sequence[Prior],
    half_lives: Sequence[float | None],
    blocks: int,
) -> FloatArray:
    """(H,) Σ log p(a block's rewards | those of the blocks before) under each half-life.

    That is the evidence of both less the evidence of those before, so a block is learned from
    while it is predicted; only what came before it is forgotten in part.
    """
    scores = np.zeros(len(half_lives))
    bounds = np.linspace(0, rows.value.size, blocks + 1).astype(np.int64)
    starts = decision_seq[bounds[:-1]].astype(np.float64)
    for arm, prior in enumerate(priors):
        kept = [Sums.empty(prior.mean.size)] * len(half_lives)
        for block in range(blocks):
            inside = slice(bounds[block], bounds[block + 1])
            own = rows.arm[inside] == arm
            z, value, weight = (each[inside][own] for each in (rows.z, rows.value, rows.weight))
            passed = starts[block] - starts[max(block - 1, 0)]
            came = Sums.of(z, value, weight)
            for h, half_life in enumerate(half_lives):
                before = kept[h]
                if half_life is not None and passed > 0.0:
                    before = before.scaled(float(0.5 ** (passed / half_life)))
                if value.size:
                    kept[h] = before.joined(came)
                    scores[h] += log_evidence(kept[h], prior) - log_evidence(before, prior)
                else:
                    kept[h] = before
    return scores
