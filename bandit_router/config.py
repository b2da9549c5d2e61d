"""What an operator may set, as one validated tree; ``config_file`` reads it from TOML."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bandit_router.config_base import (
    MOST_TOKENS,
    Dollars,
    MetricName,
    Name,
    Seconds,
    Section,
    Share,
)
from bandit_router.config_cascade import CHECK_METRIC
from bandit_router.config_challengers import ChallengerConfig, LineName
from bandit_router.config_steering import SteeringTables
from bandit_router.types import GENERATING, Operation, Tier


class ProviderKind(StrEnum):
    OPENAI_COMPATIBLE = "openai_compatible"
    LITELLM = "litellm"
    LLAMA_CPP = "llama_cpp"
    REPLAYED = "replayed"


class Capability(StrEnum):
    TOOLS = "tools"
    VISION = "vision"
    JSON_MODE = "json_mode"
    AUDIO = "audio"


class ModelConfig(Section):
    """One ``[[models]]`` table.

    upstream_model: the name the provider knows it by (``name`` where left out).
    api_key_env: the environment variable that holds the key; keys never stand in the file.
    usd_per_hour: running cost of a local model, booked by the second of its latency.
    rpm, tpm: the requests and tokens per minute that its provider takes, kept by all replicas
    together.
    last_resort: never chosen by the policy; ends every chain and ignores cool-downs.
    serves: what it may be asked for; a model that embeds serves ``embeddings`` only.
    tier: how strong you take it to be, a first guess that feedback corrects.
    successor_of: the model that this one is a new version of, configured still or not; what is
    known of that one is its first guess, weakened.
    path: GGUF file of a ``llama_cpp`` model, or outcome matrix of a ``replayed`` one.
    """

    name: Name
    provider: ProviderKind = ProviderKind.OPENAI_COMPATIBLE
    upstream_model: str | None = None
    base_url: str | None = None
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    input_usd_per_million: Dollars = 0.0
    output_usd_per_million: Dollars = 0.0
    usd_per_hour: Dollars = 0.0
    context_window_tokens: Annotated[int, Field(gt=0, le=MOST_TOKENS)] = 128_000
    rpm: Annotated[int, Field(gt=0, le=MOST_TOKENS)] | None = None
    tpm: Annotated[int, Field(gt=0, le=MOST_TOKENS)] | None = None
    capabilities: frozenset[Capability] = frozenset()
    serves: Annotated[frozenset[Operation], Field(min_length=1)] = frozenset({Operation.CHAT})
    tier: Tier | None = None
    successor_of: Name | None = None
    local: bool = False
    last_resort: bool = False
    paused: bool = False
    path: Path | None = None

    @model_validator(mode="after")
    def _fits_provider(self) -> Self:
        if self.provider is ProviderKind.OPENAI_COMPATIBLE and not self.base_url:
            raise ValueError(
                f"model '{self.name}' needs base_url, for example "
                'base_url = "https://api.example.com/v1"'
            )
        if self.provider is ProviderKind.LITELLM and not self.upstream_model:
            raise ValueError(
                f"model '{self.name}' needs upstream_model, litellm's name for it, for example "
                'upstream_model = "anthropic/claude-sonnet-4-5"'
            )
        if self.provider is ProviderKind.LITELLM and self.serves != {Operation.CHAT}:
            raise ValueError(
                f"model '{self.name}': by litellm a model serves chat only; leave serves out"
            )
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"model '{self.name}': base_url '{self.base_url}' must start with "
                "http:// or https://"
            )
        if self.last_resort and not self.local:
            raise ValueError(
                f"model '{self.name}' is last_resort but not local: the last link must work "
                "without the network; set local = true or drop last_resort"
            )
        if self.provider is ProviderKind.REPLAYED and self.serves != {Operation.CHAT}:
            raise ValueError(
                f"model '{self.name}' replays recorded chats and serves nothing else; leave "
                "serves out"
            )
        return self

    @property
    def generates(self) -> bool:
        """Whether it writes text, so that the policy may choose it."""
        return bool(self.serves & GENERATING)

    @property
    def served_as(self) -> str:
        """The model name sent upstream."""
        return self.upstream_model or self.name


HalfLife = Literal["learned", "never"]


class PolicyConfig(Section):
    """``[policy]``: which policy, and what it may spend.

    budget_usd_per_request: mean dollars per request the pacer holds; None means no budget.
    budget_usd_per_day: of all requests of a day (UTC): paced over those still to come, and never
    passed.
    value_of_second: quality given up for a second less of latency (μ).
    model: the arm of the ``fixed`` policy. epsilon: of ``epsilon_greedy``.
    half_life_decisions: age at which an observation counts half; "never" remembers everything,
    "learned" leaves it to each fit to choose what would have predicted the log best.
    latency_miss_probability: chance of missing a request's max_latency_s or
        max_first_token_s that is still taken (δ).
    prior: file of outcomes recorded elsewhere, by ``bandit-router fit-prior``; None starts cold.
    learned_as: name under which what is learned is stored; None is the policy's own name. A
    promoted challenger's is told by ``bandit-router challengers list``.
    """

    name: str = "thompson"
    budget_usd_per_request: Dollars | None = None
    budget_usd_per_day: Dollars | None = None
    value_of_second: Annotated[float, Field(ge=0)] = 0.0
    model: Name | None = None
    epsilon: Share = 0.1
    half_life_decisions: Annotated[float, Field(gt=0)] | HalfLife = "learned"
    latency_miss_probability: Annotated[float, Field(gt=0, lt=1)] = 0.1
    prior: Path | None = None
    learned_as: LineName | None = None


class FeaturesConfig(Section):
    """``[features]``: which extractor, and which metadata keys become features.

    text_dimension: numbers stored per text; the learner compresses them further by itself.
    """

    text: Literal["none", "hashed", "minilm"] = "hashed"
    text_dimension: Annotated[int, Field(ge=8, le=384)] = 256
    metadata: tuple[str, ...] = ("task", "user_tier")


class FeedbackKind(StrEnum):
    """What a signal is, which says how much one of them tells of an answer's quality."""

    BOOLEAN = "boolean"
    FLOAT = "float"
    JUDGE = "judge"
    IMPLICIT = "implicit"


