"""What Prometheus may ask: counted where things happen, cheaply; states are read when asked.

Labels are configured names and fixed words only, so that no caller can make series without end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from bandit_router.types import Attempt, Decision, Mode, Outcome

NAMESPACE = "bandit_router"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OVERHEAD_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG_SECONDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0)
ENTROPY_NATS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# What an answer is counted under: the API's own doors by their path, the rest by its first part.
API = frozenset(
    f"/v1/{door}"
    for door in (
        "chat/completions",
        "completions",
        "embeddings",
        "responses",
        "route",
        "outcomes",
        "feedback",
        "models",
    )
)
GROUPS = frozenset({"admin", "health", "dashboard", "metrics"})
Gauge = tuple[str, str, Sequence[tuple[tuple[str, ...], float]], tuple[str, ...]]


class Metrics:
    """Counters and histograms of one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(
                name, text, labels, namespace=NAMESPACE, registry=registry, buckets=buckets
            )

        self._requests = counter("requests", "Answers, by door and status.", "door", "status")
        self._decisions = counter("decisions", "Decisions, by chosen model.", "model", "mode")
        self._entropy = histogram(
            "pmf_entropy_nats", "Entropy of the probabilities a policy drew from.", ENTROPY_NATS
        )
        self._overhead = histogram(
            "overhead_seconds", "Time the router adds to a request.", OVERHEAD_SECONDS
        )
        self._attempts = counter("attempts", "Calls of models.", "model", "status")
        self._latency = histogram(
            "upstream_latency_seconds", "Time to the end of an answer.", SECONDS, "model"
        )
        self._first_token = histogram(
            "upstream_first_token_seconds", "Time to a stream's first piece.", SECONDS, "model"
        )
        self._tokens = counter("tokens", "Tokens of answered calls.", "model", "direction")
        self._dollars = counter("cost_usd", "Dollars of calls.", "model")
        self._fallbacks = counter("fallbacks", "Answers by another model than chosen.", "model")
        self._cascades = counter(
            "cascades", "Cascaded requests, by whether they escalated.", "cascade", "result"
        )
        self._feedback = counter("feedback", "Signals taken.", "state")
        self._feedback_lag = histogram(
            "feedback_lag_seconds", "From a decision to a signal on it.", LAG_SECONDS
        )
        self._children: dict[tuple[Any, ...], Any] = {}

    def request(self, path: str, status: int, overhead_ms: bytes | None) -> None:
        """One answer left. overhead_ms: as its header says, where it has one."""
        door = path
        if door not in API:
            first = path[1:].partition("/")[0]
            door = f"/{first}" if first in GROUPS else "other"
        self._of(self._requests, door, f"{status // 100}xx").inc()
        if overhead_ms is not None:
            self._overhead.observe(float(overhead_ms) / 1000.0)

    def decided(self, decision: Decision) -> None:
        """One decision was made."""
        self._of(self._decisions, decision.chosen, decision.mode.value).inc()
        if decision.mode is Mode.POLICY:
            # A loop over so few numbers is quicker than four array calls.
            shares = decision.pmf.tolist()
            self._entropy.observe(-math.fsum(p * math.log(p) for p in shares if p > 0.0))

    def ended(self, outcome: Outcome, attempts: Sequence[Attempt]) -> None:
        """One decision came to its end."""
        for attempt in attempts:
            self._of(self._attempts, attempt.model, attempt.status.value).inc()
            if attempt.cost_usd:
                self._of(self._dollars, attempt.model).inc(attempt.cost_usd)
        model = outcome.answered_by
        if model is None:
            return
        self._of(self._latency, model).observe(outcome.latency_s)
        if outcome.first_token_s is not None:
            self._of(self._first_token, model).observe(outcome.first_token_s)
        for direction, tokens in (("in", outcome.input_tokens), ("out", outcome.output_tokens)):
            if tokens:
                self._of(self._tokens, model, direction).inc(tokens)
        if attempts and attempts[0].model != model:
            self._of(self._fallbacks, attempts[0].model).inc()

    def cascaded(self, cascade: str, result: str) -> None:
        """One cascaded request was answered. result: ``passed``, ``escalated``, ``exhausted``."""
        self._of(self._cascades, cascade, result).inc()

    def judged(self, decision_id: UUID, state: str, now: datetime) -> None:
        """One signal was stored."""
        self._of(self._feedback, state).inc()
        if state == "duplicate":
            return
        # The first 48 bits of a UUIDv7 are Unix milliseconds.
        made = datetime.fromtimestamp((decision_id.int >> 80) / 1000.0, UTC)
        self._feedback_lag.observe(max(0.0, (now - made).total_seconds()))

    def exposition(self, states: Iterable[Gauge]) -> bytes:
        """Everything in Prometheus' text format. states: gauges, read for this scrape."""
        now = CollectorRegistry()
        now.register(_States(states))
        return generate_latest(self._registry) + generate_latest(now)

    def _of(self, family: Any, *labels: str) -> Any:
        # prometheus_client checks and joins labels at each call: kept, a look-up is enough.
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child


class _States(Collector):
    """Gauges that are true at the moment they are asked for."""

    def __init__(self, states: Iterable[Gauge]) -> None:
        self._states = states

    def describe(self) -> list[Metric]:
        # Without this, registering would read the states.
        return []

    def collect(self) -> Iterator[Metric]:
        for name, text, values, labels in self._states:
            family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
            for names, value in values:
                family.add_metric(list(names), value)
            yield family
