"""The demo's silent loss, against a service that notices what it is told to notice."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest

from bandit_router.errors import DemoError
from bandit_router.types import FloatArray
from simulations.demo import silent_loss
from simulations.demo.silent_loss import KEPT, LossPlan, Noticed, replay_with_loss
from simulations.demo.tally import Answered
from simulations.matrix import OutcomeMatrix

COUNT = 400
MODELS = ("v/small-1", "v/big-3", "v/middle-2")
PLAN = LossPlan(arm=2, canary_at=134, loss_at=200)
LOWER, WORSE = "quality is lower than it was", "it is worse"


def matrix_of(count: int) -> OutcomeMatrix:
    nothing: FloatArray = np.full((count, 3), np.nan)
    return OutcomeMatrix(
        prompt_ids=tuple(f"p{i}" for i in range(count)),
        prompts=tuple(f"{i}" for i in range(count)),
        category=("",) * count,
        split=("",) * count,
        models=MODELS,
        quality=np.tile([0.5, 0.9, 0.8], (count, 1)),
        cost_usd=np.tile([1.0, 9.0, 2.0], (count, 1)),
        latency_s=nothing,
        input_tokens=nothing,
        output_tokens=nothing,
    )


class Service:
    """Answers every prompt by the middle model. alarm_at, back_at: it says so from the feedback
    of this prompt on; never by default."""

    def __init__(self, *, alarm_at: int = 10**9, back_at: int = 10**9) -> None:
        self.alarm_at, self.back_at = alarm_at, back_at
        self.values: list[float] = []
        self.challenger: dict[str, Any] = {}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # as a socket would: so that the watch has its turns
        path, judged = request.url.path, len(self.values)
        body = json.loads(request.content) if request.content else {}
        if path == "/v1/chat/completions":
            headers = {
                "model": MODELS[2],
                "decision-id": str(uuid4()),
                "cost-usd": "2",
                "propensity": "1",
                "overhead-ms": "1",
            }
            return httpx.Response(200, headers={f"x-router-{k}": v for k, v in headers.items()})
        told: dict[str, Any] = {}
        back = judged >= self.back_at
        if path == "/v1/feedback":
            self.values.append(body["value"])
        elif path == "/admin/challengers" and request.method == "POST":
            self.challenger = body
        elif path == "/admin/challengers":
            told = {"trial": {"held": WORSE if back else "", "held_by_router": back}}
        elif path == "/admin/alarms":
            alarm = {"kind": "quality", "subject": MODELS[2], "evidence": LOWER}
            told = {"alarms": [alarm] if judged >= self.alarm_at else []}
        elif path == "/admin/stats/advice":
            kinds = ["changed_quality", *(["challenger_held"] if back else [])]
            entry = {"headline": "h", "detail": "d", "action": "a"}
            told = {"advice": [{"kind": kind, **entry} for kind in kinds]}
        return httpx.Response(200, json=told)


async def noticed_by(service: Service) -> Noticed:
    answered: list[Answered] = []
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(service), base_url="http://router"
    ) as client:
        matrix = PLAN.applied(matrix_of(COUNT))
        return await replay_with_loss(
            client, matrix, PLAN, 2, answered, answered.append, lambda line: None
        )


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_loss, "POLL_S", 0.0)
    monkeypatch.setattr(silent_loss, "PATIENCE_S", 0.1)


def test_the_loss_is_the_second_cheapest_model_s_quality_from_halfway_on() -> None:
    matrix = matrix_of(COUNT)
    assert LossPlan.on(matrix) == PLAN
    assert LossPlan.on(matrix_of(3000)).canary_at == 1350
    lost = PLAN.applied(matrix)
    changed = lost.quality != matrix.quality
    assert changed[200:, 2].all()
    assert changed.sum() == 200
    assert lost.quality[200:, 2] == pytest.approx(0.8 * KEPT)
    assert lost.cost_usd is matrix.cost_usd


def test_too_few_requests_are_refused() -> None:
    with pytest.raises(DemoError, match="399 requests are too few"):
        LossPlan.on(matrix_of(399))


@pytest.mark.asyncio
async def test_notices_are_counted_from_the_loss_on() -> None:
    service = Service(alarm_at=230, back_at=COUNT)
    noticed = await noticed_by(service)
    assert len(service.values) == COUNT
    assert service.values[199] == pytest.approx(0.8)
    assert service.values[200] == pytest.approx(0.8 * KEPT)
    assert service.challenger["policy"]["model"] == MODELS[2]
    assert noticed.alarm.said == LOWER
    assert 28 <= noticed.alarm.requests == noticed.alarm.of_model < 200
    assert (noticed.rollback.said, noticed.rollback.requests) == (WORSE, 200)
    assert noticed.advice == (("h", "d", "a"),) * 2
    assert (noticed.share_before, noticed.share_after) == (1.0, 1.0)


@pytest.mark.asyncio
@pytest.mark.parametrize("service", [Service(alarm_at=230), Service(back_at=230)])
async def test_half_of_it_is_a_failure(service: Service) -> None:
    with pytest.raises(DemoError, match="alarm and rollback had not both come"):
        await noticed_by(service)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "service", [Service(alarm_at=150, back_at=230), Service(alarm_at=230, back_at=150)]
)
async def test_what_comes_before_the_loss_shows_nothing(service: Service) -> None:
    with pytest.raises(DemoError, match="before the loss"):
        await noticed_by(service)
