"""What the service tells the learner's process to do: one line of JSON per change."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from bandit_router.config import RouterConfig
from bandit_router.config_challengers import TrialSetting


@dataclass(frozen=True, slots=True)
class Duty:
    """database_url: with its password, so it goes through a pipe and not on a command line.
    config: under what operators set. prior_digest: of the prior that the service has read, "" for
    none. frozen: the serving policy learns no more. trial: of a challenger, if one is on trial."""

    database_url: str = field(repr=False)
    config: RouterConfig
    prior_digest: str
    frozen: bool
    trial: TrialSetting | None


def line_of_duty(duty: Duty) -> bytes:
    """The duty as a line."""
    trial = duty.trial
    # What nobody set is left out: some parts refuse to be told even the default of an option
    # that is not theirs.
    return orjson.dumps(
        {
            "database_url": duty.database_url,
            "config": duty.config.model_dump(mode="json", exclude_unset=True),
            "prior_digest": duty.prior_digest,
            "frozen": duty.frozen,
            "trial": None if trial is None else trial.model_dump(mode="json", exclude_unset=True),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def duty_of_line(line: bytes) -> Duty:
    """The duty that ``line_of_duty`` wrote."""
    values = orjson.loads(line)
    trial = values["trial"]
    return Duty(
        database_url=values["database_url"],
        config=RouterConfig.model_validate_json(orjson.dumps(values["config"])),
        prior_digest=values["prior_digest"],
        frozen=values["frozen"],
        trial=None if trial is None else TrialSetting.model_validate_json(orjson.dumps(trial)),
    )
