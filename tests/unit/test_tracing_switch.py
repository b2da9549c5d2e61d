"""When traces are on, what their absence costs, and how models are named in them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bandit_router.config import ModelConfig, TracingConfig
from bandit_router.errors import ConfigError
from service.tracing import asked_by, open_tracing
from service.tracing.attempts import finish_reasons, provider_name

ENDPOINT = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("endpoint", "environ", "asker"),
    [
        (None, {}, None),
        (ENDPOINT, {}, "tracing.endpoint"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        (ENDPOINT, {"OTEL_SDK_DISABLED": "true"}, None),
        (ENDPOINT, {"OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_traces_are_off_unless_the_file_or_the_environment_asks(
    endpoint: str | None, environ: dict[str, str], asker: str | None
) -> None:
    assert asked_by(TracingConfig(endpoint=endpoint), environ) == asker


def test_without_the_extra_traces_are_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"tracing\.endpoint .*bandit-router\[otel\]"):
        open_tracing(TracingConfig(endpoint=ENDPOINT), {})
    assert open_tracing(TracingConfig(), {}) is None


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'grpc' are not supported.*http/protobuf"):
        open_tracing(TracingConfig(endpoint=ENDPOINT), {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_the_service_loads_no_sdk_while_traces_are_off() -> None:
    source = (
        "import sys, service.run, service.tracing\n"
        "from bandit_router.config import TracingConfig\n"
        "assert service.tracing.open_tracing(TracingConfig(), {}) is None\n"
        # FastAPI loads the API, which is small.
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'service.tracing.'))])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://notopenai.com/v1", "openai_compatible"),
        ("http://127.0.0.1:11434/v1", "openai_compatible"),
    ],
)
def test_providers_have_the_names_of_the_conventions(base_url: str, name: str) -> None:
    assert provider_name(ModelConfig(name="m", base_url=base_url)) == name


def test_reasons_to_stop_are_read_from_chats_and_from_responses() -> None:
    choices = [{"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": "length"}]
    assert finish_reasons({"choices": choices}) == ["stop", "length"]
    response = {"object": "response", "status": "incomplete"}
    cut = {**response, "incomplete_details": {"reason": "max_output_tokens"}}
    assert finish_reasons(cut) == ["max_output_tokens"]
    assert finish_reasons({"object": "response", "status": "completed"}) == ["completed"]
    assert finish_reasons({"object": "response", "status": "in_progress"}) == []
