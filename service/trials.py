"""The steps of a challenger's trial: begin, on to canary, back to shadow, promoted, ended.

Each step is one change of what the database keeps, which every replica follows; two who act at
once do one step. Each has its line in the audit log, the router's own steps too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bandit_router.config_challengers import (
    ChallengerConfig,
    ChampionSetting,
    Stage,
    TrialSetting,
)
from bandit_router.errors import SnapshotError
from bandit_router.learner import without_account
from bandit_router.learning import with_solved_price
from bandit_router.overlay import BUDGET, CHAMPION, TRIAL, overlay_of
from bandit_router.protocols import SnapshotRecord
from bandit_router.router import renamed
from bandit_router.snapshot import from_bytes, to_bytes
from bandit_router.store.audit import AuditEntry, list_audit
from bandit_router.store.trial_store import TrialStore
from service.audited import audited, refused_config
from service.challenge import challenger_parts
from service.errors import Refused

if TYPE_CHECKING:  # the runtime itself starts the watch, which takes steps
    from service.runtime import Runtime

ACTIONS = "challengers."
THE_ROUTER = "router"
NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database keeps now, raw, and what it means."""

    settings: Mapping[str, Any]

    @property
    def trial(self) -> TrialSetting | None:
        """The trial under way."""
        raw = self.settings.get(TRIAL)
        return TrialSetting(**raw) if raw else None

    @property
    def champion(self) -> ChampionSetting | None:
        """The promoted challenger that serves."""
        raw = self.settings.get(CHAMPION)
        return ChampionSetting(**raw) if raw else None


