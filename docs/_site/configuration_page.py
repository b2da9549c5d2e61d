"""The configuration's reference: every table and key, from the models that validate them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bandit_router.config import RouterConfig

HEAD = """# Configuration

Every table and key of the TOML file, from the models that validate it. `router.example.toml` in the
repository shows them at work, and `bandit-router check router.toml` says everything that is wrong
with a file, with line and remedy. A key without a default must be given.

"""


def page() -> str:
    """The page in Markdown."""
    return HEAD + "\n".join(_section(title, model) for title, model in _tables(RouterConfig, ""))


def _tables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of the file, under the heading that TOML gives it; a model's own fields before
    those of its base."""
    own = model.__annotations__
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] not in own):
        inner = _model_of(field.annotation)
        if inner is None:
            continue
        kind = str(field.annotation)
        path = f"{prefix}{name}"
        if "tuple[" in kind:
            yield f"[[{path}]]", inner
        elif "dict[" in kind.lower() or "Mapping[" in kind:
            path += ".NAME"
            yield f"[{path}]", inner
        else:
            yield f"[{path}]", inner
        yield from _tables(inner, f"{path}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = _model_of(part)
        if found is not None:
            return found
    return None


def _section(title: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    lines = [f"## `{title}`", "", _prose(model), "", "| key | type | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if _model_of(field.annotation) is None:
            kind = _type(schema["properties"][field.alias or name], definitions)
            lines.append(f"| `{field.alias or name}` | {kind} | {_default(field)} |")
    return "\n".join(lines) + "\n"


def _prose(model: type[BaseModel]) -> str:
    """The docstring in Markdown: one paragraph a key that it explains."""
    text = inspect.getdoc(model) or ""
    text = re.sub(r"``(\[\[?.*?\]\]?)``:\s*", "", text, count=1).replace("``", "`")
    first, _, rest = text.partition("\n\n")
    names = "|".join(re.escape(name) for name in model.model_fields)
    paragraphs = (" ".join(paragraph.split()) for paragraph in rest.split("\n\n"))
    # Where a sentence begins: in "a: …, or b: …" there is one.
    keys = re.compile(rf"(?:^|(?<=[.;)] ))((?:{names})(?:, (?:{names}))*): ")
    rest = "\n\n".join(keys.sub(r"\n\n**`\1`**: ", paragraph) for paragraph in paragraphs)
    return f"{first[:1].upper()}{first[1:]}\n\n{rest}"


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        known = (_type(part, definitions) for part in schema["anyOf"])
        return " or ".join(kind for kind in known if kind != "null")
    kind = str(schema.get("type", "any"))
    if kind == "array":
        item = schema.get("items") or {}
        return f"list of {_type(item, definitions)}" if item else "list"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    word = {"string": "text", "boolean": "true or false", "integer": "whole number"}
    return " ".join([word.get(kind, kind), *([", ".join(bounds)] if bounds else [])])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, frozenset | set):
        value = sorted(value)
    return f"`{json.dumps(value, default=str)}`"
