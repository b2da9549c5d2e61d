"""Challengers: policies on trial beside the one that serves, and the one that won."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from bandit_router.config_base import Section, Share

ChallengerName = Annotated[str, Field(max_length=60, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
LineName = Annotated[str, Field(max_length=200, pattern=r"^[a-z0-9][a-z0-9_.~-]*$")]


class Stage(StrEnum):
    """How far a trial has come. shadow: asked, never followed. canary: has a share of requests."""

    SHADOW = "shadow"
    CANARY = "canary"


class Automatic(StrEnum):
    """How far a trial may go on by itself; back it always may."""

    NONE = "none"
    CANARY = "canary"
    PROMOTE = "promote"


class ChallengerConfig(Section):
    """One ``[[challengers]]`` table: what it has otherwise than the policy that serves.

    policy, exploration: keys of those sections that differ. snapshot: be this version of what
    ``snapshot_of`` (by default the serving policy) learned, and learn no more. sampled: share of
    decisions that it is asked about in shadow. share: of requests in canary. most_loss: reward
    that it may lose against the champion. alpha: chance of a wrong verdict over the whole trial.
    """

    name: ChallengerName
    policy: dict[str, Any] = Field(default_factory=dict)
    exploration: dict[str, Any] = Field(default_factory=dict)
    snapshot: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    snapshot_of: LineName | None = None
    sampled: Annotated[float, Field(gt=0, le=1)] = 1.0
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    most_loss: Share = 0.02
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    automatic: Automatic = Automatic.NONE


class TrialSetting(Section):
    """The trial under way, as the database keeps it.

    line: the name under which what the challenger learns is stored, and by which decisions
    name it. held: why it was sent back; it goes on then only when told to. "" is free.
    held_by_router: whether no operator said so. cursor: where the log of rewards and outcomes
    ended when the stage began.
    """

    challenger: ChallengerConfig
    line: LineName
    stage: Stage
    started_at: datetime
    stage_since: datetime
    held: str = ""
    held_by_router: bool = False
    cursor: tuple[int, int] = (0, 0)

    @property
    def frozen(self) -> bool:
        """Whether it learns nothing."""
        return self.challenger.snapshot is not None

    @property
    def share(self) -> float:
        """Of the requests that it chooses for."""
        return self.challenger.share if self.stage is Stage.CANARY else 0.0


class ChampionSetting(Section):
    """A challenger that was promoted: what it lays over the file's policy.

    before: who served before it; None is the file's policy. replaced: settings of operators
    that its promotion took away, brought back when it goes.
    """

    name: ChallengerName
    line: LineName
    policy: dict[str, Any]
    exploration: dict[str, Any]
    frozen: bool
    since: datetime
    before: ChampionSetting | None = None
    replaced: dict[str, Any] = Field(default_factory=dict)