class Trials:
    """Takes steps. ``actor`` is whoever the audit log is to name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def _log(self) -> TrialStore:
        # Doors are built before the runtime has started, and there is no engine yet.
        return TrialStore(self._runtime.engine)

    async def standing(self) -> Standing:
        """What is kept now, whether or not this replica has taken it up yet."""
        return Standing(await self._runtime.live_settings.read())

    async def steps(self, *, limit: int = 50, before: int | None = None) -> tuple[AuditEntry, ...]:
        """The steps so far, newest first."""
        return await list_audit(self._runtime.engine, limit=limit, before=before, action=ACTIONS)

    def declared(self, name: str) -> ChallengerConfig:
        """A challenger of the file. Raises Refused 404."""
        found = {c.name: c for c in self._runtime.config.challengers}
        if name not in found:
            known = ", ".join(found) or "none"
            raise Refused(
                f"no challenger '{name}' is declared; the configuration has {known}: declare it "
                "under [[challengers]], or send it whole to POST /admin/challengers",
                status=404,
                code="challenger_not_found",
                param="name",
            )
        return found[name]

    async def start(self, challenger: ChallengerConfig | str, *, actor: str) -> TrialSetting:
        """Put a challenger, or by its name one of the file, into shadow.

        Raises Refused 409 while another is on trial, or where it does not fit; 404 where it or
        its snapshot is not known.
        """
        whole = {} if isinstance(challenger, str) else challenger.model_dump(mode="json")
        name = challenger if isinstance(challenger, str) else challenger.name
        async with self._step("start", name, actor, {"challenger": whole} if whole else {}):
            if isinstance(challenger, str):
                challenger = self.declared(challenger)
            standing = await self.standing()
            if standing.trial is not None:
                raise Refused(
                    f"'{standing.trial.challenger.name}' is on trial: one at a time; abort or "
                    "promote it first",
                    status=409,
                    code="trial_under_way",
                )
            setting = self._new_trial(challenger, await self._log.end_of_log())
            record = await self._first_snapshot(setting)
            if record is not None:
                await self._runtime.learner_store.write_snapshot(record)
            await self._exchange(TRIAL, standing, {TRIAL: stored(setting)}, actor)
        return setting

    async def move(
        self, stage: Stage, *, actor: str, reason: str, held: bool = False, **numbers: Any
    ) -> TrialSetting:
        """On to canary, or back to shadow. held: so that it goes on only when told to; one in
        shadow can be held there."""
        standing = await self.standing()
        what = "canary" if stage is Stage.CANARY else "rollback"
        async with self._step(what, subject_of(standing), actor, {"reason": reason, **numbers}):
            trial = _under_way(standing)
            if trial.stage is stage and not (held and not trial.held):
                raise Refused(
                    f"'{trial.challenger.name}' is in {stage.value} already",
                    status=409,
                    code="trial_stage",
                )
            moved = trial.model_copy(
                update={
                    "stage": stage,
                    "stage_since": self._runtime.clock.now(),
                    "held": reason if held else "",
                    "held_by_router": held and actor == THE_ROUTER,
                    "cursor": await self._log.end_of_log(),
                }
            )
            await self._exchange(TRIAL, standing, {TRIAL: stored(moved)}, actor)
        return moved

    async def abort(self, *, actor: str, reason: str, **numbers: Any) -> TrialSetting:
        """End the trial; the champion serves alone, as before."""
        standing = await self.standing()
        async with self._step("abort", subject_of(standing), actor, {"reason": reason, **numbers}):
            trial = _under_way(standing)
            await self._exchange(TRIAL, standing, {TRIAL: None}, actor)
        return trial

    async def promote(self, *, actor: str, reason: str, **numbers: Any) -> ChampionSetting:
        """Let the challenger serve. Who served before can be had back by ``go_back``."""
        standing = await self.standing()
        detail = {"was": self._runtime.policy.name, "reason": reason, **numbers}
        async with self._step("promote", subject_of(standing), actor, detail):
            champion = self._champion(standing, _under_way(standing))
            changes = {TRIAL: None, CHAMPION: stored(champion), **dict.fromkeys(champion.replaced)}
            await self._exchange(TRIAL, standing, changes, actor)
        return champion

    async def go_back(self, *, actor: str, reason: str) -> ChampionSetting:
        """Let whoever served before the promoted challenger serve again; returns who goes."""
        standing = await self.standing()
        champion = standing.champion
        subject = NOBODY if champion is None else champion.name
        async with self._step("demote", subject, actor, {"reason": reason}):
            if champion is None:
                raise Refused(
                    "the file's own policy serves: no challenger was promoted that could go back",
                    status=409,
                    code="no_promotion",
                )
            before = None if champion.before is None else stored(champion.before)
            changes = {CHAMPION: before, **champion.replaced}
            await self._exchange(CHAMPION, standing, changes, actor)
        return champion

    def _new_trial(self, challenger: ChallengerConfig, cursor: tuple[int, int]) -> TrialSetting:
        now = self._runtime.clock.now()
        kind = str(challenger.policy.get("name", self._runtime.config.policy.name))
        return TrialSetting(
            challenger=challenger,
            # The moment keeps apart what a challenger of the same name once learned otherwise.
            line=f"{kind}~{challenger.name}-{now:%Y%m%dt%H%M%S}",
            stage=Stage.SHADOW,
            started_at=now,
            stage_since=now,
            cursor=cursor,
        )

    def _champion(self, standing: Standing, trial: TrialSetting) -> ChampionSetting:
        challenger, before = trial.challenger, standing.champion
        replaced = {}
        if "budget_usd_per_request" in challenger.policy and BUDGET in standing.settings:
            replaced[BUDGET] = standing.settings[BUDGET]
        return ChampionSetting(
            name=challenger.name,
            line=trial.line,
            # On top of what a champion before it changed: that is what it was on trial with.
            policy={**(before.policy if before else {}), **challenger.policy},
            exploration={**(before.exploration if before else {}), **challenger.exploration},
            frozen=trial.frozen,
            since=self._runtime.clock.now(),
            before=before,
            replaced=replaced,
        )

    async def _first_snapshot(self, setting: TrialSetting) -> SnapshotRecord | None:
        """A copy of the snapshot that a frozen challenger is, under its own line."""
        runtime, challenger = self._runtime, setting.challenger
        with refused_config():
            _, policy, problem = challenger_parts(runtime, runtime.config, setting)
        if challenger.snapshot is None:
            return None
        line = challenger.snapshot_of or runtime.policy.name
        record = await runtime.learner_store.snapshot(line, challenger.snapshot)
        if record is None:
            raise Refused(
                f"policy '{line}' has no snapshot {challenger.snapshot}, or no longer; GET "
                "/admin/snapshots lists those that are kept",
                status=404,
                code="snapshot_not_found",
                param="snapshot",
            )
        try:
            state = without_account(from_bytes(problem, renamed(policy, line), record.payload))
        except SnapshotError as error:
            raise Refused(
                f"snapshot {record.version}: {error}", status=409, code="snapshot_does_not_fit"
            ) from error
        state = with_solved_price(problem, policy, state)
        return replace(
            record,
            version=1,
            created_at=runtime.clock.now(),
            policy=setting.line,
            reason="challenger",
            payload=to_bytes(problem, policy, state),
        )

    async def _exchange(
        self, name: str, standing: Standing, changes: Mapping[str, Any], actor: str
    ) -> None:
        """Store a step and take it up here. Raises Refused 409 where another was quicker, or
        where the whole would not do, and then nothing is stored."""
        runtime = self._runtime
        with refused_config():
            kept = {**standing.settings, **changes}
            overlay = overlay_of({key: value for key, value in kept.items() if value is not None})
            runtime.check_fits(runtime.live.would_be(overlay), overlay)
        done = await runtime.live_settings.exchange(
            name, standing.settings.get(name), changes, actor=actor
        )
        if not done:
            raise Refused(
                "somebody else took a step of this trial meanwhile: look again, then decide",
                status=409,
                code="trial_moved",
            )
        with refused_config():
            await runtime.live.refresh()

    def _step(
        self, what: str, subject: str, actor: str, detail: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[None]:
        return audited(self._runtime.engine, actor, ACTIONS + what, subject, detail)


def stored(setting: TrialSetting | ChampionSetting) -> dict[str, Any]:
    """A setting as the database keeps it."""
    return setting.model_dump(mode="json")


def subject_of(standing: Standing) -> str:
    """Whom a step concerns, by name."""
    return NOBODY if standing.trial is None else standing.trial.challenger.name


def _under_way(standing: Standing) -> TrialSetting:
    if standing.trial is None:
        raise Refused(
            "no challenger is on trial; POST /admin/challengers starts one",
            status=409,
            code="no_trial",
        )
    return standing.trial
