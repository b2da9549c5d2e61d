"""Advice on what changed: a model that is no longer what it was, and a challenger on trial."""

from __future__ import annotations

from collections.abc import Sequence

from bandit_router.advice import Advice

# What an alarm of each kind means, and what to do about it; ``{model}`` is filled in.
CHANGES = {
    "quality": (
        "The quality of {model} changed.",
        "Read some of its latest answers (decisions of this model, lowest reward first). Pause it "
        "if they are bad; what was known of it counts little by now, and it wins its place back "
        "as soon as it is good again.",
    ),
    "cost": (
        "What {model} costs changed.",
        "Compare its list price and the length of its answers with what you expect, and correct "
        "the prices in the configuration.",
    ),
    "failure": (
        "{model} fails otherwise than it did.",
        "Look at its latest attempts and their errors, and at its provider's status page.",
    ),
}


def on_changes(alarms: Sequence[tuple[str, str, str]]) -> tuple[Advice, ...]:
    """What to do about models that changed. alarms: kind, model and evidence of those that
    stand; other kinds are passed over."""
    return tuple(
        Advice(
            kind=f"changed_{kind}",
            severity="warning",
            headline=CHANGES[kind][0].format(model=model),
            detail=f"{evidence[0].upper()}{evidence[1:]}.",
            action=CHANGES[kind][1],
        )
        for kind, model, evidence in alarms
        if kind in CHANGES
    )


def on_trial(
    name: str, stage: str, held: str, verdict: str | None, passed: bool
) -> tuple[Advice, ...]:
    """What to do about the challenger on trial. held: why it was sent back, "" if it was not.
    verdict: what the evidence says; passed: whether it carries the next step on."""
    if held:
        return (
            Advice(
                kind="challenger_held",
                severity="warning",
                headline=f"Challenger {name} was sent back to shadow.",
                detail=f"{held[0].upper()}{held[1:]}.",
                action="Abort the trial, or start its canary again once the reason is gone "
                "(bandit-router challengers abort | canary).",
            ),
        )
    if not passed or verdict is None:
        return ()
    following = "promote it" if stage == "canary" else "give it a canary share"
    return (
        Advice(
            kind="challenger_ready",
            severity="notice",
            headline=f"Challenger {name} has passed its {stage}.",
            detail=f"{verdict[0].upper()}{verdict[1:]}.",
            action=f"You may {following}; either step can be taken back.",
        ),
    )
