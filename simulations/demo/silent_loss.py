"""``--silent-loss``: a model gets worse without an error, and what the router makes of it.

Halfway, the judged quality of one model's answers falls. Status, latency, text and cost stay as
recorded. A challenger that sends everything to that model is in canary by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np

from bandit_router.errors import DemoError
from simulations.demo.clients import call, replay
from simulations.demo.tally import Answered
from simulations.matrix import OutcomeMatrix

LEAST_REQUESTS = 400
# Share of its quality that the model keeps.
KEPT = 0.5
# Requests between the challenger's canary and the loss: a sixth of a short run, at most so many.
MOST_CANARY = 150
CANARY_SHARE = 0.2
POLL_S = 0.2
# After the last prompt: the service looks at alarms every two seconds, at trials every second.
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class LossPlan:
    """arm: the model that gets worse. canary_at, loss_at: sent by then, in requests."""

    arm: int
    canary_at: int
    loss_at: int

    @classmethod
    def on(cls, matrix: OutcomeMatrix) -> LossPlan:
        """The second cheapest model, which budgets between it and the cheapest are spent on.

        Raises DemoError where there are too few prompts to learn, lose and notice.
        """
        count = len(matrix.prompts)
        if count < LEAST_REQUESTS:
            raise DemoError(
                f"{count} requests are too few to learn and to notice a loss; give --requests "
                f"{LEAST_REQUESTS} or more with --silent-loss"
            )
        loss_at = count // 2
        arm = int(np.argsort(matrix.cost_usd.mean(axis=0))[1])
        return cls(arm, loss_at - min(MOST_CANARY, count // 6), loss_at)

    def applied(self, matrix: OutcomeMatrix) -> OutcomeMatrix:
        """The outcomes with the loss: all that changes is quality, and of this model only."""
        quality = matrix.quality.copy()
        quality[self.loss_at :, self.arm] *= KEPT
        return replace(matrix, quality=quality)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that the router did by itself, in its own words.

    requests: sent since the loss when it was first seen, of which ``of_model`` were answered by
    the model.
    """

    requests: int
    of_model: int
    said: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """What became of the loss. share_before, share_after: the model's, of the requests between
    canary and loss, and of as many at the end. advice: headline, detail and action."""

    model: str
    lost_after: int
    kept: float
    challenger: str
    alarm: Notice
    rollback: Notice
    advice: tuple[tuple[str, str, str], ...]
    share_before: float
    share_after: float


async def replay_with_loss(
    client: httpx.AsyncClient,
    matrix: OutcomeMatrix,
    plan: LossPlan,
    clients: int,
    answered: Sequence[Answered],
    on_answer: Callable[[Answered], None],
    say: Callable[[str], None],
) -> Noticed:
    """Send every prompt; on the way start the challenger, and watch for what the router notices.

    matrix: with the loss applied. answered: what ``on_answer`` has collected so far. Raises
    DemoError where alarm, rollback or advice did not come, or came before the loss.
    """
    model, count = matrix.models[plan.arm], len(matrix.prompts)
    challenger = {
        "name": "always-" + model.rsplit("/", 1)[-1].split("-", 1)[0],
        "policy": {"name": "fixed", "model": model, "budget_usd_per_request": None},
        "share": CANARY_SHARE,
    }
    await replay(client, matrix, clients, on_answer, range(plan.canary_at))
    await call(client, "POST", "/admin/challengers", challenger)
    await call(client, "POST", "/admin/challengers/canary", {"reason": "the demo's"})
    say(f"--- '{challenger['name']}' is on trial: it chooses for {CANARY_SHARE:.0%} of requests")
    await replay(client, matrix, clients, on_answer, range(plan.canary_at, plan.loss_at))
    await _nothing_yet(client, model)
    say(
        f"--- from here on {model}'s answers are worth {KEPT:.0%} of what they were; no error tells"
    )
    watching = asyncio.create_task(_watch(client, model, plan, answered))
    try:
        await replay(client, matrix, clients, on_answer, range(plan.loss_at, count))
        async with asyncio.timeout(PATIENCE_S):
            alarm, rollback = await watching
    except TimeoutError:
        raise DemoError(
            f"{PATIENCE_S:g} s after the last of {count - plan.loss_at} requests with the loss, "
            f"alarm and rollback had not both come: {await _alarms(client)}"
        ) from None
    finally:
        watching.cancel()
    canary = plan.loss_at - plan.canary_at
    return Noticed(
        model=model,
        lost_after=plan.loss_at,
        kept=KEPT,
        challenger=str(challenger["name"]),
        alarm=alarm,
        rollback=rollback,
        advice=await _advice(client),
        share_before=_share(answered[plan.canary_at : plan.loss_at], plan.arm),
        share_after=_share(answered[-canary:], plan.arm),
    )


async def _nothing_yet(client: httpx.AsyncClient, model: str) -> None:
    """What comes before its cause has another one, and shows nothing."""
    early = (await _alarms(client)).get(("quality", model)), await _sent_back(client)
    if any(early):
        raise DemoError(
            f"before the loss there was an alarm ({early[0]}) or a rollback ({early[1]}) already; "
            "chance does so now and then: run it with another --seed"
        )


async def _watch(
    client: httpx.AsyncClient, model: str, plan: LossPlan, answered: Sequence[Answered]
) -> tuple[Notice, Notice]:
    """Look again and again until the alarm and the rollback are there."""
    alarm: Notice | None = None
    rollback: Notice | None = None

    def notice(said: str) -> Notice:
        since = answered[plan.loss_at :]
        return Notice(len(since), sum(a.arm == plan.arm for a in since), said)

    while alarm is None or rollback is None:
        if alarm is None and (said := (await _alarms(client)).get(("quality", model))):
            alarm = notice(said)
        if rollback is None and (said := await _sent_back(client)):
            rollback = notice(said)
        await asyncio.sleep(POLL_S)
    return alarm, rollback


async def _alarms(client: httpx.AsyncClient) -> dict[tuple[str, str], str]:
    found = (await call(client, "GET", "/admin/alarms")).json()["alarms"]
    return {(alarm["kind"], alarm["subject"]): alarm["evidence"] for alarm in found}


async def _sent_back(client: httpx.AsyncClient) -> str | None:
    """Why the router itself took the challenger's share away; None where it did not."""
    trial = (await call(client, "GET", "/admin/challengers")).json()["trial"]
    return str(trial["held"]) if trial is not None and trial["held_by_router"] else None


async def _advice(client: httpx.AsyncClient) -> tuple[tuple[str, str, str], ...]:
    """Advice on the model and on the challenger. Raises DemoError where either is missing."""
    kinds = ("changed_quality", "challenger_held")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = (await call(client, "GET", "/admin/stats/advice")).json()["advice"]
        given: dict[str, Any] = {entry["kind"]: entry for entry in found}
        if all(kind in given for kind in kinds):
            return tuple(
                (given[kind]["headline"], given[kind]["detail"], given[kind]["action"])
                for kind in kinds
            )
        if time.monotonic() > deadline:
            raise DemoError(f"the router gave no advice on the loss, only {sorted(given)}")
        await asyncio.sleep(POLL_S)


def _share(answered: Sequence[Answered], arm: int) -> float:
    return sum(a.arm == arm for a in answered) / len(answered)