# Variance of one signal about the quality of the answer it speaks of, in squares of the reward.
# A yes or no about quality q has q(1−q), 1/6 on average over all q; scores and judges scatter by
# a tenth and by a sixth of the scale; what a user happened to do next says least.
KIND_VARIANCE = {
    FeedbackKind.FLOAT: 0.01,
    FeedbackKind.JUDGE: 0.03,
    FeedbackKind.BOOLEAN: 0.17,
    FeedbackKind.IMPLICIT: 0.25,
}


class RewardConfig(Section):
    """One ``[rewards.<metric>]`` table: how a posted value becomes a reward in [0, 1].

    type: what may be posted, ``boolean`` (true, false) or ``float`` (a number in ``range``).
    kind: what the signal is; by default its type. variance: of one signal about the answer's
    quality; by default that of its kind. weight: how much the metric counts beside others on the
    same decision. calibration: points [scaled value, reward], rising, straight in between: what a
    value is really worth. ``optimize`` is applied before it.
    """

    type: Literal["boolean", "float"] = "float"
    kind: FeedbackKind | None = None
    range: tuple[float, float] = (0.0, 1.0)
    optimize: Literal["max", "min"] = "max"
    weight: Annotated[float, Field(gt=0)] = 1.0
    variance: Annotated[float, Field(ge=0, le=10)] | None = None
    calibration: tuple[tuple[Share, Share], ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.range
        if not low < high:
            raise ValueError(f"range [{low}, {high}] must rise: write range = [low, high]")
        points = self.calibration
        if len(points) == 1 or any(not (a[0] < b[0] and a[1] <= b[1]) for a, b in pairwise(points)):
            raise ValueError(
                f"calibration {[list(point) for point in points]} must be two points or more that "
                "rise: write calibration = [[0, 0.2], [1, 0.9]]"
            )
        return self

    @property
    def noise_variance(self) -> float:
        """Variance of one signal about the quality of the answer, in squares of the reward."""
        if self.variance is not None:
            return self.variance
        return KIND_VARIANCE[self.kind or FeedbackKind(self.type)]


class FeedbackConfig(Section):
    """``[feedback]``: how far one source of signals, which is one API key, is believed.

    source_share: most of an arm's evidence that a source may be while others speak of the arm
    too; the source with the most signals is not bounded. quarantine: whether a source that says
    otherwise than the others is set aside. trusted: sources that neither applies to.
    """

    source_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    quarantine: bool = True
    trusted: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()


class ExplorationConfig(Section):
    """``[exploration]``: how much is tried that the policy would not choose.

    floor: most that each arm's least probability may be. floor_spend_share: the floor's extra
    dollars, as a share of what the policy itself expects to spend on the request.
    floor_quality_loss: the floor's expected loss of utility on the request.
    min_pulls_per_day: an arm with fewer pulls gets a forced look; look_budget_usd_per_day
    bounds what those looks may cost.
    """

    enabled: bool = True
    floor: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    floor_spend_share: Share = 0.01
    floor_quality_loss: Share = 0.0005
    min_pulls_per_day: Annotated[int, Field(ge=0)] = 10
    look_budget_usd_per_day: Dollars = 1.0


class FallbackConfig(Section):
    """``[fallback]``: one deadline for the whole chain, and how each attempt is bounded.

    hold_first_s: how long the first words of a stream are held back, so that a stream that
    dies at once can still be replaced. max_cost_usd: for all attempts of one request.

    A model rests for cooldown_time_s after allowed_fails failures in a row, or once
    failure_rate of at least minimum_calls calls within failure_window_s failed; the rest
    doubles up to max_cooldown_s while probes fail. probe_share: of the decisions that may
    choose a model whose rest is over, until one call of it has succeeded.
    """

    deadline_s: Seconds = 120.0
    attempt_timeout_s: Seconds = 60.0
    first_token_timeout_s: Seconds = 20.0
    idle_timeout_s: Seconds = 20.0
    hold_first_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_cost_usd: Dollars | None = None
    num_retries: Annotated[int, Field(ge=0, le=10)] = 1
    backoff_s: Seconds = 0.25
    max_backoff_s: Seconds = 5.0
    allowed_fails: Annotated[int, Field(ge=1)] = 3
    cooldown_time_s: Seconds = 30.0
    max_cooldown_s: Seconds = 600.0
    failure_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    failure_window_s: Seconds = 60.0
    minimum_calls: Annotated[int, Field(ge=1)] = 20
    probe_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1
    max_models: Annotated[int, Field(ge=1, le=32)] = 4


class StoreConfig(Section):
    """``[store]``: any Postgres by URL, or the embedded one.

    url: None means DATABASE_URL, or else the embedded server in data_dir.
    keep_prompts: store request texts with decisions; off, only features are kept.
    """

    url: str | None = None
    data_dir: Path | None = None
    keep_prompts: bool = False
    snapshots_kept: Annotated[int, Field(ge=2)] = 200


class LearnerConfig(Section):
    """``[learner]``: how often the log is folded, and when it is fitted anew.

    own_process: learn in a process beside the service's; false saves its memory, and lets
    requests wait for the learner's arithmetic.
    """

    own_process: bool = True
    interval_s: Seconds = 0.25
    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    refit_interval_s: Seconds = 300.0
    refit_rows: Annotated[int, Field(ge=100)] = 50_000


class ServerConfig(Section):
    """``[server]``: where to listen, and who may call.

    On any address but loopback the server does not start without require_api_key.
    body_timeout_s: how long a caller may take to send a body.
    shutdown_s: how long requests under way may take to end once the server is told to stop.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8800
    require_api_key: bool = False
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    body_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    shutdown_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class AlarmKind(StrEnum):
    """What an alarm is about."""

    BREAKER = "breaker"
    BUDGET = "budget"
    LEARNER = "learner"
    CONFIGURATION = "configuration"
    QUALITY = "quality"
    COST = "cost"
    FAILURE = "failure"
    CHALLENGER = "challenger"


class AlertConfig(Section):
    """One ``[[alerts]]`` table: a webhook that is told when an alarm is raised, and when it ends.

    kinds: which alarms; all where left out. secret_env: the environment variable with the secret
    that signs what is sent.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    kinds: frozenset[AlarmKind] = frozenset()


class TracingConfig(Section):
    """``[tracing]``: OpenTelemetry traces, which need the extra ``otel``.

    endpoint: of an OTLP receiver over HTTP, without /v1/traces. None means the environment's
    OTEL_EXPORTER_OTLP_ENDPOINT, or else no traces. sample_share: of the traces that begin here;
    None means the environment's OTEL_TRACES_SAMPLER, or else all.
    """

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] | None = None
    sample_share: Share | None = None


