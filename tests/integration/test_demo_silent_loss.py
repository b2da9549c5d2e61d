"""``bandit-router demo --silent-loss``, and what the service behind it says of the loss."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from demo_process import demo, lines_until

MODEL = "mistralai/mistral-large-2512"
PROGRAM = [sys.executable, "-c", "from bandit_router.cli import main; main()"]


def test_a_silent_loss_in_the_demo_is_noticed_advised_on_and_rolled_back(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    arguments = ("--silent-loss", "--requests", "500", "--seed", "4", "--json", str(path))
    with demo(*arguments, "--keep-serving") as process:
        lines = lines_until(process, "until you press Ctrl-C")
        report = json.loads(path.read_text())
        url = report["url"]

        def got(door: str) -> Any:
            answer = httpx.get(f"{url}/admin{door}", trust_env=False, timeout=10.0)
            assert answer.status_code == 200, answer.text
            return answer.json()

        alarms = {(a["kind"], a["subject"]): a["evidence"] for a in got("/alarms")["alarms"]}
        advice = {entry["kind"]: entry for entry in got("/stats/advice")["advice"]}
        trials = got("/challengers")
        breakers = {model["breaker"]["state"] for model in got("/models")["models"]}
        listed = subprocess.run(
            [*PROGRAM, "challengers", "list", "--url", url],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
    assert process.returncode == 0

    assert breakers == {"closed"}
    assert report["log"]["complete"]
    assert alarms["quality", MODEL].startswith("quality is lower than it was: odds of ")
    assert advice["changed_quality"]["headline"] == f"The quality of {MODEL} changed."
    assert advice["challenger_held"]["headline"].startswith("Challenger always-mistral was sent")

    trial = trials["trial"]
    assert (trial["stage"], trial["held_by_router"]) == ("shadow", True)
    steps = [
        (step["action"].removeprefix("challengers."), step["actor"]) for step in trials["steps"]
    ]
    assert [step for step, _ in steps] == ["rollback", "canary", "start"]
    assert [actor == "router" for _, actor in steps] == [True, False, False]
    assert "sent back: " in listed
    assert trial["held"] in listed

    told, output = report["silent_loss"], "\n".join(lines)
    assert (told["model"], told["lost_after"]) == (MODEL, 250)
    assert 0 < told["alarm"]["of_model"] <= told["alarm"]["requests"] <= 250
    assert told["rollback"]["said"] == trial["held"]
    assert told["share_after"] < told["share_before"]
    assert [headline for headline, _, _ in told["advice"]] == [
        advice["changed_quality"]["headline"],
        advice["challenger_held"]["headline"],
    ]
    for said in (told["alarm"]["said"], trial["held"], advice["changed_quality"]["action"]):
        assert said in output
