"""The learner's process works by the very configuration that the service has."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandit_router.config import RouterConfig
from bandit_router.config_file import load_config
from service.learner_duty import Duty, duty_of_line, line_of_duty

ROOT = Path(__file__).parents[2]
CASCADE = """
[[models]]
name = "small"
provider = "replayed"
path = "recording.jsonl"
[[models]]
name = "large"
provider = "replayed"
path = "recording.jsonl"
[server]
port = 8123
[features]
metadata = ["task"]
[policy]
budget_usd_per_request = 0.001
[tenants.acme]
budget_usd_per_request = 0.002
[cascades.careful]
first = ["small"]
then = ["large"]
[[cascades.careful.checks]]
kind = "regex"
pattern = "never said"
[[cascades.careful.checks]]
kind = "length"
max_characters = 900
"""


def told(config: RouterConfig) -> Duty:
    duty = Duty("postgresql://somewhere", config, "abc", frozen=True, trial=None)
    return duty_of_line(line_of_duty(duty))


def test_a_duty_goes_through_the_pipe_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text(CASCADE)
    config = load_config(path)
    heard = told(config)
    assert heard.config == config
    assert (heard.database_url, heard.prior_digest) == ("postgresql://somewhere", "abc")
    assert heard.frozen


@pytest.mark.parametrize("name", ["router.example.toml", "bandit_router/router.default.toml"])
def test_the_configurations_that_come_with_the_router_do(name: str) -> None:
    config = load_config(ROOT / name)
    assert told(config).config == config
