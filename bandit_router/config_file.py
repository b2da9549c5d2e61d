"""Reads the operator's TOML file; all that is wrong with it comes as one ``ConfigError``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bandit_router.config import RouterConfig
from bandit_router.config_problems import Problem, dotted, problems_of
from bandit_router.config_secrets import missing_secrets, written_secrets
from bandit_router.errors import ConfigError
from bandit_router.toml_lines import KeyPath, key_lines, line_of

__all__ = ["DEFAULT_CONFIG", "load_config", "missing_secrets"]

DEFAULT_CONFIG = Path(__file__).parent / "router.default.toml"
"""What is served without a file: one local model, no keys."""

_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")


def load_config(path: Path) -> RouterConfig:
    """Read and validate a configuration file.

    Paths inside it (``models.path``, ``store.data_dir``, ``policy.prior``) count from the file's
    own folder.
    Raises ConfigError, whose ``problems`` name file, line, key, value and remedy, one each.
    """
    text = _text(path)
    tree = _tree(path, text)
    lines = key_lines(text)
    secrets = list(written_secrets(tree))
    problems = [Problem(where, advice) for where, _, advice in secrets]
    refused = {where for where, _, _ in secrets}
    problems += _doubled_names(tree, lines)
    doubled = len(problems) > len(secrets)
    try:
        config = RouterConfig.model_validate(_with_paths_from(path.parent, tree))
    except ValidationError as error:
        problems += [
            problem
            for problem in problems_of(error)
            # What the file says itself, with a line, the tree need not say again without.
            if problem.path not in refused and not (doubled and problem.path == ())
        ]
    if problems:
        raise _error(path, tree, lines, problems, [secret for _, secret, _ in secrets])
    return config


def _text(path: Path) -> str:
    try:
        # Editors on Windows like to write a byte order mark, which TOML does not know.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}: make one with `cp router.example.toml router.toml` "
            "and edit it, or name another with --config"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: name the TOML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is not UTF-8: save the file with UTF-8 encoding"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check its mode") from None


def _tree(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = str(error)
        position = _POSITION.search(problem)
        where, source = f"{path}:{max(1, len(text.splitlines()))}", ""
        if position is not None:
            line = int(position[1])
            where = f"{path}:{line}:{position[2]}"
            source = f": {_blotted(text.splitlines()[line - 1].strip())}"
            problem = problem.replace(position[0], "").strip()
        message = (
            f"{where}: not valid TOML: {problem}{source}. Strings need quotes, a list of tables "
            "double brackets ([[models]]), and a key may be set once in its table"
        )
        raise ConfigError(message, problems=(message,)) from None


def _blotted(source: str) -> str:
    """The faulty line, without what may be a secret: only the key's side of it."""
    key, equals, _ = source.partition("=")
    return f"{key.strip()} = ..." if equals else source[:60]


def _doubled_names(tree: dict[str, Any], lines: dict[KeyPath, int]) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    models = tree.get("models")
    for index, model in enumerate(models if isinstance(models, list) else ()):
        name = model.get("name") if isinstance(model, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            line = line_of(lines, ("models", first[name], "name"))
            sentence = f"model '{name}' is declared on line {line} already: names must be unique"
            problems.append(Problem(("models", index, "name"), sentence))
        first.setdefault(name, index)
    return problems


def _with_paths_from(folder: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """A copy in which relative paths start at the file's folder, and ``~`` at home."""

    def placed(table: Any, key: str) -> Any:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
            return {**table, key: folder / Path(table[key]).expanduser()}
        return table

    copy = dict(tree)
    if isinstance(tree.get("models"), list):
        copy["models"] = [placed(model, "path") for model in tree["models"]]
    if "store" in tree:
        copy["store"] = placed(tree["store"], "data_dir")
    if "policy" in tree:
        copy["policy"] = placed(tree["policy"], "prior")
    return copy


def _error(
    path: Path,
    tree: dict[str, Any],
    lines: dict[KeyPath, int],
    problems: Sequence[Problem],
    secrets: Sequence[str],
) -> ConfigError:
    def place(problem: Problem) -> tuple[int, str]:
        return line_of(lines, problem.path) or 0, dotted(problem.path)

    told = []
    for problem in sorted(problems, key=place):
        line, key = place(problem)
        where = f"{path}:{line}" if line else f"{path}"
        name = "" if problem.sentence.startswith("model '") else _model_label(tree, problem.path)
        label = f"{key}{name}: " if key else ""
        sentence = f"{where}: {label}{problem.sentence}"
        for secret in filter(None, secrets):
            sentence = sentence.replace(secret, "***")
        told.append(sentence)
    if len(told) == 1:
        return ConfigError(told[0], problems=told)
    return ConfigError(f"{path} has {len(told)} problems:\n  " + "\n  ".join(told), problems=told)


def _model_label(tree: dict[str, Any], path: KeyPath) -> str:
    """Indexes are hard to count: name the model too, where the problem lies inside one."""
    if len(path) < 2 or path[0] != "models" or not isinstance(path[1], int):
        return ""
    model = tree["models"][path[1]]
    name = model.get("name") if isinstance(model, dict) else None
    return f" (model '{name}')" if isinstance(name, str) and path[2:] != ("name",) else ""
