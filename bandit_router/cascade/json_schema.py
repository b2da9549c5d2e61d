"""Whether an answer is the JSON that was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.validators import extend, validator_for
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from bandit_router.cascade.patterns import PatternTooSlow, is_in
from bandit_router.cascade.verdict import Finding
from bandit_router.config_cascade import CheckConfig

# References that a caller's schema may follow in one check: nested ones multiply.
MOST_REFERENCES = 10_000
# Each look at an expression is bounded, but a caller's schema may ask for any number of them.
NOT_FROM_CALLERS = ("pattern", "patternProperties")


class TooManyReferences(Exception):
    """A schema that unfolds without end."""


BROKEN = (
    jsonschema.SchemaError,
    Unresolvable,
    TooManyReferences,
    PatternTooSlow,
    RecursionError,
)


def schema_finding(check: CheckConfig, text: str, request: Mapping[str, Any]) -> Finding:
    """Passed where the text fits the check's schema, or else the one that the request has; a
    request that asks for no JSON passes."""
    from_caller = check.json_schema is None
    schema = requested_schema(request) if from_caller else check.json_schema
    if schema is None:
        return Finding.passed(check)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Finding.failed(check, f"the answer is not JSON: {error}")
    try:
        validator = _validator(schema, from_caller=from_caller)
        worst = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except BROKEN as broken:
        return Finding.unknown(check, f"the schema cannot be used: {broken!s:.200}")
    if worst is None:
        return Finding.passed(check)
    return Finding.failed(check, f"{worst.json_path}: {worst.message:.200}")


def requested_schema(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema of a request's ``response_format``, or of a Responses request's
    ``text.format``; any object for JSON mode; None where no JSON is asked for."""
    text = request.get("text")
    asked = request.get("response_format") or (
        text.get("format") if isinstance(text, dict) else None
    )
    if not isinstance(asked, dict):
        return None
    if asked.get("type") == "json_object":
        return {"type": "object"}
    if asked.get("type") != "json_schema":
        return None
    inner = asked.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else asked.get("schema")
    return schema if isinstance(schema, dict) else {}


def _validator(schema: dict[str, Any], *, from_caller: bool) -> Any:
    cls = validator_for(schema, default=jsonschema.Draft202012Validator)
    if not from_caller:
        bounded: Any = extend(cls, {"pattern": _pattern, "patternProperties": _pattern_properties})  # type: ignore[no-untyped-call]
        return bounded(schema, registry=EMPTY_REGISTRY)
    cls.check_schema(schema)
    left = MOST_REFERENCES
    kept = cls.VALIDATORS

    def counted(name: str) -> Any:
        follow = kept[name]

        def check(validator: Any, reference: Any, instance: Any, whole: Any) -> Iterator[Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise TooManyReferences(f"more than {MOST_REFERENCES} references")
            yield from follow(validator, reference, instance, whole) or ()

        return check

    changed = {name: _anything for name in NOT_FROM_CALLERS if name in kept}
    changed |= {name: counted(name) for name in ("$ref", "$dynamicRef") if name in kept}
    # By itself, jsonschema would fetch what a reference names from the network.
    checking: Any = extend(cls, changed)  # type: ignore[no-untyped-call]
    return checking(schema, registry=EMPTY_REGISTRY)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not is_in(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r:.100} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[Any]:
    for pattern, inner in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if is_in(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _anything(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
