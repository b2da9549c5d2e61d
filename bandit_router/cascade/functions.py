"""Checks of the operator's own, by ``package.module:name``."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import cast

from bandit_router.cascade.answers import CheckedAnswer
from bandit_router.config import RouterConfig
from bandit_router.errors import ConfigError

# True: good enough. False, or a text that says why: not good enough.
Said = bool | str
CheckFunction = Callable[[CheckedAnswer], Said | Awaitable[Said]]


def load_functions(config: RouterConfig) -> dict[str, CheckFunction]:
    """Every function that a check names. Raises ConfigError where one cannot be imported."""
    found: dict[str, CheckFunction] = {}
    for cascade, table in config.cascades.items():
        for check in table.checks:
            if check.function is not None:
                found[check.function] = _load(f"cascades.{cascade}", check.function)
    return found


def _load(where: str, path: str) -> CheckFunction:
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name, None)
    # The operator's own module may raise anything while it is imported.
    except Exception as error:
        raise ConfigError(
            f"{where}: function '{path}' cannot be imported "
            f"({type(error).__name__}: {error}); install its package beside "
            "the router, or put its folder into PYTHONPATH"
        ) from error
    if not callable(function):
        raise ConfigError(f"{where}: module '{module_name}' has no function '{name}'")
    return cast(CheckFunction, function)
