"""What leaves as OpenTelemetry spans: by whom, under which trace, and never what was said."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain_setup import http_model
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from service_process import ASK, Served, router_config, served, service_process

from bandit_router.config import ModelConfig, PolicyConfig
from service.tracing.spans import Tracing
from simulations.faults.misbehaving import (
    USAGE,
    Exchange,
    answer,
    delta,
    event,
    hang_up,
    misbehaving,
    refuse,
    silence,
    stream_of,
)
from simulations.logs.otel import from_otel

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{CALLERS_SPAN}-01"}
PROMPT = "my-diagnosis-is-confidential"
KEY = "sk-upstreams0secret0key"


@dataclass
class Traced:
    service: Served
    exporter: InMemorySpanExporter

    async def spans(self, count: int) -> dict[str, ReadableSpan]:
        """The spans of the one request that was made, by name; retries have a number."""
        found = self.exporter.get_finished_spans()
        assert len(found) == count, [span.name for span in found]
        named: dict[str, ReadableSpan] = {}
        for span in found:
            position = span.attributes.get("bandit_router.attempt") if span.attributes else None
            named[f"{span.name} {position}" if position else span.name] = span
        return named


@asynccontextmanager
async def traced(
    url: str, *models: ModelConfig, sample_share: float | None = None, **sections: Any
) -> AsyncIterator[Traced]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), sample_share)
    config = router_config(url, *models, **sections)
    async with served(config, parts={"tracing": tracing}) as service:
        yield Traced(service, exporter)
    tracing.close()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Trace, span, and parent."""
    context = span.context
    assert context is not None
    parent = None if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", parent


@pytest.mark.asyncio
async def test_request_decision_and_attempt_are_spans_of_the_callers_trace(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        traced(store_url, *(http_model(n, upstream.base_url) for n in ("small", "large"))) as t,
    ):
        headers = {**TRACEPARENT, "x-session-id": "s-1", "x-request-id": "mine"}
        got = await t.service.client.post(
            "/v1/chat/completions", json={**ASK, "max_tokens": 50}, headers=headers
        )
        model = got.json()["model"]
        spans = await t.spans(3)
        request = spans["POST /v1/chat/completions"]
        decision, attempt = spans["decide"], spans[f"chat {model}"]
        assert ids(request)[0] == ids(decision)[0] == ids(attempt)[0] == TRACE_ID
        assert ids(request)[2] == CALLERS_SPAN
        assert ids(decision)[2] == ids(attempt)[2] == ids(request)[1]
        # The upstream continues the trace below the very attempt that called it.
        assert upstream.headers[0]["traceparent"] == f"00-{TRACE_ID}-{ids(attempt)[1]}-01"

        stored = (await t.service.decision(got.headers["x-router-decision-id"]))["decision"]
        common = {
            "bandit_router.decision_id": got.headers["x-router-decision-id"],
            "bandit_router.propensity": stored["propensity"],
            "bandit_router.mode": "policy",
            "bandit_router.policy": "thompson",
            "bandit_router.chosen": model,
        }
        for span in (request, decision, attempt):
            assert common.items() <= told(span).items()
        assert request.kind is SpanKind.SERVER
        assert attempt.kind is SpanKind.CLIENT
        assert {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "bandit_router.request_id": "mine",
            "bandit_router.model": model,
            "bandit_router.attempts": 1,
        }.items() <= told(request).items()
        assert told(decision)["bandit_router.pmf"] == tuple(stored["pmf"].values())
        assert {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai_compatible",
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.response.model": "upstream",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": USAGE["prompt_tokens"],
            "gen_ai.usage.output_tokens": USAGE["completion_tokens"],
            "gen_ai.conversation.id": "s-1",
            "server.address": "127.0.0.1",
            "server.port": upstream.port,
            "bandit_router.status": "ok",
        }.items() <= told(attempt).items()
        cost_usd = (USAGE["prompt_tokens"] * 1.0 + USAGE["completion_tokens"] * 2.0) / 1e6
        assert told(attempt)["bandit_router.cost_usd"] == pytest.approx(cost_usd)


