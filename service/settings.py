"""What the service reads of the world once, when it starts: environment, secret, address."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bandit_router.config import RouterConfig, ServerConfig
from bandit_router.errors import ConfigError

DATABASE_VARIABLE = "DATABASE_URL"
SECRET_VARIABLE = "BANDIT_ROUTER_SECRET"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set outside the file.

    environ: where the models' API keys are found. database_url: None means the embedded
    Postgres. draw_secret: seeds every draw together with the decision's id.
    shutdown_s: how long requests under way may take to end once the service is told to stop.
    """

    environ: Mapping[str, str] = field(repr=False)
    database_url: str | None = field(repr=False)
    draw_secret: bytes = field(repr=False)
    shutdown_s: float = 30.0


def read_settings(
    config: RouterConfig, environ: Mapping[str, str], random_bytes: Callable[[int], bytes]
) -> Settings:
    """Settings of a process. random_bytes: a source fit for secrets, such as os.urandom.

    Without BANDIT_ROUTER_SECRET the secret lasts as long as the process: draws cannot be
    foretold, nor drawn again after a restart (the pmf that they came from is always logged).
    """
    named = environ.get(SECRET_VARIABLE, "")
    return Settings(
        environ=environ,
        database_url=config.store.url or environ.get(DATABASE_VARIABLE) or None,
        draw_secret=named.encode() if named else random_bytes(SECRET_BYTES),
        shutdown_s=config.server.shutdown_s,
    )


def check_listening(server: ServerConfig) -> None:
    """Raise ConfigError where strangers could call without a key."""
    if server.require_api_key or is_loopback(server.host):
        return
    raise ConfigError(
        f"server.host '{server.host}' can be reached from other machines, and no key is asked "
        "for: set require_api_key = true under [server] and make a key with "
        "`bandit-router keys create NAME`, or listen on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
