"""What changed in the beliefs between two snapshots of a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bandit_router.inspection import arm_reports, typical_request
from bandit_router.learning import LearnedState, Problem, predict
from bandit_router.policies import Policy

COEFFICIENTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Change:
    """One number before and after; None where one side does not have it."""

    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class CoefficientChange:
    """One weight before and after. sds: how many of its standard deviations it moved."""

    feature: str
    before: float
    after: float
    sds: float


@dataclass(frozen=True, slots=True)
class ArmChange:
    """One model. quality, cost_usd, latency_s: for one and the same request, the typical one
    of the later snapshot where both have the same coordinates, else each snapshot's own."""

    model: str
    quality: Change
    quality_sd: Change
    effective_sample_size: Change
    cost_usd: Change
    latency_s: Change
    pulls: Change
    coefficients: tuple[CoefficientChange, ...]


@dataclass(frozen=True, slots=True)
class SnapshotDiff:
    """same_coordinates: whether coefficients can be compared one by one; a fit from the log
    learns coordinates anew."""

    same_coordinates: bool
    price_of_dollar: Change
    account_usd: Change
    rewards: Change
    models: tuple[ArmChange, ...]


def diff(
    problem: Problem, policy: Policy[Any], before: LearnedState, after: LearnedState
) -> SnapshotDiff:
    """Both states are of this problem and policy."""
    same = (
        before.basis.names == after.basis.names
        and bool((before.basis.shift == after.basis.shift).all())
        and bool((before.basis.matrix == after.basis.matrix).all())
    )
    z_after = typical_request(after)
    z_before = z_after if same else typical_request(before)
    (was, was_expected), (now, now_expected) = (
        predict(problem, policy, state, z, 0.0)
        for state, z in ((before, z_before), (after, z_after))
    )
    reports = zip(
        arm_reports(problem, policy, before), arm_reports(problem, policy, after), strict=True
    )
    changes = []
    for k, (old, new) in enumerate(reports):
        moved = []
        if same:
            for was_c, now_c in zip(old.coefficients, new.coefficients, strict=True):
                sd = max((was_c.high - was_c.low) / (2 * 1.96), 1e-12)
                moved.append(
                    CoefficientChange(
                        was_c.feature, was_c.mean, now_c.mean, (now_c.mean - was_c.mean) / sd
                    )
                )
            moved = [c for c in moved if c.before != c.after]
            moved.sort(key=lambda c: -abs(c.after - c.before))
        changes.append(
            ArmChange(
                model=old.model,
                quality=Change(float(was.mean[k]), float(now.mean[k])),
                quality_sd=Change(float(was.sd[k]), float(now.sd[k])),
                effective_sample_size=Change(old.effective_sample_size, new.effective_sample_size),
                cost_usd=Change(float(was_expected.cost_usd[k]), float(now_expected.cost_usd[k])),
                latency_s=Change(
                    float(was_expected.latency_s[k]), float(now_expected.latency_s[k])
                ),
                pulls=Change(float(before.pulls[k]), float(after.pulls[k])),
                coefficients=tuple(moved[:COEFFICIENTS_SHOWN]),
            )
        )
    return SnapshotDiff(
        same_coordinates=same,
        price_of_dollar=Change(before.pacer.price_of_dollar, after.pacer.price_of_dollar),
        account_usd=Change(before.pacer.account_usd, after.pacer.account_usd),
        rewards=Change(float(before.rewards.sum()), float(after.rewards.sum())),
        models=tuple(changes),
    )