@pytest.mark.asyncio
async def test_every_attempt_is_a_span_that_says_how_it_failed_without_quoting(
    store_url: str,
) -> None:
    async def quoting(exchange: Exchange) -> None:
        await refuse(500, message=f"{PROMPT} {KEY}")(exchange)

    async with misbehaving(quoting) as bad, misbehaving(answer) as good:
        models = [http_model("bad", bad.base_url), http_model("good", good.base_url)]
        async with traced(store_url, *models) as t:
            ask = {**ASK, "models": ["bad", "good"], "model": "bad"}
            ask["messages"] = [{"role": "user", "content": PROMPT}]
            got = await t.service.client.post("/v1/chat/completions", json=ask)
            assert got.json()["model"] == "good"
            spans = await t.spans(5)
            for failed in (spans["chat bad"], spans["chat bad 1"]):
                assert told(failed)["error.type"] == "server_error"
                assert told(failed)["http.response.status_code"] == 500
                assert failed.status.status_code is StatusCode.ERROR
                assert failed.status.description is None
            assert told(spans["chat good 2"])["bandit_router.status"] == "ok"
            assert "error.type" not in told(spans["POST /v1/chat/completions"])
            for span in spans.values():
                assert PROMPT not in span.to_json()
                assert KEY not in span.to_json()


@pytest.mark.asyncio
async def test_a_stream_is_one_span_to_its_end_with_the_time_to_the_first_piece(
    store_url: str,
) -> None:
    async with (
        misbehaving(answer) as upstream,
        traced(store_url, http_model("m", upstream.base_url)) as t,
    ):
        got = await t.service.ask(stream=True)
        assert got.text.endswith("data: [DONE]\n\n")
        spans = await t.spans(3)
        about = told(spans["chat m"])
        assert about["gen_ai.request.stream"] is True
        assert about["gen_ai.response.finish_reasons"] == ("stop",)
        assert about["gen_ai.usage.output_tokens"] == USAGE["completion_tokens"]
        assert 0.0 < about["gen_ai.response.time_to_first_chunk"] < 20.0
        request, attempt = spans["POST /v1/chat/completions"], spans["chat m"]
        assert request.end_time is not None
        assert attempt.end_time is not None
        assert attempt.end_time <= request.end_time


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("behaviour", "stream", "status"),
    [
        (silence, False, "timeout"),
        (silence, True, "timeout"),
        (stream_of(event(delta("Because")), then=hang_up), True, "stream_broken"),
    ],
)
async def test_failures_are_named_as_the_log_names_them(
    store_url: str, behaviour: Any, stream: bool, status: str
) -> None:
    async with (
        misbehaving(behaviour) as upstream,
        traced(store_url, http_model("m", upstream.base_url)) as t,
    ):
        got = await t.service.ask(stream=stream)
        ended = await t.service.ended(got.headers["x-router-decision-id"])
        assert {attempt["status"] for attempt in ended["attempts"]} == {status}
        spans = await t.spans(2 + len(ended["attempts"]))
        for span in spans.values():
            if span.name == "chat m":
                assert told(span)["error.type"] == told(span)["bandit_router.status"] == status
        # A stream that breaks has said 200 already.
        error_type = None if status == "stream_broken" else str(got.status_code)
        assert told(spans["POST /v1/chat/completions"]).get("error.type") == error_type


@pytest.mark.asyncio
async def test_a_caller_who_leaves_a_stream_ends_its_spans_as_cancelled(store_url: str) -> None:
    async with (
        misbehaving(stream_of(event(delta("Because")), then=silence)) as upstream,
        traced(store_url, http_model("m", upstream.base_url)) as t,
    ):
        async with t.service.client.stream(
            "POST", "/v1/chat/completions", json={**ASK, "stream": True}
        ) as got:
            await anext(got.aiter_bytes())
        await t.service.ended(got.headers["x-router-decision-id"])
        attempt = (await t.spans(3))["chat m"]
        assert told(attempt)["bandit_router.status"] == "cancelled"
        assert "error.type" not in told(attempt)


@pytest.mark.asyncio
async def test_a_caller_who_does_not_sample_is_obeyed_and_the_upstream_still_told(
    store_url: str,
) -> None:
    async with (
        misbehaving(answer) as upstream,
        traced(store_url, http_model("m", upstream.base_url), sample_share=1.0) as t,
    ):
        unsampled = {"traceparent": f"00-{TRACE_ID}-{CALLERS_SPAN}-00"}
        got = await t.service.client.post("/v1/chat/completions", json=ASK, headers=unsampled)
        assert got.status_code == 200
        assert t.exporter.get_finished_spans() == ()
        assert upstream.headers[0]["traceparent"].startswith(f"00-{TRACE_ID}-")
        assert upstream.headers[0]["traceparent"].endswith("-00")


