"""The documentation chatbot: 70 % simple and 30 % hard questions, and what learning saves.

The small model costs $0.0003 a call and the large one $0.003. Sending everything to the large
one is the customer's present; perfect rules (every simple question to the small one, every hard
one to the large one) would save 63 %. The router is told neither which question is simple nor
which model is good at what: it learns from thumbs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import FloatArray
from simulations.world import named_world, simulate_traffic

SMALL_USD, LARGE_USD, SIMPLE_SHARE = 0.0003, 0.003, 0.7
RULES_USD = SIMPLE_SHARE * SMALL_USD + (1.0 - SIMPLE_SHARE) * LARGE_USD
RULES_SAVING = 1.0 - RULES_USD / LARGE_USD
# The saving and the quality are read off so many requests at a time.
WINDOW = 1000
# Quality is kept where no more than this is lost against the large model for everything.
BEARABLE = 0.01


@dataclass(frozen=True, slots=True)
class ChatbotResult:
    """One month. saving: share of the all-large bill. quality_lost: mean true quality given up
    against all-large, with a 95 % interval over requests. small_simple, small_hard: share of
    each kind that the small model answered. reached_at: requests after which a window of 1,000
    first saved as much as perfect rules and lost at most 0.01; None where none did.
    settled_*: the same over the requests after ``reached_at``.
    """

    requests: int
    feedback_rate: float
    saving: float
    rules_saving: float
    quality_lost: float
    quality_lost_interval: tuple[float, float]
    rules_quality_lost: float
    small_simple: float
    small_hard: float
    reached_at: int | None
    settled_saving: float | None
    settled_quality_lost: float | None


def run_chatbot(
    requests: int, *, seed: int = 0, feedback_rate: float = 1.0, budget_usd: float = RULES_USD
) -> ChatbotResult:
    """One month of the router on a synthetic world, from a cold start.

    budget_usd: what may be spent a request; by default what perfect rules would.
    """
    traffic = simulate_traffic(
        named_world("documentation"),
        requests,
        np.random.default_rng(seed),
        budget_usd=budget_usd,
        feedback_rate=feedback_rate,
    )
    steps = np.arange(requests)
    arm, truth = traffic.trace.arm, traffic.expected_quality
    hard = traffic.contexts.topic == 1
    lost = truth[:, 1] - truth[steps, arm]
    rules = truth[:, 1] - truth[steps, hard.astype(np.int64)]
    saved = 1.0 - traffic.trace.cost_usd / LARGE_USD
    reached = _reached(saved, lost)
    error = float(lost.std(ddof=1)) / requests**0.5
    mean = float(lost.mean())
    return ChatbotResult(
        requests=requests,
        feedback_rate=feedback_rate,
        saving=float(saved.mean()),
        rules_saving=float(1.0 - np.where(hard, LARGE_USD, SMALL_USD).mean() / LARGE_USD),
        quality_lost=mean,
        quality_lost_interval=(mean - 1.96 * error, mean + 1.96 * error),
        rules_quality_lost=float(rules.mean()),
        small_simple=float((arm[~hard] == 0).mean()),
        small_hard=float((arm[hard] == 0).mean()),
        reached_at=reached,
        settled_saving=None if reached is None else float(saved[reached:].mean()),
        settled_quality_lost=None if reached is None else float(lost[reached:].mean()),
    )


def sentences(result: ChatbotResult) -> list[str]:
    """The result in words."""
    low, high = result.quality_lost_interval
    told = [
        f"{result.requests:,} questions, feedback on {result.feedback_rate:.0%}: saved "
        f"{result.saving:.1%} of the all-large bill; perfect rules save {result.rules_saving:.1%}",
        f"quality given up against all-large: {result.quality_lost:.4f} ({low:.4f} to "
        f"{high:.4f}) a question; perfect rules give up {result.rules_quality_lost:.4f}",
        f"the small model answered {result.small_simple:.1%} of the simple questions and "
        f"{result.small_hard:.1%} of the hard ones",
    ]
    if result.reached_at is None:
        told.append(
            f"no {WINDOW:,} questions in a row saved as much as perfect rules at a loss of at "
            f"most {BEARABLE:g}"
        )
    else:
        told.append(
            f"after {result.reached_at:,} questions a window of {WINDOW:,} saved as much as "
            f"perfect rules at a loss of at most {BEARABLE:g}; from there on "
            f"{result.settled_saving:.1%} "
            f"was saved at a loss of {result.settled_quality_lost:.4f}"
        )
    return told


def _reached(saved: FloatArray, lost: FloatArray) -> int | None:
    """The end of the first window that saves as much as rules at a bearable loss."""
    if saved.size < WINDOW:
        return None
    kernel = np.ones(WINDOW) / WINDOW
    good = (np.convolve(saved, kernel, "valid") >= RULES_SAVING) & (
        np.convolve(lost, kernel, "valid") <= BEARABLE
    )
    return int(good.argmax()) + WINDOW if good.any() else None
