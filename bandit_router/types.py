"""The vocabulary: what a request, a decision, an attempt and a signal are.

Every other module speaks in these words. Arrays inside the frozen classes are never written to
once they are built; units stand in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
FeatureArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


class Mode(StrEnum):
    """How a decision came about; only ``policy`` decisions carry a propensity below one."""

    POLICY = "policy"
    OVERRIDE = "override"
    STICKY = "sticky"
    RULE = "rule"


class MaskReason(StrEnum):
    """Why an arm that exists was not eligible for a request."""

    NOT_A_CANDIDATE = "not_a_candidate"
    CONTEXT_WINDOW = "context_window"
    CAPABILITY = "capability"
    PAUSED = "paused"
    COOLING_DOWN = "cooling_down"
    LAST_RESORT = "last_resort"
    RETIRED = "retired"
    EXCLUDED = "excluded"
    BELOW_TIER = "below_tier"
    TOO_DEAR = "too_dear"
    TOO_SLOW = "too_slow"
    LATE_FIRST_TOKEN = "late_first_token"
    RATE_LIMITED = "rate_limited"
    BELOW_FLOOR = "below_floor"
    OPERATION = "operation"


class Operation(StrEnum):
    """What is asked of a model: the last part of the path under ``/v1`` that it is asked at."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"


# What the policy chooses models for. Vectors of different models cannot be compared, so
# embeddings are only ever asked of a model that the caller names.
GENERATING = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES})


