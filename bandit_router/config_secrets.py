"""Keeps secrets out of the configuration file: finds those written there, and those unset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bandit_router.config import RouterConfig
from bandit_router.toml_lines import KeyPath

_SECRET_KEY = re.compile(
    r"^(.*_)?(api_?key|token|secret|password|passwd|authorization|bearer)$", re.IGNORECASE
)
# How the common providers' keys begin; long enough that no model name is taken for one.
_SECRET_VALUE = re.compile(
    r"^(Bearer\s+\S{8,}|(sk|pk|rk|xai|pplx)-[\w-]{16,}|(gsk|hf|ghp|r8|nvapi)[_-][\w-]{16,}"
    r"|AIza[\w-]{30,}|AKIA[A-Z0-9]{16})$"
)
_URL_PASSWORD = re.compile(r"^[\w+.-]+://[^/@\s:]*:(?P<password>[^/@\s]+)@")
_SETTINGS = frozenset({"require_api_key"})  # a switch whose name only sounds like a secret

_USE_THE_ENVIRONMENT = (
    "a secret must not stand in this file. Put it into an environment variable and name that "
    'here: api_key_env = "MY_PROVIDER_KEY"'
)
_USE_DATABASE_URL = (
    "a password must not stand in this file. Put the whole URL into the environment variable "
    "DATABASE_URL and drop this line"
)
_NO_PASSWORD_IN_URL = (
    "a password must not stand in this file. Drop it from the URL and name an environment "
    'variable that holds the key: api_key_env = "MY_PROVIDER_KEY"'
)


def written_secrets(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Find secrets in a parsed file: (key path, the secret itself, what to do instead).

    The secret is handed on so that the caller can blot it out of other messages.
    """
    for path, value in _strings(tree, ()):
        name = next((part for part in reversed(path) if isinstance(part, str)), "")
        password = _URL_PASSWORD.match(value)
        if password is not None:
            advice = _USE_DATABASE_URL if path[:1] == ("store",) else _NO_PASSWORD_IN_URL
            yield path, password["password"], advice
        elif _SECRET_VALUE.match(value) or (_SECRET_KEY.match(name) and name not in _SETTINGS):
            yield path, value, _USE_THE_ENVIRONMENT


def _strings(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, (*path, index))


def missing_secrets(config: RouterConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Models whose key is not to be had: model name to the variable that is unset or empty."""
    return {
        model.name: model.api_key_env
        for model in config.models
        if model.api_key_env and not environ.get(model.api_key_env, "").strip()
    }
