"""What an operator may set about who may ask for what: tiers, rules, sessions, workflows, limits.

The tables for one request's way through the gateway, beside the models and the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bandit_router.config_base import Dollars, Name, Seconds, Section, Share
from bandit_router.config_cascade import CascadeConfig
from bandit_router.types import Tier

MOST_RULES = 5
SessionSource = Annotated[
    str, Field(pattern=r"^(header|user|first_messages|metadata\.[A-Za-z0-9_.-]{1,64})$")
]
Count = Annotated[int, Field(ge=1)]


class TierConfig(Section):
    """One ``[tiers.<name>]`` table: what the users of a tier get unless they ask for less.

    policy: chooses for them instead of ``policy.name``, on the same learned state.
    budget_usd_per_request: the mean that their price of a dollar is found for, or
    budget_multiplier: the same as a multiple of the policy's budget. candidates, minimum_tier,
    quality_floor: as a request may ask for them; a request may tighten them, not loosen.
    """

    policy: str | None = None
    budget_usd_per_request: Dollars | None = None
    budget_multiplier: Annotated[float, Field(gt=0)] | None = None
    candidates: tuple[Name, ...] | None = None
    minimum_tier: Tier | None = None
    quality_floor: Share | None = None

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget_usd_per_request is not None and self.budget_multiplier is not None:
            raise ValueError(
                "budget_usd_per_request and budget_multiplier exclude each other: keep one"
            )
        return self


class RuleWhen(Section):
    """Which requests a rule is for: all that is said here must hold.

    metadata: labels that must be there with these texts. min_input_tokens,
    max_input_tokens: of the request as estimated. tools, images: whether it carries some.
    """

    tenant: str | None = None
    user_tier: str | None = None
    metadata: Mapping[str, str] = Field(default_factory=dict)
    min_input_tokens: Count | None = None
    max_input_tokens: Count | None = None
    tools: bool | None = None
    images: bool | None = None
    response_format: str | None = None


class RuleThen(Section):
    """What a rule does. model: is taken; its candidates are what it may fall back to. cascade:
    by which the request is answered, unless it names one itself.

    Without model, the policy chooses among what the rest leaves.
    """

    model: Name | None = None
    candidates: tuple[Name, ...] | None = None
    exclude: frozenset[Name] = frozenset()
    minimum_tier: Tier | None = None
    max_cost_usd: Dollars | None = None
    max_latency_s: Seconds | None = None
    max_first_token_s: Seconds | None = None
    quality_floor: Share | None = None
    explore: bool | None = None
    cascade: Name | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self == type(self).model_construct():
            raise ValueError(
                'a rule must do something: set model, or candidates, or minimum_tier = "large" …'
            )
        return self


class RuleConfig(Section):
    """One ``[[rules]]`` table. binding: holds also where the caller names a model himself."""

    name: Name
    when: RuleWhen = RuleWhen()
    then: RuleThen
    binding: bool = False


class SessionsConfig(Section):
    """``[sessions]``: requests of one conversation stay with the model that began it.

    sources: where a session's id is looked for, in this order: ``header`` (x-session-id),
    ``user`` (OpenAI's field), ``metadata.<label>``, ``first_messages`` (a hash of all up to
    the first answer). A session ends idle_s after its last request.
    budget_usd: what one session may cost, for tenants that have no budget_usd_per_session;
    expected_requests: that a session is expected to have still before it, by which what is left
    of its budget is paced.
    """

    sticky: bool = True
    sources: tuple[SessionSource, ...] = ("header",)
    idle_s: Seconds = 3600.0
    budget_usd: Dollars | None = None
    expected_requests: Count = 10


class WorkflowConfig(Section):
    """One ``[workflows.<name>]`` table: one model, or models of one tier, for all steps."""

    model: Name | None = None
    fallbacks: tuple[Name, ...] = ()
    tier: Tier | None = None

    @model_validator(mode="after")
    def _one_pin(self) -> Self:
        if (self.model is None) == (self.tier is None):
            raise ValueError('a workflow pins one thing: set either model = "…" or tier = "large"')
        if self.fallbacks and self.model is None:
            raise ValueError("fallbacks belong to a pinned model: set model, or drop fallbacks")
        return self


class LimitSet(Section):
    """Most requests, tokens and dollars in calendar windows (UTC); None is unlimited."""

    requests_per_minute: Count | None = None
    requests_per_hour: Count | None = None
    requests_per_day: Count | None = None
    requests_per_month: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_hour: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None
    usd_per_minute: Dollars | None = None
    usd_per_hour: Dollars | None = None
    usd_per_day: Dollars | None = None
    usd_per_month: Dollars | None = None

    @cached_property
    def given(self) -> tuple[tuple[str, str, float], ...]:
        """(what is counted, in which window, at most) of every limit that is set."""
        found = []
        for name in type(self).model_fields:
            most = getattr(self, name)
            if most is not None:
                amount, _, window = name.partition("_per_")
                found.append((amount, window, float(most)))
        return tuple(found)


class TenantConfig(Section):
    """One ``[tenants.<name>]`` table. tier: of requests that state none themselves.

    budget_usd_per_request: the mean that their price of a dollar is found for.
    budget_usd_per_day, budget_usd_per_session: paced over what is still to come, and walls.

    over_budget: what happens when dollars have run out: ``refuse`` or ``local``, the cheapest
    local model's answer.
    """

    tier: str | None = None
    budget_usd_per_request: Dollars | None = None
    budget_usd_per_day: Dollars | None = None
    budget_usd_per_session: Dollars | None = None
    limits: LimitSet = LimitSet()
    over_budget: Literal["refuse", "local"] | None = None


class LimitsConfig(Section):
    """``[limits]``: for tenants without a table, and how much is reserved before a call.

    tenant: limits of every tenant that has none of its own. assumed_output_tokens: reserved
    for an answer whose length the caller does not bound.
    """

    tenant: LimitSet = LimitSet()
    over_budget: Literal["refuse", "local"] = "refuse"
    assumed_output_tokens: Count = 4096


class CacheConfig(Section):
    """``[cache]``: answers kept in memory for requests that are exactly the same.

    default: whether that goes for requests that do not say. ttl_s: how old an answer may be.
    max_answers, max_bytes: of all that is kept; max_answer_bytes: of one.
    """

    enabled: bool = False
    default: bool = False
    ttl_s: Seconds = 300.0
    max_answers: Count = 1_000
    max_bytes: Count = 64 * 1024 * 1024
    max_answer_bytes: Count = 1024 * 1024


class SteeringTables(Section):
    """The tables of this module, as part of the whole file."""

    tiers: dict[Name, TierConfig] = Field(default_factory=dict)
    tenants: dict[str, TenantConfig] = Field(default_factory=dict)
    limits: LimitsConfig = LimitsConfig()
    rules: tuple[RuleConfig, ...] = ()
    sessions: SessionsConfig = SessionsConfig()
    workflows: dict[Name, WorkflowConfig] = Field(default_factory=dict)
    cascades: dict[Name, CascadeConfig] = Field(default_factory=dict)
    cache: CacheConfig = CacheConfig()

    @model_validator(mode="after")
    def _few_rules(self) -> Self:
        if len(self.rules) > MOST_RULES:
            raise ValueError(
                f"{len(self.rules)} [[rules]] are too many: keep at most {MOST_RULES}, those that "
                "a law or a contract demands. What a rule knows of quality and cost the policy "
                "learns by itself: put labels such as task under features.metadata instead"
            )
        named = [rule.name for rule in self.rules]
        doubled = sorted({name for name in named if named.count(name) > 1})
        if doubled:
            raise ValueError(f"rule names must be unique; doubled: {', '.join(doubled)}")
        return self

    def check_names(self, models: Sequence[str]) -> None:
        """Raise ValueError for the first name that no table declares."""
        for where, name in self._model_names():
            if name not in models:
                raise ValueError(f"{where}: no model '{name}'; there are {', '.join(models)}")
        for tenant, table in self.tenants.items():
            self._check_tier(f"tenants.{tenant}.tier", table.tier)
        for rule in self.rules:
            self._check_tier(f"rule '{rule.name}': when.user_tier", rule.when.user_tier)
            named = rule.then.cascade
            if named is not None and named not in self.cascades:
                known = ", ".join(self.cascades) or "none"
                raise ValueError(
                    f"rule '{rule.name}': no [cascades.{named}] is declared; there are: {known}"
                )

    def _check_tier(self, where: str, name: str | None) -> None:
        if name is not None and name not in self.tiers:
            known = ", ".join(self.tiers) or "none"
            raise ValueError(f"{where}: no [tiers.{name}] is declared; there are: {known}")

    def _model_names(self) -> Iterator[tuple[str, str]]:
        """Every model's name in these tables, and where it stands."""
        for tier, table in self.tiers.items():
            yield from ((f"tiers.{tier}.candidates", name) for name in table.candidates or ())
        for rule in self.rules:
            then = rule.then
            listed = (*((then.model,) if then.model else ()), *(then.candidates or ()))
            yield from ((f"rule '{rule.name}'", name) for name in (*listed, *then.exclude))
        for workflow, pin in self.workflows.items():
            pinned = (pin.model,) if pin.model else ()
            yield from ((f"workflows.{workflow}", name) for name in (*pinned, *pin.fallbacks))
        for cascade, stages in self.cascades.items():
            judges = (check.model for check in stages.checks if check.model is not None)
            listed = (*(stages.first or ()), *(stages.then or ()), *judges)
            yield from ((f"cascades.{cascade}", name) for name in listed)