class RouterConfig(SteeringTables):
    """The whole file."""

    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    policy: PolicyConfig = PolicyConfig()
    features: FeaturesConfig = FeaturesConfig()
    rewards: dict[MetricName, RewardConfig] = Field(
        default_factory=lambda: {"quality": RewardConfig()}
    )
    feedback: FeedbackConfig = FeedbackConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    fallback: FallbackConfig = FallbackConfig()
    store: StoreConfig = StoreConfig()
    learner: LearnerConfig = LearnerConfig()
    server: ServerConfig = ServerConfig()
    alerts: tuple[AlertConfig, ...] = ()
    tracing: TracingConfig = TracingConfig()
    challengers: tuple[ChallengerConfig, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _checks_are_signals(cls, data: Any) -> Any:
        """Cascades teach by what their checks say: a metric that need not be declared."""
        if not isinstance(data, dict) or not data.get("cascades"):
            return data
        rewards = data.get("rewards", {"quality": {}})
        if not isinstance(rewards, dict) or CHECK_METRIC in rewards:
            return data
        return {**data, "rewards": {**rewards, CHECK_METRIC: {"type": "boolean"}}}

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        names = [model.name for model in self.models]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"model names must be unique; doubled: {', '.join(doubled)}")
        if "auto" in names:
            raise ValueError("'auto' asks the router to choose; name the model otherwise")
        if not self.routable:
            raise ValueError(
                "every model is last_resort or only embeds: the policy has nothing to choose from"
            )
        if not self.rewards:
            raise ValueError("declare at least one [rewards.<metric>] table: nothing to learn from")
        if self.policy.name == "fixed" and self.policy.model not in names:
            raise ValueError(
                f"policy 'fixed' needs model = one of {', '.join(names)}; got {self.policy.model}"
            )
        self.check_names(names)
        self._check_challengers()
        return self

    def varied(
        self,
        policy: Mapping[str, Any],
        exploration: Mapping[str, Any],
        *,
        learned_as: str | None,
    ) -> Self:
        """The whole with other keys in these two sections. Raises ValueError for bad ones."""
        if "learned_as" in policy:
            raise ValueError("policy.learned_as is the router's to choose for a challenger")
        policies = {**self.policy.model_dump(), **policy, "learned_as": learned_as}
        explores = {**self.exploration.model_dump(), **exploration}
        made = {
            "policy": PolicyConfig.model_validate(policies),
            "exploration": ExplorationConfig.model_validate(explores),
        }
        whole = self.model_copy(update=made)
        names = [model.name for model in self.models]
        if whole.policy.name == "fixed" and whole.policy.model not in names:
            raise ValueError(f"policy 'fixed' needs policy.model = one of {', '.join(names)}")
        return whole

    def _check_challengers(self) -> None:
        named = [challenger.name for challenger in self.challengers]
        doubled = sorted({name for name in named if named.count(name) > 1})
        if doubled:
            raise ValueError(f"challenger names must be unique; doubled: {', '.join(doubled)}")
        for challenger in self.challengers:
            try:
                self.varied(challenger.policy, challenger.exploration, learned_as=None)
            except ValidationError as error:
                told = "; ".join(
                    f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
                )
                raise ValueError(f"challenger '{challenger.name}': {told}") from error
            except ValueError as error:
                raise ValueError(f"challenger '{challenger.name}': {error}") from error

    @property
    def routable(self) -> tuple[ModelConfig, ...]:
        """What the policy chooses among, in file order: every model that writes text and is
        not the last resort."""
        return tuple(m for m in self.models if m.generates and not m.last_resort)

    @property
    def last_resorts(self) -> tuple[ModelConfig, ...]:
        """The local models that end every chain, in file order."""
        return tuple(model for model in self.models if model.last_resort)
