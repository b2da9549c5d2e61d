"""The registry serves every kind, and event streams survive any cut."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.providers import sse
from bandit_router.providers.registry import FACTORIES, build_providers, close_providers
from bandit_router.providers.replayed import FaultPlan, Recording
from bandit_router.providers.sse import EventParser, EventTooLargeError, ServerSentEvent

MODELS = [
    ModelConfig(name="http", base_url="http://127.0.0.1:9/v1"),
    ModelConfig(name="local", provider=ProviderKind.LLAMA_CPP, local=True, last_resort=True),
    ModelConfig(name="replayed", provider=ProviderKind.REPLAYED),
]


@pytest.mark.asyncio
async def test_every_kind_of_provider_is_built_and_closed_without_being_used():
    assert set(FACTORIES) == set(ProviderKind)
    providers = build_providers(
        MODELS,
        environ={},
        clock=SystemClock(),
        recordings=lambda _model: Recording({}, {}),
        faults=FaultPlan(random.Random(1)),
    )
    assert list(providers) == [model.name for model in MODELS]
    await close_providers(providers)
    await close_providers(providers)


LINES = st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))


@given(
    st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=4),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_events_are_the_same_however_the_bytes_are_cut(events, ending, cuts):
    raw = b"".join(
        b"".join(b"data: " + line + ending for line in lines) + ending for lines in events
    )
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    parser = EventParser()
    got = []
    for start, stop in itertools.pairwise(edges):
        got += parser.feed(raw[start:stop])
    got += parser.finish()
    assert got == [ServerSentEvent(b"\n".join(lines)) for lines in events]


def test_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    with pytest.raises(EventTooLargeError):
        EventParser().feed(b"data: " + b"x" * 200)
    parser = EventParser()
    parser.feed(b"data: " + b"x" * 60 + b"\n")
    with pytest.raises(EventTooLargeError):
        parser.feed(b"data: " + b"x" * 60 + b"\n")
