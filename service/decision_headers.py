"""The x-router headers: what a caller may know of how his answer came about."""

from __future__ import annotations

from bandit_router.types import Decision, Outcome


def decision_headers(decision: Decision) -> dict[str, str]:
    """Headers of every answer to a stored decision."""
    return {
        "x-router-decision-id": str(decision.id),
        "x-router-propensity": repr(decision.propensity),
        "x-router-policy": decision.policy,
    }


def answer_headers(model: str, attempts: int, overhead_s: float) -> dict[str, str]:
    """Headers of every answer that a model gave. attempts: calls made, the last one included.

    overhead_s: what the router took besides waiting for models.
    """
    return {
        "x-router-model": model,
        "x-router-attempts": str(attempts),
        "x-router-overhead-ms": f"{max(0.0, overhead_s) * 1000.0:.3f}",
    }


def cost_headers(outcome: Outcome) -> dict[str, str]:
    """The cost of the whole chain, where it is known: not before the end of a stream."""
    if outcome.cost_usd is None:
        return {}
    return {"x-router-cost-usd": repr(float(outcome.cost_usd))}
