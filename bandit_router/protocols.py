"""The seams between the floors: what a use case asks of an adapter or a plug-in part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from bandit_router.types import (
    Attempt,
    Decision,
    FeatureArray,
    Feedback,
    Observation,
    Operation,
    Outcome,
    RoutingRequest,
    Tally,
)


class Clock(Protocol):
    """Time, handed in. ``now`` is timezone-aware UTC; ``monotonic_s`` only ever rises."""

    def now(self) -> datetime: ...
    def monotonic_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class FeatureBlock:
    """A named run of features that share one prior scale: names[start:stop]."""

    name: str
    start: int
    stop: int


class FeatureExtractor(Protocol):
    """Turns a request into numbers; stateless, deterministic, versioned.

    The version changes whenever the same request would give other numbers. ``extract``
    returns (n,) float32, finite, of the order of one, and never raises on odd input.
    The constant 1 (bias) is not among the features: heads add their own.
    """

    @property
    def version(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def blocks(self) -> tuple[FeatureBlock, ...]: ...
    def extract(self, request: RoutingRequest) -> FeatureArray: ...


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call to be made. body: the operation's OpenAI body, ``model`` already rewritten.

    timeout_s: for the whole answer. first_token_timeout_s: until the first byte of a stream.
    idle_timeout_s: between two pieces of a stream. context: what a replayed model needs to
    find its recorded answer (the decision's metadata); real providers ignore it. headers: to be
    sent along over HTTP.
    """

    body: Mapping[str, Any]
    timeout_s: float
    first_token_timeout_s: float
    idle_timeout_s: float
    context: Mapping[str, str]
    operation: Operation = Operation.CHAT
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them, and dollars where it says so itself."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole, not streamed, answer: the upstream's JSON object and its usage."""

    body: dict[str, Any]
    usage: Usage


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """One server-sent event's ``data`` payload, without framing; ``[DONE]`` is not handed on.

    usage is set on the piece that carries it. content: whether it begins the answer; a chunk
    that only names the role, or carries only usage, does not. event: the event's name, where
    it has one.
    """

    data: bytes
    usage: Usage | None = None
    content: bool = True
    event: bytes = b""


class Provider(Protocol):
    """One way to call a model. Every failure is a ``ProviderError``; nothing else escapes
    but ``asyncio.CancelledError``."""

    async def complete(self, call: ModelCall) -> Answer: ...
    def stream(self, call: ModelCall) -> AsyncIterator[StreamPiece]: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A learned state as stored. cursor: the last learner row folded in, (xid, seq).

    payload: an npz archive; never pickled. reason: ``fold``, ``refit``, ``init`` …
    """

    version: int
    created_at: datetime
    policy: str
    extractor_version: str
    cursor: tuple[int, int]
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class LearnerBatch:
    """Rows of the learner's input in ingestion order, and the cursor after the last.

    since: for a fit from scratch, the first decision_seq that it reaches back to.
    """

    observations: Sequence[Observation]
    cursor: tuple[int, int]
    since: int = 0


class DecisionLog(Protocol):
    """The write side of the hot path. Each call returns once the row is durable."""

    async def record_decision(self, decision: Decision) -> None: ...
    async def record_outcome(self, outcome: Outcome, attempts: Sequence[Attempt]) -> None: ...


@dataclass(frozen=True, slots=True)
class FeedbackReceipt:
    """What became of a posted signal.

    state: ``recorded``, ``revised``, ``retracted``, ``duplicate`` (same key and body, or the
    same value again). reward: the decision's reward as it now stands, None if none.
    """

    feedback_id: int | None
    state: str
    reward: float | None


# Of a source's signals of one metric on one arm.
SourceKey = tuple[str, str, str]


class SourceLedger(Protocol):
    """How far the sources of feedback are believed, as their signals come in.

    enter: one more signal (count 1), or one less (count −1), of a residual: reward − predicted
    quality. believed: what such a signal counts, within [0, 1], 0 where its source is in
    quarantine. changes: what was entered since it was opened. verdicts: sources that it set
    aside since then, with the reason.
    """

    changes: dict[SourceKey, Tally]
    verdicts: dict[str, str]

    def enter(self, key: SourceKey, residual: float, count: float = 1.0) -> None: ...
    def believed(self, key: SourceKey, residual: float) -> float: ...


class OpenLedger(Protocol):
    """Opens a ledger at what is known so far.

    own: of the sources in question. totals: per metric and arm, over all that are believed.
    counts: signals per source, of at least those in question and the one with the most.
    quarantined, trusted: by earlier verdicts.
    """

    def __call__(
        self,
        own: Mapping[SourceKey, Tally],
        totals: Mapping[tuple[str, str], Tally],
        counts: Mapping[str, float],
        quarantined: Collection[str],
        trusted: Collection[str],
    ) -> SourceLedger: ...


class FeedbackStore(Protocol):
    """Stores a signal and, in the same transaction, the learner row it gives rise to."""

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt: ...


class LearnerStore(Protocol):
    """What the learner reads and writes."""

    async def latest_snapshot(
        self, policy: str, *, known: int | None = None
    ) -> SnapshotRecord | None: ...
    async def snapshot(self, policy: str, version: int) -> SnapshotRecord | None: ...
    async def write_snapshot(self, record: SnapshotRecord) -> None: ...
    async def learner_rows(self, after: tuple[int, int], limit: int) -> LearnerBatch: ...
    async def decision(self, decision_id: UUID) -> Decision | None: ...
