"""What follows from how a trial stands: stay, go on, or back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bandit_router.config_challengers import Automatic, Stage, TrialSetting
from bandit_router.trial_evidence import TrialNumbers

# A model that gets so much more of the requests from the challenger is its doing.
LEANS_FROM = 0.05
# Decisions that a challenger could not answer before it is set aside.
MOST_FAILURES = 20


class Step(StrEnum):
    """back: to shadow, and held there. canary, promote: on."""

    STAY = "stay"
    BACK = "back"
    CANARY = "canary"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step, and why, in words. passed: whether the evidence would carry the next step on."""

    step: Step
    reason: str
    passed: bool


def verdict(
    setting: TrialSetting,
    numbers: TrialNumbers,
    alarms: Sequence[tuple[str, str, str]],
    failures: int,
    last_error: str | None,
) -> Verdict:
    """The step to take now.

    alarms: kind, model and evidence of those raised since the canary began. failures: decisions
    that the challenger could not answer in this stage.
    """
    challenger = setting.challenger
    against = _against(setting, numbers, alarms, failures, last_error)
    if against is not None:
        held = setting.stage is Stage.SHADOW and bool(setting.held)
        return Verdict(Step.STAY if held else Step.BACK, against, passed=False)
    if numbers.refused is not None:
        return Verdict(Step.STAY, f"cannot be said yet: {numbers.refused}", passed=False)
    said = (
        f"its mean reward is {numbers.difference:+.3f} beside the champion's, surely between "
        f"{numbers.low:+.3f} and {numbers.high:+.3f}"
    )
    if numbers.low < -challenger.most_loss:
        return Verdict(
            Step.STAY,
            f"not decided yet: {said}; it goes on once it is sure to lose no more than "
            f"{challenger.most_loss:g}",
            passed=False,
        )
    if setting.held:
        return Verdict(Step.STAY, f"{said}; it was sent back and waits to be told", passed=True)
    step = Step.STAY
    if setting.stage is Stage.SHADOW and challenger.automatic is not Automatic.NONE:
        step = Step.CANARY
    elif setting.stage is Stage.CANARY and challenger.automatic is Automatic.PROMOTE:
        step = Step.PROMOTE
    return Verdict(step, said, passed=True)


def _against(
    setting: TrialSetting,
    numbers: TrialNumbers,
    alarms: Sequence[tuple[str, str, str]],
    failures: int,
    last_error: str | None,
) -> str | None:
    """What speaks against the challenger, or None."""
    challenger = setting.challenger
    if failures >= MOST_FAILURES:
        return f"it could not answer {failures} decisions; the last time: {last_error}"
    if numbers.rewards and numbers.high < -challenger.most_loss:
        return (
            f"it is worse: mean reward {numbers.difference:+.3f} beside the champion's, surely "
            f"below {numbers.high:+.3f}, after {numbers.rewards} rewards"
        )
    if numbers.overspend_odds >= 1.0 / challenger.alpha:
        return (
            f"it is over its budget: ${numbers.cost_usd:.3g} a request by its choices (the "
            f"champion: ${numbers.champion_cost_usd:.3g}), at odds of "
            f"{numbers.overspend_odds:,.0f} to 1"
        )
    if setting.stage is Stage.CANARY:
        for kind, model, evidence in alarms:
            lean = numbers.leans.get(model, 0.0)
            if lean >= LEANS_FROM:
                return (
                    f"alarm since its canary began: {kind} of {model}, which it chooses "
                    f"{100 * lean:.0f} percentage points more often than the champion: {evidence}"
                )
    return None
