"""``[cascades.<name>]``: a cheaper model first, checks of its answer, then a stronger model."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import regex
from pydantic import Field, model_validator

from bandit_router.config_base import Name, Seconds, Section, Share

# What the checks say of an answer is feedback under this name, from this source.
CHECK_METRIC = "check"
CHECK_SOURCE = "router:check"
DOTTED_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


class CheckKind(StrEnum):
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    REFUSAL = "refusal"
    LENGTH = "length"
    CONFIDENCE = "confidence"
    PYTHON = "python"
    JUDGE = "judge"


OWN_FIELDS: Mapping[CheckKind, frozenset[str]] = {
    CheckKind.JSON_SCHEMA: frozenset({"json_schema"}),
    CheckKind.REGEX: frozenset({"pattern", "forbidden"}),
    CheckKind.REFUSAL: frozenset({"phrases"}),
    CheckKind.LENGTH: frozenset({"min_characters", "max_characters"}),
    CheckKind.CONFIDENCE: frozenset({"least_token_probability"}),
    CheckKind.PYTHON: frozenset({"function"}),
    CheckKind.JUDGE: frozenset({"model", "instructions", "least_score"}),
}
NEEDED_FIELDS: Mapping[CheckKind, str] = {
    CheckKind.REGEX: "pattern",
    CheckKind.PYTHON: "function",
    CheckKind.JUDGE: "model",
}


class CheckConfig(Section):
    """One ``[[cascades.<name>.checks]]`` table.

    json_schema: what the answer must fit; without it, what the request's own response_format
    asks for. pattern: a regular expression that must be found, or with forbidden must not be.
    phrases: how else, beside the usual ways, a refusal begins. min_characters, max_characters:
    of the text; one that was cut off is too short. least_token_probability: geometric mean
    over the answer's tokens. function: ``package.module:name``. model, instructions,
    least_score: who judges, by what, and the score in [0, 1] from which on it is good enough.
    """

    kind: CheckKind
    json_schema: dict[str, Any] | None = None
    pattern: Annotated[str, Field(min_length=1)] | None = None
    forbidden: bool = False
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    min_characters: Annotated[int, Field(ge=0)] = 1
    max_characters: Annotated[int, Field(ge=1)] | None = None
    least_token_probability: Annotated[Share, Field(gt=0)] = 0.8
    function: Annotated[str, Field(pattern=DOTTED_PATH)] | None = None
    model: Name | None = None
    instructions: str = ""
    least_score: Annotated[Share, Field(gt=0)] = 0.5

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        strange = sorted(self.model_fields_set - OWN_FIELDS[self.kind] - {"kind"})
        if strange:
            own = ", ".join(sorted(OWN_FIELDS[self.kind]))
            raise ValueError(f"a {self.kind} check has no {strange[0]}; it takes: {own}")
        needed = NEEDED_FIELDS.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"a {self.kind} check needs {needed}")
        try:
            regex.compile(self.pattern or "")
        except regex.error as error:
            raise ValueError(
                f"pattern {self.pattern!r} is no regular expression: {error}"
            ) from None
        return self


class CascadeConfig(Section):
    """One ``[cascades.<name>]`` table.

    first: models whose answer is checked; without it, all but the strongest. then: models that
    are asked where a check fails; without it, all that are stronger than the one that answered.
    checks: made in this order up to the first that fails. first_share: most of the request's
    deadline that the first answer may take. check_timeout_s: for one check. check_last: whether
    the second answer is checked too, for the learner's sake alone. when_exhausted: what is
    given where the second model fails: the first ``answer``, or the ``error``.
    """

    first: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    then: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    checks: Annotated[tuple[CheckConfig, ...], Field(min_length=1)]
    first_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    check_timeout_s: Seconds = 10.0
    check_last: bool = True
    when_exhausted: Literal["answer", "error"] = "answer"
