"""OpenTelemetry traces: off, and then not even loaded, unless they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bandit_router.config import TracingConfig
from bandit_router.errors import ConfigError

if TYPE_CHECKING:
    # Its packages are an extra: ``open_tracing`` loads them where traces are switched on.
    from service.tracing.spans import Tracing

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
REMEDY = "pip install 'bandit-router[otel]', or set OTEL_SDK_DISABLED=true"


def asked_by(config: TracingConfig, environ: Mapping[str, str]) -> str | None:
    """What asks for traces, a key of the file or an environment variable; None where nothing
    does or OpenTelemetry is switched off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    if config.endpoint is not None:
        return "tracing.endpoint"
    return next((name for name in ENDPOINT_VARIABLES if environ.get(name, "").strip()), None)


def open_tracing(config: TracingConfig, environ: Mapping[str, str]) -> Tracing | None:
    """Where spans go, or None; whoever opened it closes it once the service has ended.

    environ: decides whether there are traces at all. OpenTelemetry's own settings (headers,
    sampler, service name, batches) it reads from the process's environment itself. Raises
    ConfigError where traces are asked for and cannot be.
    """
    asker = asked_by(config, environ)
    if asker is None:
        return None
    protocol = next((environ[name] for name in PROTOCOL_VARIABLES if environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        raise ConfigError(
            f"traces over '{protocol}' are not supported: set {PROTOCOL_VARIABLES[1]}={PROTOCOL}, "
            "which OTLP receivers take on port 4318"
        )
    if not all(map(_is_installed, PACKAGES)):
        raise ConfigError(f"{asker} asks for traces, which need the extra otel: {REMEDY}")
    from service.tracing.spans import exporting

    return exporting(config)


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
