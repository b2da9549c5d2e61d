"""Where learning stands on a replica, for health, metrics and operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bandit_router.learner import Progress, Quarantined


class Role(StrEnum):
    """leads: folds the log. follows: another replica does. down: its process is not there."""

    LEADS = "leads"
    FOLLOWS = "follows"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Standing:
    """One line's learner on one replica. last_error: None while all is well."""

    role: Role
    last_error: str | None
    progress: Progress
    quarantine: tuple[Quarantined, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this replica is the one that learns."""
        return self.role is Role.LEADS


def told(standing: Standing) -> dict[str, Any]:
    """A standing as JSON can carry it."""
    return asdict(standing)


def heard(values: Mapping[str, Any]) -> Standing:
    """A standing back from what ``told`` made of it."""
    progress = values["progress"]
    return Standing(
        role=Role(values["role"]),
        last_error=values["last_error"],
        progress=Progress(**{**progress, "cursor": tuple(progress["cursor"])}),
        quarantine=tuple(Quarantined(**row) for row in values["quarantine"]),
    )