@pytest.mark.asyncio
async def test_health_is_not_traced_and_wrong_paths_make_no_names(store_url: str) -> None:
    async with traced(store_url, http_model("m", "http://127.0.0.1:9/v1")) as t:
        await t.service.client.get("/health/liveliness")
        await t.service.client.get("/v1/nobody/serves/this")
        span = (await t.spans(1))["GET"]
        assert told(span)["http.response.status_code"] == 404
        assert span.status.status_code is StatusCode.UNSET


@pytest.mark.asyncio
async def test_the_spans_of_the_service_are_a_log_to_evaluate_on(
    store_url: str, tmp_path: Path
) -> None:
    async with misbehaving(refuse(500), refuse(500), answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        async with traced(store_url, *models, policy=PolicyConfig(name="thompson")) as t:
            asked = [await t.service.ask() for _ in range(4)]
            path = tmp_path / "spans.json"
            sent = MessageToDict(encode_spans(t.exporter.get_finished_spans()))
            path.write_text(json.dumps(sent))
            read = from_otel(path, estimate_propensities=False)
            # The first answer is a fallback's: no draw of the policy's, and no credit to it.
            assert read.left_out == {"answered by a fallback": 1, "failed": 2}
            assert read.log["decision_id"].to_list() == [
                got.headers["x-router-decision-id"] for got in asked[1:]
            ]
            for row in read.log.iter_rows(named=True):
                stored = await t.service.ended(row["decision_id"])
                assert row["pmf"] == list(stored["decision"]["pmf"].values())
                assert row["chosen"] == stored["outcome"]["answered_by"]
                assert row["propensity"] == stored["decision"]["propensity"]
                assert row["cost_usd"] == pytest.approx(stored["outcome"]["cost_usd"])
                assert (row["mode"], row["policy"]) == ("policy", "thompson")


@dataclass
class Receiver:
    url: str
    exports: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def spans(self) -> list[dict[str, Any]]:
        found = []
        for export in map(MessageToDict, self.exports):
            for resource in export["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += scope["spans"]
        return found


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """What an OpenTelemetry collector is to a service: POST /v1/traces, in protobuf."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            raw = self.rfile.read(int(self.headers["content-length"]))
            receiver.exports.append(ExportTraceServiceRequest.FromString(raw))
            receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
            """Nothing on standard error."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


CONFIG = """
[[models]]
name = "m"
base_url = "{upstream}"

[store]
url = "{store}"
"""


@pytest.mark.asyncio
async def test_a_collector_gets_every_span_before_the_service_has_ended(
    store_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "router.toml"
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=routing",
        "BANDIT_ROUTER_LOG": "json",
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
    }
    with otlp_receiver() as receiver:
        async with misbehaving(answer) as upstream:
            path.write_text(CONFIG.format(upstream=upstream.base_url, store=store_url))
            environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
            with service_process(path, **environ) as service:
                async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
                    got = await client.post("/v1/chat/completions", json=ASK, headers=TRACEPARENT)
                    assert got.status_code == 200
                assert service.stop() == 0
                lines = [json.loads(x) for x in service.log.splitlines() if x.startswith("{")]
        assert receiver.headers[0]["x-team"] == "routing"
        assert {span["name"] for span in receiver.spans()} == {
            "POST /v1/chat/completions",
            "decide",
            "chat m",
        }
        resource = MessageToDict(receiver.exports[0])["resourceSpans"][0]["resource"]
        about = {entry["key"]: entry["value"] for entry in resource["attributes"]}
        assert about["service.name"] == {"stringValue": "bandit-router"}
        (line,) = [line for line in lines if line["message"] == "request"]
        assert line["trace_id"] == TRACE_ID


@pytest.mark.asyncio
async def test_a_collector_that_is_down_neither_slows_answers_nor_holds_up_the_end(
    store_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "router.toml"
    async with misbehaving(answer) as upstream:
        path.write_text(
            CONFIG.format(upstream=upstream.base_url, store=store_url)
            + '[tracing]\nendpoint = "http://127.0.0.1:9"\nsample_share = 1.0\n'
        )
        with service_process(path) as service:
            async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
                for _ in range(5):
                    got = await client.post("/v1/chat/completions", json=ASK)
                    assert got.status_code == 200
            assert service.stop() == 0
            assert "the last spans were given up" in service.log
