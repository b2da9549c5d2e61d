"""Telling others of alarms: webhooks, signed, tried again, and never in anybody's way.

Of the replicas that see an alarm, the one that made its row in Postgres tells of it. Should that
one die before its webhook was taken, nobody tells again: the alarm still stands at /admin/alarms.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from bandit_router.config import AlarmKind, AlertConfig
from bandit_router.errors import RouterError
from bandit_router.store.standing_alarms import StandingAlarm, StandingAlarms
from service.alarms import Alarm, AlarmBoard

if TYPE_CHECKING:  # the runtime itself starts what stands here
    from service.runtime import Runtime

EVERY_S = 2.0
TIMEOUT_S = 10.0
# An alarm that no replica has seen for so many looks is over.
LOOKS_OF_PATIENCE = 3.0
WAITS_S = (1.0, 4.0, 15.0, 60.0)
# More than this under way means that a receiver is away for long: the newest are dropped.
MOST_UNDER_WAY = 200
log = logging.getLogger(__name__)


class Alerts:
    """Looks at the board and posts what came and what went."""

    def __init__(
        self,
        runtime: Runtime,
        board: AlarmBoard,
        *,
        every_s: float = EVERY_S,
        waits_s: tuple[float, ...] = WAITS_S,
    ) -> None:
        self._runtime = runtime
        self._board = board
        self._every_s = every_s
        self._waits_s = waits_s
        self._standing: dict[tuple[AlarmKind, str], Alarm] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._turn()
                except RouterError as error:
                    log.warning("no look at the alarms: %s", error)
                await asyncio.sleep(self._every_s)
        finally:
            for post in self._posts:
                post.cancel()
            if self._client is not None:
                await self._client.aclose()

    async def _turn(self) -> None:
        found = {(alarm.kind, alarm.subject): alarm for alarm in await self._board.look()}
        for key, alarm in found.items():
            if key not in self._standing:
                log.warning("alarm: %s %s: %s", alarm.kind, alarm.subject, alarm.evidence)
        for key in self._standing.keys() - found.keys():
            log.info("alarm over: %s %s", *key)
        self._standing = found
        turn = await StandingAlarms(self._runtime.engine).see(
            [(alarm.kind.value, alarm.subject, alarm.evidence) for alarm in found.values()],
            LOOKS_OF_PATIENCE * self._every_s,
        )
        now = self._runtime.clock.now()
        for event, alarms in (("raised", turn.raised), ("cleared", turn.ended)):
            for standing in alarms:
                self._tell(event, standing, now)

    def _tell(self, event: str, alarm: StandingAlarm, now: datetime) -> None:
        for target in self._runtime.config.alerts:
            if target.kinds and alarm.kind not in target.kinds:
                continue
            if len(self._posts) >= MOST_UNDER_WAY:
                log.error("an alert is dropped: %d are under way already", MOST_UNDER_WAY)
                return
            shown = {
                "kind": alarm.kind,
                "subject": alarm.subject,
                "since": alarm.raised_at,
                "evidence": alarm.evidence,
            }
            body = orjson.dumps({"event": event, "at": now, "alarm": shown})
            post = asyncio.create_task(self._post(target, body, now), name="alert")
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)

    async def _post(self, target: AlertConfig, body: bytes, now: datetime) -> None:
        if self._client is None:
            # It reads the system's certificates, a tenth of a second in which nothing else runs:
            # only where there is somebody to tell.
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        headers = {"content-type": "application/json"} | self._signature(target, body, now)
        for wait_s in (*self._waits_s, None):
            try:
                answer = await self._client.post(target.url, content=body, headers=headers)
                if answer.is_success:
                    return
                failed: Any = f"HTTP {answer.status_code}"
            except httpx.HTTPError as error:
                failed = type(error).__name__
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        log.error("an alert could not be delivered to %s: %s", httpx.URL(target.url).host, failed)

    def _signature(self, target: AlertConfig, body: bytes, now: datetime) -> dict[str, str]:
        """HMAC-SHA256 of time and body: the receiver can tell forged and replayed ones."""
        secret = self._runtime.settings.environ.get(target.secret_env or "")
        if not secret:
            return {}
        stamp = str(int(now.timestamp()))
        signed = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        return {"x-router-timestamp": stamp, "x-router-signature": f"sha256={signed.hexdigest()}"}
