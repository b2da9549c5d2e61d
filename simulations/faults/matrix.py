"""The failure matrix: every fault, streamed and whole, first, last and alone in the chain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from simulations.demo.service_process import running_service
from simulations.demo.workspace import Workspace, workspace
from simulations.faults.catalogue import FAULTS, Fault, Treatment
from simulations.faults.certificate import distrusted
from simulations.faults.misbehaving import answer, misbehaving, refused_url

DEADLINE_S = 8.0
PATIENCE_S = 2.0
HOLD_S = 0.25
# What a busy machine may take beside the chain itself.
SLACK_S = 3.0
PARALLEL = 16
GOOD, DEAD = "good", "dead"
POSITIONS = ("first", "last", "alone")
UNKNOWN_HOST = "http://no-such-host.invalid/v1"
TLS_GREETING = b"SSH-2.0-not-tls\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    fault: Fault
    stream: bool
    position: str

    @property
    def treatment(self) -> Treatment:
        return self.fault.streamed if self.stream else self.fault.whole

    @property
    def chain(self) -> tuple[str, ...]:
        model = model_name(self.fault)
        return {"first": (model, GOOD), "last": (DEAD, model), "alone": (model,)}[self.position]

    @property
    def expected_end(self) -> str:
        """How it is to end for the client."""
        treatment = self.treatment
        if treatment.inside:
            return f"200, then {treatment.status} in the stream"
        if self.position == "first" and not treatment.stops:
            return "200 by good"
        status, code = treatment.alone
        if self.position == "last" and not treatment.stops:
            status, code = 502, "all_models_failed"
        return f"{status} {code}"

    @property
    def expected_attempts(self) -> tuple[tuple[str, str], ...]:
        """Model and status of every attempt to be recorded."""
        treatment, model = self.treatment, model_name(self.fault)
        failed = [(model, treatment.status.value)] * treatment.calls
        if self.position == "last":
            failed.insert(0, (DEAD, "connect_error"))
        if self.position == "first" and not (treatment.inside or treatment.stops):
            failed.append((GOOD, "ok"))
        return tuple(failed)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case as it went. problems: where it differs from what is stated."""

    fault: str
    stream: bool
    position: str
    expected: str
    ended: str
    attempts: tuple[tuple[str, str], ...]
    seconds: float
    problems: tuple[str, ...]


def all_cases(faults: Sequence[Fault] = FAULTS) -> list[Case]:
    return [
        Case(fault, stream, position)
        for fault in faults
        for stream in (False, True)
        for position in POSITIONS
    ]


def model_name(fault: Fault) -> str:
    return "".join(c if c.isalnum() else "-" for c in fault.name.lower())


async def run_matrix(faults: Sequence[Fault] = FAULTS) -> list[CaseResult]:
    """Start the misbehaving servers and a router of its own, and run every case.

    Raises DemoError when the router does not start.
    """
    # Started and stopped in a thread: the servers live on this loop and must answer meanwhile.
    async with fault_servers(faults) as urls:
        with workspace(keep=False) as place:
            place.config_path.write_text(config_text(urls, place), encoding="utf-8")
            service = running_service(place)
            await asyncio.to_thread(service.__enter__)
            try:
                limits = httpx.Limits(max_connections=PARALLEL)
                async with httpx.AsyncClient(
                    base_url=place.url, timeout=DEADLINE_S * 3, limits=limits, trust_env=False
                ) as client:
                    places = asyncio.Semaphore(PARALLEL)
                    return await asyncio.gather(
                        *(_run_case(client, case, places) for case in all_cases(faults))
                    )
            finally:
                # In this thread: it sets signal handlers, and the servers are done.
                service.__exit__(None, None, None)


@contextlib.asynccontextmanager
async def fault_servers(faults: Sequence[Fault]) -> AsyncIterator[dict[str, str]]:
    """The address of every faulty model, and of the good and the dead one."""
    async with contextlib.AsyncExitStack() as stack:
        urls = {DEAD: refused_url()}
        good = await stack.enter_async_context(misbehaving(answer))
        urls[GOOD] = good.base_url
        for fault in faults:
            if fault.behaviour is None:
                unknown = fault.address == "unknown"
                urls[model_name(fault)] = UNKNOWN_HOST if unknown else urls[DEAD]
                continue
            tls = fault.address == "tls"
            server = await stack.enter_async_context(
                misbehaving(
                    fault.behaviour,
                    greeting=TLS_GREETING if tls else b"",
                    tls=distrusted() if fault.address == "certificate" else None,
                )
            )
            url = server.base_url
            urls[model_name(fault)] = url.replace("http:", "https:") if tls else url
        yield urls


