"""Keeps the learner's process running: starts it, tells it its duty, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from dataclasses import replace

import orjson

from bandit_router.protocols import Clock
from service.learner_duty import Duty, line_of_duty
from service.learner_standing import Role, Standing, heard

# -P: whatever folder the service was started in, none of its files is taken for a module.
COMMAND = (sys.executable, "-P", "-m", "service.learner_process")
FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 10.0
# One that lived so long did not fail for the reason that the one before it did.
STEADY_S = 60.0
# It may be in the middle of a fit; what it would have written is folded again by the next one.
STOP_TIMEOUT_S = 2.0
LONGEST_LINE_BYTES = 1024 * 1024
# How long a router that has learned nothing waits for its learner before it serves.
FIRST_LEAD_S = 5.0
# The learner is to have a bounded share of the machine, and its matrices are small.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
log = logging.getLogger(__name__)


class LearnerChild:
    """The learner's process, as its service sees it.

    restarts: how often it had to be started again. pid: None while it does not run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._duty: Duty | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._standings: dict[str, Standing] = {}
        self._running: asyncio.Task[None] | None = None
        self._has_led = asyncio.Event()
        self.last_error: str | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._process is None else self._process.pid

    def start(self, duty: Duty) -> None:
        """Begin, in the background."""
        self._duty = duty
        self._running = asyncio.create_task(self._keep_running(), name="learner's process")

    async def until_it_leads(self) -> None:
        """Wait until it has led once; not for ever, since another replica may lead instead."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LEAD_S):
                await self._has_led.wait()

    async def stop(self) -> None:
        """End it; a second call does nothing."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])

    def assign(self, duty: Duty) -> None:
        """Another duty from now on, also for processes to come."""
        self._duty = duty
        if self._process is not None:
            _tell(self._process, duty)

    def standing(self, line: str, own: Standing) -> Standing:
        """Where a line stands. own: what this process, which follows, knows by itself."""
        told = self._standings.get(line)
        if told is None:
            # Between a change of lines and the next report the process is not down.
            role = Role.FOLLOWS if self._standings else Role.DOWN
            return replace(own, role=role, last_error=self.last_error or own.last_error)
        # One who follows has nothing of his own: what he would lead on from is read then.
        progress = told.progress if told.leads else own.progress
        return replace(told, last_error=told.last_error or own.last_error, progress=progress)

    async def _keep_running(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            began_s = self._clock.monotonic_s()
            try:
                self.last_error = f"the learner's process {await self._one_life()}"
            except OSError as error:
                self.last_error = f"the learner's process cannot be started: {error}"
            if self._clock.monotonic_s() - began_s >= STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            log.warning("%s; starting it again in %.3g s", self.last_error, backoff_s)
            self.restarts += 1
            await asyncio.sleep(backoff_s)
            backoff_s = min(LONGEST_BACKOFF_S, 2.0 * backoff_s)

    async def _one_life(self) -> str:
        """Start it and listen until it ends; how it did."""
        assert self._duty is not None
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | dict.fromkeys(THREADS, "1"),
            # Ctrl-C in a terminal is for us; we end it when we are done.
            start_new_session=True,
            limit=LONGEST_LINE_BYTES,
        )
        self._process = process
        try:
            _tell(process, self._duty)
            assert process.stdout is not None
            while line := await process.stdout.readline():
                self._standings = {
                    name: heard(values) for name, values in orjson.loads(line).items()
                }
                self.last_error = None
                if any(standing.leads for standing in self._standings.values()):
                    self._has_led.set()
            code = await process.wait()
        finally:
            self._process, self._standings = None, {}
            await _end(process)
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _tell(process: asyncio.subprocess.Process, duty: Duty) -> None:
    # One that is dying does not hear it; the next one is told when it starts.
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(line_of_duty(duty))


async def _end(process: asyncio.subprocess.Process) -> None:
    """By the end of its input, else by force."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