class Tier(StrEnum):
    """How strong its owner takes a model to be: a first guess, until feedback knows better."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class AttemptStatus(StrEnum):
    """How one call of one model ended."""

    OK = "ok"
    CONNECT_ERROR = "connect_error"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    CONTEXT_WINDOW = "context_window"
    AUTHENTICATION = "authentication"
    CONTENT_FILTER = "content_filter"
    REJECTED = "rejected"
    STREAM_BROKEN = "stream_broken"
    CANCELLED = "cancelled"
    # Not called: the model's own rpm or tpm left no room for it.
    HELD_BACK = "held_back"


# Context windows, content filters and malformed requests say nothing about the model's health.
FAULTS = frozenset(
    {
        AttemptStatus.CONNECT_ERROR,
        AttemptStatus.TIMEOUT,
        AttemptStatus.RATE_LIMITED,
        AttemptStatus.SERVER_ERROR,
        AttemptStatus.BAD_RESPONSE,
        AttemptStatus.AUTHENTICATION,
        AttemptStatus.STREAM_BROKEN,
    }
)
MODEL_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Controls:
    """What a caller asks of the choice itself, beside the candidates that he names.

    exclude: models that may not be chosen. minimum_tier: weaker models may not be either.
    max_cost_usd: of the call as predicted. max_latency_s: an arm that would probably miss it
    may not be chosen; max_first_token_s: nor one whose stream would probably begin later.
    quality_floor: share of the baseline model's quality that is to be kept, in [0, 1]. explore:
    whether this request may be used to try models.
    """

    exclude: frozenset[str] = frozenset()
    minimum_tier: Tier | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    max_first_token_s: float | None = None
    quality_floor: float | None = None
    explore: bool = True

    @property
    def bind(self) -> bool:
        """Whether something is asked that only predictions can tell."""
        asked = (self.max_cost_usd, self.max_latency_s, self.max_first_token_s, self.quality_floor)
        return any(bound is not None for bound in asked)


@dataclass(frozen=True, slots=True)
class Pin:
    """A model that something other than the policy asks for, and how that is logged.

    firm: taken as it is, like a model that the caller names, with the request's candidates to
    fall back along. Otherwise it is taken while it is eligible; where it is not, the policy
    chooses, among models that are no weaker if mode is ``sticky`` and there are such.
    """

    model: str
    mode: Mode
    firm: bool = False


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """What the router may look at before any model is called.

    messages: OpenAI chat messages, as they came, or another operation's input in their form
    (``request_text``). metadata: the caller's string labels
    (``task``, ``user_tier`` …). candidates: the caller's own list, in his order, or None.
    override: a model named outright, or None for ``auto``. user_tier,
    workflow, cascade: of those that the configuration declares.
    influences: what besides the policy shapes the choice, to be logged: ``rule``,
    ``user_tier``, ``workflow``, ``session``, ``cascade``, ``escalated_from`` …
    allowance_usd: what it may cost on average, where a budget of its tenant, session or day
    says so; None leaves that to the policy's own budget. streamed: whether the answer is to be
    a stream.
    """

    messages: tuple[Mapping[str, Any], ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    tool_count: int = 0
    response_format: str = "text"
    max_output_tokens: int | None = None
    candidates: tuple[str, ...] | None = None
    override: str | None = None
    required_capabilities: frozenset[str] = frozenset()
    tenant: str = "default"
    session_id: str | None = None
    controls: Controls = Controls()
    operation: Operation = Operation.CHAT
    pin: Pin | None = None
    user_tier: str | None = None
    workflow: str | None = None
    cascade: str | None = None
    influences: Mapping[str, str] = field(default_factory=dict)
    allowance_usd: float | None = None
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was mixed into the policy's pmf before the draw, enough to mix it again.

    floor: (K,) least probability of each arm. look_arm: index of the arm given a forced look,
    or -1. look_probability: its weight in the mixture; 1 where exploration was frozen, and then
    the arm is the one that looked best.
    """

    floor: FloatArray
    look_arm: int = -1
    look_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the learned state expects of every arm for one request; all arrays (K,).

    first_token_s: of a stream; None before any was seen."""

    quality: FloatArray
    quality_sd: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    first_token_s: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a challenger would have done with a request, and what part it had in the choice.

    challenger: the name that its snapshots are stored under. share: its part of the mixture
    that was drawn from; 0 in shadow. pmf, champion_pmf: (K,) of either side alone. drew:
    whether the choice counts as the challenger's.
    """

    challenger: str
    snapshot_version: int
    share: float
    pmf: FloatArray
    champion_pmf: FloatArray
    drew: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice of one arm, with everything needed to replay and audit it.

    arms: names in the order of every (K,) array. masked: reason per ineligible arm.
    pmf: the very vector that ``chosen`` was drawn from; propensity is its entry.
    features: (n,) as extracted. price_of_dollar: λ, in quality per dollar.
    fallbacks: what to call, in order, when ``chosen`` fails. influences: as in the request.
    trial: of the challenger that was asked too, if one was.
    """

    id: UUID
    created_at: datetime
    tenant: str
    session_id: str | None
    mode: Mode
    arms: tuple[str, ...]
    eligible: BoolArray
    masked: Mapping[str, MaskReason]
    pmf: FloatArray
    chosen: str
    propensity: float
    fallbacks: tuple[str, ...]
    features: FeatureArray
    extractor_version: str
    input_tokens: int
    policy: str
    snapshot_version: int
    price_of_dollar: float
    price_of_second: float
    exploration: Exploration
    prediction: Prediction
    metadata: Mapping[str, str]
    prompt: Any | None = None
    influences: Mapping[str, str] = field(default_factory=dict)
    trial: Trial | None = None
    operation: Operation = Operation.CHAT


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one model for a decision. position counts from 0 along the chain."""

    decision_id: UUID
    position: int
    model: str
    status: AttemptStatus
    started_at: datetime
    latency_s: float
    first_token_s: float | None = None
    http_status: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended in a failure that says something about the model."""
        return self.status in FAULTS or self.http_status == MODEL_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a decision ended: the model that answered, and what the whole chain took.

    answered_by is None when every attempt failed. cost_usd sums over attempts; latency_s and
    first_token_s are those of the answering attempt.
    """

    decision_id: UUID
    answered_by: str | None
    status: AttemptStatus
    finished_at: datetime
    latency_s: float
    attempts: int
    first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """One signal on one decision. value is None when the signal is retracted.

    tenant: whose decisions its sender may speak of; None means anybody's.
    """

    decision_id: UUID
    metric: str
    value: float | None
    received_at: datetime
    source: str = "anonymous"
    comment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over one source's signals of one metric on one arm, each beside the quality that was
    predicted for the arm at the decision: Σ 1, Σ r, Σ r² of r = reward − predicted."""

    count: float = 0.0
    total: float = 0.0
    square: float = 0.0

    def plus(self, residual: float, count: float = 1.0) -> Tally:
        """With one more signal; with one less for a count of −1."""
        return Tally(
            self.count + count,
            self.total + count * residual,
            self.square + count * residual * residual,
        )

    def with_all(self, other: Tally, sign: float = 1.0) -> Tally:
        """With, or for a sign of −1 without, all that another one has."""
        return Tally(
            self.count + sign * other.count,
            self.total + sign * other.total,
            self.square + sign * other.square,
        )


@dataclass(frozen=True, slots=True)
class Reward:
    """What all signals on one decision say together. value: in [0, 1]. weight: how precise
    that is, beside the most precise kind of feedback."""

    value: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of the learner's input: what changed in what is known of a decision.

    decision_seq: the decision's place in the log, the clock of forgetting. features: (n,) as
    stored with the decision. arm: the model that answered. A row carries the new value and the
    one it replaces, so that folding it twice or out of order cannot drift: reward None means
    "none known", previous_reward None means "none was known". weight, previous_weight: the
    precision of each, beside that of the most precise kind of feedback. cost_usd, latency_s,
    first_token_s and output_tokens come with the outcome row, once, and are None on feedback
    rows.
    extractor_version: which extractor made the features; "" where that is not in question.
    failed: whether a call of the arm failed, be it that a later one answered; None on rows that
    are about no call, and where nobody noted it. A row of failed calls alone has no latency_s,
    and their cost.
    """

    decision_seq: int
    decision_id: UUID
    arm: str
    features: FloatArray
    input_tokens: int
    reward: float | None = None
    previous_reward: float | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    output_tokens: int | None = None
    extractor_version: str = ""
    weight: float = 1.0
    previous_weight: float = 1.0
    first_token_s: float | None = None
    tenant: str = ""
    failed: bool | None = None

    @property
    def answered(self) -> bool:
        """Whether the row is about an answer, and not about feedback or failed calls alone."""
        if self.failed is not None:
            return self.latency_s is not None
        return self.cost_usd is not None or self.latency_s is not None