def config_text(urls: Mapping[str, str], place: Workspace) -> str:
    """A router without much patience, whose breakers stay out of the way."""
    tables = []
    for name, url in urls.items():
        # The good model has more room, so that it may answer what was too long for another.
        room = 200_000 if name == GOOD else 100_000
        tables.append(
            f"[[models]]\nname = {json.dumps(name)}\nbase_url = {json.dumps(url)}\n"
            f"context_window_tokens = {room}\n"
        )
    fallback = {
        "deadline_s": DEADLINE_S,
        "attempt_timeout_s": PATIENCE_S,
        "first_token_timeout_s": PATIENCE_S,
        "idle_timeout_s": PATIENCE_S,
        "hold_first_s": HOLD_S,
        "num_retries": 1,
        "backoff_s": 0.01,
        "max_backoff_s": 1.5,
        "allowed_fails": 10_000,
        "minimum_calls": 10_000,
    }
    tables += [
        '[policy]\nname = "random"\n',
        '[features]\ntext = "none"\n',
        "[rewards.quality]\n",
        "[fallback]\n" + "".join(f"{key} = {value}\n" for key, value in fallback.items()),
        '[store]\ndata_dir = "data"\n',
        f'[server]\nhost = "127.0.0.1"\nport = {place.port}\n',
    ]
    return "\n".join(tables)


async def _run_case(client: httpx.AsyncClient, case: Case, places: asyncio.Semaphore) -> CaseResult:
    body = {
        "model": case.chain[0],
        "models": list(case.chain),
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "stream": case.stream,
    }
    async with places:
        began_s = time.monotonic()
        try:
            got = await client.post("/v1/chat/completions", json=body)
        except httpx.TransportError as error:
            seconds = time.monotonic() - began_s
            ended, decision_id = f"no answer: {type(error).__name__}", None
        else:
            seconds = time.monotonic() - began_s
            ended = _end_of(got, stream=case.stream)
            decision_id = got.headers.get("x-router-decision-id")
        attempts = await _attempts(client, decision_id) if decision_id else ()
    return judged(case, ended, attempts, seconds)


def judged(
    case: Case, ended: str, attempts: tuple[tuple[str, str], ...], seconds: float
) -> CaseResult:
    """What happened beside what is stated."""
    problems = []
    if ended != case.expected_end:
        problems.append(f"ended in {ended!r}, not {case.expected_end!r}")
    if attempts != case.expected_attempts:
        problems.append(f"recorded {attempts}, not {case.expected_attempts}")
    if seconds > DEADLINE_S + SLACK_S:
        problems.append(f"took {seconds:.1f} s, over the deadline of {DEADLINE_S:g} s")
    return CaseResult(
        case.fault.name,
        case.stream,
        case.position,
        case.expected_end,
        ended,
        attempts,
        seconds,
        tuple(problems),
    )


def _end_of(got: httpx.Response, *, stream: bool) -> str:
    if got.status_code != 200:
        return f"{got.status_code} {got.json()['error']['code']}"
    if not stream:
        return f"200 by {got.json()['model']}"
    events = [part.removeprefix("data: ") for part in got.text.split("\n\n") if part]
    if events[-1] == "[DONE]":
        return f"200 by {json.loads(events[0])['model']}"
    last = json.loads(events[-1])
    code = last["error"]["code"] if "error" in last else "no end"
    return f"200, then {code} in the stream"


async def _attempts(client: httpx.AsyncClient, decision_id: str) -> tuple[tuple[str, str], ...]:
    """Model and status of each recorded attempt, once the outcome is stored."""
    found: dict[str, Any] = {}
    for _ in range(200):
        found = (await client.get(f"/admin/decisions/{decision_id}")).json()
        if found.get("outcome"):
            break
        await asyncio.sleep(0.05)
    return tuple((a["model"], a["status"]) for a in found.get("attempts", ()))
