"""A cheaper model first, checks, then a stronger one: over real sockets, logged and learned."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import uvicorn
from chain_setup import fallback, http_model
from service_process import ASK, Served, eventually, router_config, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bandit_router.cascade import CheckedAnswer
from bandit_router.config import Capability, RouterConfig
from bandit_router.config_cascade import CascadeConfig

pytestmark = pytest.mark.asyncio
GOOD, BAD = '{"answer": 391}', "I cannot help with that."
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": {"type": "object", "required": ["answer"]}},
}


@dataclass
class Upstream:
    """Says what each model is to say: a text, or a status to fail with."""

    url: str = ""
    says: dict[str, str | int] = field(default_factory=dict)
    probability: float = 0.99
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def asked(self, model: str) -> list[dict[str, Any]]:
        return [body for body in self.bodies if body["model"] == model]

    async def chat(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        self.bodies.append(body)
        said = self.says[body["model"]]
        if isinstance(said, int):
            return JSONResponse({"error": {"message": "no"}}, status_code=said)
        known = {"content": [{"token": "x", "logprob": math.log(self.probability)}]}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice["logprobs"] = known if body.get("logprobs") else None
        usage = {"prompt_tokens": 10, "completion_tokens": 10}
        if not body.get("stream"):
            choice["message"] = {"role": "assistant", "content": said}
            return JSONResponse({"id": "a", "choices": [choice], "usage": usage})
        middle = len(said) // 2
        chunks = [
            {"choices": [{**choice, "finish_reason": None, "delta": {"content": part}}]}
            for part in (said[:middle], said[middle:])
        ]
        chunks.append({"choices": [{**choice, "delta": {}}]})
        chunks.append({"choices": [], "usage": usage})
        events = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)
        return Response(events + b"data: [DONE]\n\n", media_type="text/event-stream")


@contextlib.asynccontextmanager
async def upstream(**says: str | int) -> AsyncIterator[Upstream]:
    found = Upstream(says=says)
    app = Starlette(routes=[Route("/v1/chat/completions", found.chat, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    found.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield found
    finally:
        server.should_exit = True
        await serving


def config_of(
    store_url: str, there: Upstream, *checks: dict[str, Any], **changes: Any
) -> RouterConfig:
    sections = {name: changes.pop(name) for name in ("rules", "fallback") if name in changes}
    cascade = CascadeConfig.model_validate({"checks": checks, **changes})
    every = frozenset(Capability)
    patient = fallback(attempt_timeout_s=5.0, first_token_timeout_s=5.0, idle_timeout_s=5.0)
    return router_config(
        store_url,
        http_model("small", there.url, tier="small", capabilities=every),
        http_model("large", there.url, tier="large", capabilities=every),
        http_model("judge", there.url, paused=True, tier="small"),
        cascades={"careful": cascade},
        **{"fallback": patient, **sections},
    )


CAREFUL = {"router": {"cascade": "careful"}}
JSON_CHECK = {"kind": "json_schema"}


async def verdict_on(service: Served, decision_id: str) -> list[float]:
    """What the checks said of a decision, once it is in the log."""

    async def known() -> list[float] | None:
        found = await service.decision(decision_id)
        told = [f["feedback"] for f in found["feedback"] if f["feedback"]["metric"] == "check"]
        assert all(f["source"] == "router:check" for f in told)
        return [f["value"] for f in told] or None

    return await eventually(known)


async def test_an_answer_that_passes_is_given_and_teaches_its_model(store_url: str) -> None:
    async with (
        upstream(small=GOOD, large=GOOD) as there,
        served(config_of(store_url, there, JSON_CHECK)) as service,
    ):
        answer = await service.ask(**CAREFUL, response_format=SCHEMA)
        assert answer.headers["x-router-cascade"] == "passed"
        assert answer.headers["x-router-model"] == "small"
        assert not there.asked("large")
        found = await service.ended(answer.headers["x-router-decision-id"])
        assert found["decision"]["influences"]["cascade"] == "careful"
        assert found["decision"]["masked"]["large"] == "not_a_candidate"
        assert found["pmf_check"]["equal"]
        assert await verdict_on(service, answer.headers["x-router-decision-id"]) == [1.0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_check_sends_the_callers_own_request_to_a_stronger_model(
    store_url: str, stream: bool
) -> None:
    asked = {
        **ASK,
        "response_format": SCHEMA,
        "temperature": 0.25,
        "seed": 7,
        "a_field_of_next_year": {"deep": [1, None, "ü"]},
        "stream": stream,
    }
    async with (
        upstream(small=BAD, large=GOOD) as there,
        served(
            config_of(store_url, there, JSON_CHECK, {"kind": "confidence"}),
        ) as service,
    ):
        answer = await service.client.post(
            "/v1/chat/completions", json={**asked, **CAREFUL, "metadata": {"task": "math"}}
        )
        assert answer.status_code == 200, answer.text
        headers = answer.headers
        assert (headers["x-router-cascade"], headers["x-router-model"]) == ("escalated", "large")
        assert headers["x-router-check"] == "json_schema"
        assert BAD not in answer.text
        text = said_in(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
        assert text == GOOD
        (sent,) = there.asked("large")
        # What the router itself asks of a stream, and takes out again.
        sent.pop("stream_options", None)
        assert sent == {**asked, "model": "large"}
        assert BAD not in orjson.dumps(sent).decode()

        first = await service.ended(headers["x-router-first-decision-id"])
        second = await service.ended(headers["x-router-decision-id"])
        assert first["decision"]["model"] == first["outcome"]["answered_by"] == "small"
        assert (
            second["decision"]["influences"]["escalated_from"] == (first["decision"]["decision_id"])
        )
        for found in (first, second):
            assert found["decision"]["mode"] == "policy"
            assert (
                found["decision"]["propensity"]
                == found["decision"]["pmf"][found["decision"]["model"]]
            )
            assert found["pmf_check"]["equal"]
        assert await verdict_on(service, first["decision"]["decision_id"]) == [0.0]
        assert (await service.decision(first["decision"]["decision_id"]))["reward"] == 0.0
        if stream:
            # Its log-probabilities were not asked for: that check cannot be made of it.
            return
        cost = first["outcome"]["cost_usd"] + second["outcome"]["cost_usd"]
        assert float(headers["x-router-cost-usd"]) == pytest.approx(cost)
        assert headers["x-router-attempts"] == "2"


async def test_the_second_answer_is_checked_too_for_the_learner(store_url: str) -> None:
    async with (
        upstream(small=BAD, large=GOOD) as there,
        served(config_of(store_url, there, JSON_CHECK)) as service,
    ):
        for stream in (False, True):
            answer = await service.ask(**CAREFUL, response_format=SCHEMA, stream=stream)
            assert await verdict_on(service, answer.headers["x-router-decision-id"]) == [1.0]
        await service.ask()
        (sums,) = (await service.client.get("/admin/stats/cascades")).json()["cascades"]
        assert sums == {
            "cascade": "careful",
            "requests": 2,
            "escalations": 2,
            "escalation_rate": 1.0,
        }
        metrics = (await service.client.get("/metrics")).text
        told = 'bandit_router_cascades_total{cascade="careful",result="escalated"} 2.0'
        assert told in metrics


async def test_a_held_stream_is_given_whole_and_without_what_was_asked_for_its_check(
    store_url: str,
) -> None:
    async with (
        upstream(small=GOOD, large=GOOD) as there,
        served(config_of(store_url, there, {"kind": "confidence"})) as service,
    ):
        answer = await service.ask(**CAREFUL, stream=True)
        assert answer.headers["x-router-cascade"] == "passed"
        assert said_in(answer.text) == GOOD
        assert 'logprob"' not in answer.text
        assert there.asked("small")[0]["logprobs"] is True
        whole = await service.ask(**CAREFUL)
        assert whole.json()["choices"][0]["logprobs"] is None
        there.probability = 0.5
        unsure = await service.ask(**CAREFUL)
        assert unsure.headers["x-router-cascade"] == "escalated"
        assert "logprobs" not in there.asked("large")[0]


def is_number(answer: CheckedAnswer) -> bool | str:
    assert answer.request["messages"]
    if answer.text == "raise":
        raise RuntimeError("the operator's own bug")
    return answer.text.isdecimal() or "no number"


async def test_an_operators_function_decides_and_its_bug_says_nothing(store_url: str) -> None:
    check = {"kind": "python", "function": f"{__name__}:is_number"}
    async with (
        upstream(small="391", large=GOOD) as there,
        served(config_of(store_url, there, check, check_last=False)) as service,
    ):
        assert (await service.ask(**CAREFUL)).headers["x-router-cascade"] == "passed"
        there.says["small"] = "many"
        failed = await service.ask(**CAREFUL)
        assert failed.headers["x-router-cascade"] == "escalated"
        first = failed.headers["x-router-first-decision-id"]
        assert await verdict_on(service, first) == [0.0]
        there.says["small"] = "raise"
        broken = await service.ask(**CAREFUL)
        assert broken.headers["x-router-cascade"] == "escalated"
        found = await service.ended(broken.headers["x-router-first-decision-id"])
        assert found["feedback"] == []


async def test_a_judges_call_is_a_decision_of_its_own(store_url: str) -> None:
    check = {"kind": "judge", "model": "judge", "least_score": 0.6}
    async with (
        upstream(small="perhaps 400", large="391", judge="0.2") as there,
        served(config_of(store_url, there, check, check_last=False)) as service,
    ):
        answer = await service.ask(**CAREFUL)
        assert answer.headers["x-router-model"] == "large"
        (judged,) = there.asked("judge")
        assert "perhaps 400" in judged["messages"][1]["content"]
        listed = (await service.client.get("/admin/decisions")).json()["decisions"]
        (asked,) = [line for line in listed if line["model"] == "judge"]
        assert asked["mode"] == "override"
        found = await service.ended(asked["decision_id"])
        first = answer.headers["x-router-first-decision-id"]
        assert found["decision"]["influences"]["judge_of"] == first
        there.says["judge"] = "Score: 0.9"
        assert (await service.ask(**CAREFUL)).headers["x-router-cascade"] == "passed"
        there.says["judge"] = 500
        assert (await service.ask(**CAREFUL)).headers["x-router-cascade"] == "escalated"


async def test_where_the_stronger_model_fails_the_first_answer_or_the_error_is_given(
    store_url: str,
) -> None:
    check = {"kind": "regex", "pattern": "391"}
    async with upstream(small="400", large=500) as there:
        async with served(config_of(store_url, there, check)) as service:
            answer = await service.ask(**CAREFUL)
            assert answer.status_code == 200
            assert answer.headers["x-router-cascade"] == "exhausted"
            assert answer.headers["x-router-degraded"] == "cascade"
            assert answer.json()["choices"][0]["message"]["content"] == "400"
            there.says["small"] = 500
            assert (await service.ask(**CAREFUL)).status_code == 502
        there.says["small"] = "400"
        stern = config_of(store_url, there, check, when_exhausted="error")
        async with served(stern) as service:
            assert (await service.ask(**CAREFUL)).status_code == 502


async def test_a_first_model_that_fails_is_no_verdict_and_the_stronger_one_answers(
    store_url: str,
) -> None:
    async with (
        upstream(small=500, large=GOOD) as there,
        served(config_of(store_url, there, JSON_CHECK)) as service,
    ):
        answer = await service.ask(**CAREFUL)
        assert answer.headers["x-router-cascade"] == "escalated"
        assert "x-router-check" not in answer.headers
        found = await service.ended(answer.headers["x-router-first-decision-id"])
        assert found["outcome"]["answered_by"] is None
        assert found["feedback"] == []


async def test_one_bound_on_dollars_holds_for_both_stages(store_url: str) -> None:
    dear = fallback(max_cost_usd=4e-5)
    async with (
        upstream(small=BAD, large=GOOD) as there,
        served(config_of(store_url, there, {"kind": "refusal"}, fallback=dear)) as service,
    ):
        # The first call costs $3e-5; what the second is expected to cost does not fit any more.
        answer = await service.ask(**CAREFUL)
        assert answer.headers["x-router-cascade"] == "exhausted"
        assert not there.asked("large")


async def test_rules_cascade_and_named_models_do_not(store_url: str) -> None:
    rule = {"name": "math", "when": {"metadata": {"task": "math"}}, "then": {"cascade": "careful"}}
    async with (
        upstream(small=BAD, large=GOOD) as there,
        served(config_of(store_url, there, {"kind": "refusal"}, rules=[rule])) as service,
    ):
        ruled = await service.ask(metadata={"task": "math"})
        assert ruled.headers["x-router-cascade"] == "escalated"
        named = await service.ask(model="small", **CAREFUL)
        assert "x-router-cascade" not in named.headers
        assert named.headers["x-router-model"] == "small"
        only = await service.ask(models=["large"], **CAREFUL)
        assert "x-router-cascade" not in only.headers
        unknown = await service.ask(router={"cascade": "nobodys"})
        assert unknown.status_code == 422
        assert "nobodys" in unknown.json()["error"]["message"]
        routed = await service.client.post("/v1/route", json={**ASK, **CAREFUL})
        assert routed.status_code == 422


async def test_a_session_that_was_escalated_stays_with_the_stronger_model(store_url: str) -> None:
    async with (
        upstream(small=BAD, large=GOOD) as there,
        served(
            config_of(store_url, there, {"kind": "refusal"}), headers={"x-session-id": "s-1"}
        ) as service,
    ):
        first = await service.ask(**CAREFUL)
        assert first.headers["x-router-cascade"] == "escalated"
        await service.ended(first.headers["x-router-decision-id"])
        again = await service.ask(**CAREFUL)
        assert again.headers["x-router-model"] == "large"
        assert "x-router-cascade" not in again.headers
        assert len(there.asked("small")) == 1


def said_in(events: str) -> str:
    """The text of a stream, which must end as streams do."""
    *lines, last = [line for line in events.split("\n\n") if line]
    assert last == "data: [DONE]"
    chunks = [orjson.loads(line.removeprefix("data: ")) for line in lines]
    parts = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(part.get("content", "") for part in parts)
