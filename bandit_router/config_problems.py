"""Says in words what pydantic found wrong with a configuration, and what to write instead."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from bandit_router.config import RouterConfig
from bandit_router.toml_lines import KeyPath

_PATTERNS = {
    "name": "may hold letters, digits and . _ / : @ + -, and starts with a letter or digit",
    "model": "may hold letters, digits and . _ / : @ + -, and starts with a letter or digit",
    "api_key_env": 'is the name of an environment variable, such as "OPENAI_API_KEY"',
}
_EXAMPLES = {"name": '"my-model"', "provider": '"openai_compatible"'}
_METRIC_NAME = "a metric's name may hold letters, digits and . _ -, and starts with a letter"
_NO_MODELS = "declare at least one [[models]] table; router.example.toml shows one of every kind"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: where (a key path), and a sentence with the value and the remedy."""

    path: KeyPath
    sentence: str


def problems_of(error: ValidationError) -> list[Problem]:
    """Translate every error of a ``RouterConfig`` validation."""
    found = []
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if part != "[key]")
        # The tuple of models counts only what validated: its own complaint says nothing new.
        if detail["type"] == "too_short" and path == ("models",) and detail["input"]:
            continue
        found.append(Problem(path, _sentence(detail, path)))
    return found


def _sentence(detail: Mapping[str, Any], path: KeyPath) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    last = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if path == ("models",):
        given = (
            "" if kind == "missing" or not detail["input"] else f"; got {shown(detail['input'])}"
        )
        return _NO_MODELS + given
    if kind == "missing":
        return f"'{last}' is required: add {last} = {_EXAMPLES.get(last, '...')}"
    if kind == "value_error":
        return str(context["error"])
    value = shown(detail["input"])
    if kind in ("literal_error", "enum"):
        choices = context["expected"].split("'")[1::2]
        return f"{value} is none of {', '.join(choices)}{_did_you_mean(detail['input'], choices)}"
    if kind == "string_pattern_mismatch":
        what = _METRIC_NAME if "[key]" in detail["loc"] else _PATTERNS.get(last)
        return f"{value} cannot be used: {what or detail['msg']}"
    if kind in ("model_type", "dict_type"):
        table = "[[models]]" if path[0] == "models" else f"[{dotted(path)}]"
        return f"{value} cannot be used: {dotted(path)} is a table, written {table}"
    return f"{value} cannot be used: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _unknown_key(path: KeyPath) -> str:
    section = _section(path[:-1])
    known = sorted(section.model_fields) if section is not None else []
    name = str(path[-1])
    close = get_close_matches(name, known, n=1) or [key for key in known if key.startswith(name)]
    # A key may be right but in the wrong table: `deadline_s` at the top, say.
    homes = [
        f"[{field}]"
        for field in RouterConfig.model_fields
        if field not in path
        and (inner := _section((field,))) is not None
        and name in inner.model_fields
    ]
    if close:
        remedy = f"did you mean '{close[0]}'?"
    elif homes:
        remedy = f"it belongs into {' or '.join(homes)}"
    else:
        remedy = f"known here: {', '.join(known)}"
    return f"unknown key '{name}'; {remedy}"


def _section(path: KeyPath) -> type[BaseModel] | None:
    """The pydantic class that describes the table at a path."""
    section: type[BaseModel] = RouterConfig
    parts = list(path)
    while parts:
        field = section.model_fields.get(str(parts.pop(0)))
        inner = _model_in(field.annotation) if field is not None else None
        if field is None or inner is None:
            return None
        # Step over the index of [[models]] and the metric's name of [rewards.<metric>].
        if typing.get_origin(field.annotation) in (tuple, dict):
            parts = parts[1:]
        section = inner
    return section


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(part) for part in typing.get_args(annotation))
    return next((found for found in inner if found is not None), None)


def _did_you_mean(value: object, choices: Sequence[str]) -> str:
    close = get_close_matches(str(value), choices, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def shown(value: object) -> str:
    """A value as the operator wrote it, cut where it is long."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, Mapping):
        return "a table"
    else:
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def dotted(path: KeyPath) -> str:
    """A key path for the eye: ``models[1].base_url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
