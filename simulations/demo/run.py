"""``bandit-router demo``: the whole loop on recorded prompts, against the service itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bandit_router.errors import DemoError
from simulations.demo.audit import audit
from simulations.demo.clients import make_client, replay
from simulations.demo.result import Result, standing
from simulations.demo.screen import Screen, make_console
from simulations.demo.service_process import log_tail, running_service
from simulations.demo.silent_loss import LossPlan, Noticed, replay_with_loss
from simulations.demo.tally import Answered, Contest, Window, shuffled, window_size
from simulations.demo.tour import show_paths
from simulations.demo.workspace import Workspace, prepare, workspace
from simulations.example_data import read_examples
from simulations.json_file import write_json


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line may set. requests: None replays all of them."""

    requests: int | None = None
    budget_usd_per_request: float = 2.3e-4
    seed: int = 0
    clients: int = 8
    json_path: Path | None = None
    keep: bool = False
    keep_serving: bool = False
    silent_loss: bool = False


def run_demo(options: DemoOptions) -> None:
    """Run the demo and print it. Returns when all went well, the log's audit included.

    Raises RouterError with the remedy otherwise. Service, Postgres and folder are gone in
    every case, unless keep says that the folder stays.
    """
    started_s = time.monotonic()
    examples = read_examples()
    matrix = examples.rows(shuffled(examples, options.requests, options.seed))
    plan = LossPlan.on(matrix) if options.silent_loss else None
    contest = Contest.on(plan.applied(matrix) if plan else matrix)
    screen = Screen(make_console(), Contest.on(matrix))
    screen.introduce(options.budget_usd_per_request)
    with _ended_by_signals(), workspace(options.keep) as place:
        prepare(place, matrix, options.budget_usd_per_request)
        with running_service(place) as service:
            screen.say(
                f"A Postgres of its own and the service at {place.url} are up after "
                f"{time.monotonic() - started_s:.1f} s."
            )
            result = asyncio.run(_play(options, contest, plan, screen, place, started_s))
            report = {**result.as_json(), "url": place.url, "folder": str(place.folder)}
            write_json(options.json_path, report)
            if options.keep_serving and result.audit.complete:
                _serve_on(service, screen, place)
        if options.keep:
            screen.say(f"Configuration, recording, log and data are kept in {place.folder}")
    if not result.audit.complete:
        raise DemoError("the log does not hold all that was sent: see the account above")


async def _play(
    options: DemoOptions,
    contest: Contest,
    plan: LossPlan | None,
    screen: Screen,
    place: Workspace,
    started_s: float,
) -> Result:
    answered: list[Answered] = []
    windows: list[Window] = []
    count = len(contest.matrix.prompts)
    size = window_size(count)

    def on_answer(answer: Answered) -> None:
        answered.append(answer)
        screen.advance(answer)
        if len(answered) % size == 0 or len(answered) == count:
            first = len(windows) * size
            windows.append(contest.window(first + 1, answered[first:]))
            screen.window(windows[-1])

    async with make_client(place.url, options.clients) as client:
        with _quoting_the_log(place):
            with screen.windows():
                noticed: Noticed | None = None
                if plan is None:
                    await replay(client, contest.matrix, options.clients, on_answer)
                else:
                    noticed = await replay_with_loss(
                        client,
                        contest.matrix,
                        plan,
                        options.clients,
                        answered,
                        on_answer,
                        screen.say,
                    )
            result = Result(
                models=contest.matrix.models,
                budget_usd=options.budget_usd_per_request,
                seed=options.seed,
                seconds=time.monotonic() - started_s,
                whole=standing(contest, answered),
                later=standing(contest, answered[count // 2 :]),
                windows=tuple(windows),
                overhead_s=float(np.median([a.overhead_s for a in answered])),
                unjudged=sum(a.quality is None for a in answered),
                audit=await audit(place, contest.matrix.models, answered),
                noticed=noticed,
            )
            screen.conclude(result)
            await show_paths(client, screen, answered[-1].decision_id, options.keep_serving)
    return result


@contextmanager
def _quoting_the_log(place: Workspace) -> Iterator[None]:
    try:
        yield
    except DemoError as error:
        raise DemoError(f"{error}\nThe end of the service's log:{log_tail(place)}") from error


def _serve_on(service: subprocess.Popen[bytes], screen: Screen, place: Workspace) -> None:
    screen.say(f"Serving at {place.url} until you press Ctrl-C ...", "bold")
    with contextlib.suppress(KeyboardInterrupt):
        service.wait()
        raise DemoError(
            f"the service ended by itself with exit code {service.returncode}; "
            f"the end of its log:{log_tail(place)}"
        )
    screen.say()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind the stack as Ctrl-C does, so that all is ended."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # nohup ignores SIGHUP on purpose.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before.setdefault(number, signal.signal(number, leave))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
