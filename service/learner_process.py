"""The learner as a process of its own, so that no request ever waits for its arithmetic.

Started by ``learner_child``. It is told its duty on standard input, one line per change, and
says where it stands on standard output; logs go where the service's go. It ends when its
input does. Nothing is lost with it, however it ends: what it knows is a fold of the log.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from typing import BinaryIO

import orjson

from bandit_router.clock import SystemClock
from bandit_router.errors import ConfigError
from bandit_router.store.engine import make_engine
from service.event_loop import loop_factory
from service.learner_duty import duty_of_line
from service.learner_standing import told
from service.learner_work import LearnerWork
from service.log_lines import set_up_logging
from service.memory import keep_little

REPORT_EVERY_S = 0.2
# A duty holds the whole configuration.
LONGEST_LINE_BYTES = 64 * 1024 * 1024
PR_SET_PDEATHSIG = 1
POOL_SIZE = 2
log = logging.getLogger(__name__)


def main() -> None:
    """Learn until standard input ends. The one argument is the parent's process id."""
    keep_little()
    die_with(int(sys.argv[1]))
    # What a library prints must not get between the reports.
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    set_up_logging(os.environ, sys.stderr)
    gc.freeze()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_learn(reports))


def die_with(parent: int) -> None:
    """End when the parent does, also in the middle of a long computation. Linux only; elsewhere
    the end of standard input tells, at the next look."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("who started this is gone")


async def _learn(reports: BinaryIO) -> None:
    orders = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    line = await orders.readline()
    if not line:
        return
    duty = duty_of_line(line)
    engine = make_engine(duty.database_url, pool_size=POOL_SIZE)
    try:
        async with LearnerWork(engine, duty.config, SystemClock()) as work:
            await work.take(duty)
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(_report(work, reports), name="reports")
                while line := await orders.readline():
                    try:
                        await work.take(duty_of_line(line))
                    except ConfigError as error:
                        log.error("the learner goes on as before: %s", error)
                reporting.cancel()
    finally:
        await engine.dispose()


async def _report(work: LearnerWork, reports: BinaryIO) -> None:
    """Say where every line stands whenever that changed."""
    said: object = None
    while True:
        now = {name: told(standing) for name, standing in work.standings().items()}
        if now != said:
            said = now
            reports.write(orjson.dumps(now, option=orjson.OPT_APPEND_NEWLINE))
            reports.flush()
        await asyncio.sleep(REPORT_EVERY_S)


if __name__ == "__main__":
    main()
