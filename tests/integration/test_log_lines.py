"""The service's log holds ids, and neither keys nor prompts, whatever is sent and fails."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import httpx
import pytest
from service_process import ASK, service_process

from bandit_router.errors import ConfigError
from service.log_lines import TextLines, current_request, set_up_logging
from simulations.faults.misbehaving import Exchange, answer, misbehaving

KEY = "sk-upstreams0secret0key"
CALLERS = "br-callers0secret0key0"
PROMPT = "my-diagnosis-is-confidential"
CONFIG = """
[[models]]
name = "good"
base_url = "{good}"
api_key_env = "GOOD_API_KEY"
output_usd_per_million = 1.0

[[models]]
name = "bad"
base_url = "{bad}"
api_key_env = "BAD_API_KEY"
output_usd_per_million = 1.0

[store]
data_dir = "{folder}"
"""


async def echoing(exchange: Exchange) -> None:
    """A refusal that quotes the key and the prompt."""
    said = json.dumps({"error": {"message": f"{KEY} may not ask {exchange.body['messages']}"}})
    await exchange.head(401, {"content-length": str(len(said))})
    await exchange.send(said.encode())


@pytest.mark.asyncio
async def test_json_lines_carry_ids_and_neither_keys_nor_prompts(open_folder: Path) -> None:
    async with misbehaving(answer) as good, misbehaving(echoing) as bad:
        path = open_folder / "router.toml"
        path.write_text(CONFIG.format(good=good.base_url, bad=bad.base_url, folder=open_folder))
        environ = {"BANDIT_ROUTER_LOG": "json", "GOOD_API_KEY": KEY, "BAD_API_KEY": KEY}
        with service_process(path, **environ) as service:
            headers = {"authorization": f"Bearer {CALLERS}", "x-request-id": "request-of-mine"}
            async with httpx.AsyncClient(
                base_url=service.url, timeout=20.0, trust_env=False, headers=headers
            ) as client:
                ask = {**ASK, "messages": [{"role": "user", "content": f"{PROMPT} {CALLERS}"}]}
                got = await client.post("/v1/chat/completions", json={**ask, "model": "good"})
                assert got.status_code == 200
                failed = await client.post("/v1/chat/completions", json={**ask, "model": "bad"})
                assert failed.status_code >= 400
                await client.post(
                    "/v1/chat/completions",
                    content=f'{{"x": "{PROMPT}',
                    headers={"content-type": "application/json"},
                )
                await client.get(f"/nothing/{CALLERS}")
            service.stop()
            log = service.log
    assert KEY in bad.headers[0]["authorization"]
    assert KEY not in log
    assert CALLERS not in log
    assert PROMPT not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    answers = [line for line in lines if line["logger"] == "service.requests"]
    assert [line["status"] for line in answers] == [200, failed.status_code, 400, 404]
    first = answers[0]
    assert first["request_id"] == "request-of-mine"
    assert first["decision_id"] == got.headers["x-router-decision-id"]
    assert first["model"] == "good"
    assert first["path"] == "/v1/chat/completions"
    assert first["duration_ms"] > 0
    assert answers[3]["path"] == "/nothing/[hidden]"


def test_an_exception_within_a_request_is_logged_without_its_words() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines("%(message)s"))
    log = logging.Logger("apart")
    log.addHandler(handler)
    token = current_request.set("request-1")
    try:
        try:
            raise ValueError(PROMPT)
        except ValueError as error:
            raise KeyError(PROMPT) from error
    except KeyError:
        log.exception("failed")
    finally:
        current_request.reset(token)
    written = stream.getvalue()
    assert "KeyError" in written
    assert "ValueError" in written
    assert "test_log_lines.py" in written
    assert PROMPT not in written


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="BANDIT_ROUTER_LOG=xml: say text or json"):
        set_up_logging({"BANDIT_ROUTER_LOG": "xml"}, io.StringIO())
