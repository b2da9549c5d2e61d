"""The spans of one request: the request itself, its decision, and every attempt.

Attributes by OpenTelemetry's conventions for HTTP and for generative AI where those have one,
else under ``bandit_router.``. No prompt, answer, key or error text is ever among them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from bandit_router import __version__
from bandit_router.config import TracingConfig
from bandit_router.types import Decision

NAME = "bandit-router"
TRACES_PATH = "/v1/traces"
FAREWELL_S = 3.0
# W3C's traceparent and tracestate. Baggage stays here: it may hold anything of the caller's.
_PROPAGATOR = TraceContextTextMapPropagator()
log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestTrace:
    """The span of the request that the running task serves, and what its attempts need of it.

    attempts: how many were begun. decision: once there is one.
    """

    span: Span
    context: Context
    attempts: int = 0
    decision: Decision | None = None


_current: ContextVar[RequestTrace | None] = ContextVar("current_trace", default=None)


class Tracing:
    """Begins spans, and hands them to a processor.

    sample_share: of the traces that begin here; None leaves it to OTEL_TRACES_SAMPLER.
    """

    def __init__(self, processor: SpanProcessor, sample_share: float | None = None) -> None:
        sampler: Sampler | None = None
        if sample_share is not None:
            # A caller who has begun the trace has decided for all of it.
            sampler = ParentBased(TraceIdRatioBased(sample_share))
        named = Resource.create({SERVICE_VERSION: __version__})
        if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: NAME}))
        # Its own exit handler would wait for a receiver that is down; ``close`` is called.
        self._provider = TracerProvider(sampler, named, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("bandit_router", __version__)

    @contextmanager
    def request(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, AttributeValue]
    ) -> Iterator[RequestTrace]:
        """The span of one request, continuing the trace that its headers name, if any."""
        parent = _PROPAGATOR.extract(headers, Context())
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        trace = RequestTrace(span, set_span_in_context(span, Context()))
        token = _current.set(trace)
        try:
            yield trace
        finally:
            _current.reset(token)
            span.end()

    @contextmanager
    def deciding(self) -> Iterator[DecisionSpan]:
        """The span of a decision; without a traced request, of none."""
        trace = _current.get()
        span = self._tracer.start_span("decide", trace.context) if trace is not None else None
        try:
            yield DecisionSpan(trace, span)
        except Exception as error:
            if span is not None:
                fail(span, type(error).__name__)
            raise
        finally:
            if span is not None:
                span.end()

    def attempt(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> tuple[Span, dict[str, str]]:
        """The span of one call of a model, and the headers that let the upstream continue it."""
        trace = _current.get()
        context = trace.context if trace is not None else Context()
        span = self._tracer.start_span(name, context, kind, attributes)
        if trace is not None:
            span.set_attribute("bandit_router.attempt", trace.attempts)
            trace.attempts += 1
            if trace.decision is not None and span.is_recording():
                span.set_attributes(drawn_from(trace.decision))
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, set_span_in_context(span, Context()))
        return span, headers

    def close(self, within_s: float = FAREWELL_S) -> None:
        """Send what is still here, and give it up where the receiver does not take it in time."""
        # Measured with a receiver that is down: shutdown alone tries again for 7 s.
        farewell = threading.Thread(target=self._provider.shutdown, daemon=True)
        farewell.start()
        farewell.join(within_s)
        if farewell.is_alive():
            log.warning("the last spans were given up: no receiver took them in %g s", within_s)


@dataclass(frozen=True, slots=True)
class DecisionSpan:
    """A decision under way."""

    trace: RequestTrace | None
    span: Span | None

    def made(self, decision: Decision, *, dry_run: bool) -> None:
        """Tell what was decided; a dry run leaves no trace in the request."""
        if self.span is not None and self.span.is_recording():
            self.span.set_attributes({**drawn_from(decision), **looked_at(decision)})
        if self.trace is not None and not dry_run:
            self.trace.decision = decision
            self.trace.span.set_attributes(summary(decision))


def summary(decision: Decision) -> dict[str, AttributeValue]:
    """What tells decisions apart in a list of traces."""
    return {
        "bandit_router.decision_id": str(decision.id),
        "bandit_router.mode": decision.mode.value,
        "bandit_router.policy": decision.policy,
        "bandit_router.chosen": decision.chosen,
        "bandit_router.propensity": decision.propensity,
        "bandit_router.tenant": decision.tenant,
    }


def drawn_from(decision: Decision) -> dict[str, AttributeValue]:
    """The summary with the vector that the model was drawn from: enough for off-policy
    evaluation of the spans alone."""
    found = summary(decision)
    found["bandit_router.arms"] = decision.arms
    found["bandit_router.pmf"] = tuple(decision.pmf.tolist())
    if decision.session_id is not None:
        found["gen_ai.conversation.id"] = decision.session_id
    return found


def looked_at(decision: Decision) -> dict[str, AttributeValue]:
    """What the decision knew of the chosen model, and why others could not be chosen."""
    place, expected = decision.arms.index(decision.chosen), decision.prediction
    return {
        "bandit_router.snapshot_version": decision.snapshot_version,
        "bandit_router.input_tokens": decision.input_tokens,
        "bandit_router.price_of_dollar": decision.price_of_dollar,
        "bandit_router.fallbacks": decision.fallbacks,
        "bandit_router.masked": tuple(f"{arm}: {why}" for arm, why in decision.masked.items()),
        "bandit_router.predicted.quality": float(expected.quality[place]),
        "bandit_router.predicted.cost_usd": float(expected.cost_usd[place]),
        "bandit_router.predicted.latency_s": float(expected.latency_s[place]),
    }


def fail(span: Span, error_type: str) -> None:
    """Mark a span as failed, by a word and never by a message, which may quote the caller."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


def exporting(config: TracingConfig) -> Tracing:
    """Tracing that sends its spans over OTLP, in batches, from a thread of its own."""
    endpoint = None if config.endpoint is None else config.endpoint.rstrip("/") + TRACES_PATH
    exporter = OTLPSpanExporter(endpoint=endpoint)
    return Tracing(BatchSpanProcessor(exporter), config.sample_share)
