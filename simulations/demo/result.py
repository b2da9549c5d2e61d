"""The end of a demo in numbers, and in the keys of its JSON report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simulations.demo.audit import Audit
from simulations.demo.silent_loss import Noticed
from simulations.demo.tally import Answered, Contest, Line, Window

STATIC_MIX = "static_mix"


@dataclass(frozen=True, slots=True)
class Standing:
    """The router and its yardsticks over the same requests."""

    requests: int
    router: Line
    yardsticks: Mapping[str, Line]

    @property
    def saving(self) -> float:
        """The share of always-best's dollars that the router did not spend."""
        return 1.0 - self.router.cost_usd / self.yardsticks["always_best"].cost_usd

    def ahead_of(self, yardstick: str) -> float:
        """The router's mean quality less the yardstick's."""
        return self.router.quality - self.yardsticks[yardstick].quality


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run. later: the second half alone, when the start from nothing lies behind.

    overhead_s: median time that the service added to a request, by its own word. noticed: what
    became of a silent loss, None where none was put in.
    """

    models: tuple[str, ...]
    budget_usd: float
    seed: int
    seconds: float
    whole: Standing
    later: Standing
    windows: tuple[Window, ...]
    overhead_s: float
    unjudged: int
    audit: Audit
    noticed: Noticed | None = None

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        return {
            "requests": self.whole.requests,
            "models": list(self.models),
            "budget_usd": self.budget_usd,
            "seed": self.seed,
            "seconds": self.seconds,
            **self._standing(self.whole),
            "later_half": {"requests": self.later.requests, **self._standing(self.later)},
            "windows": [
                {
                    "first": window.first,
                    "last": window.last,
                    "router": self._line(window.router),
                    "baselines": {k: self._line(v) for k, v in window.yardsticks.items()},
                }
                for window in self.windows
            ],
            "median_overhead_ms": 1000.0 * self.overhead_s,
            "unjudged": self.unjudged,
            "log": {**asdict(self.audit), "complete": self.audit.complete},
            "silent_loss": self.noticed and asdict(self.noticed),
        }

    def _standing(self, standing: Standing) -> dict[str, Any]:
        count = standing.requests
        return {
            "router": self._line(standing.router, count),
            "baselines": {k: self._line(v, count) for k, v in standing.yardsticks.items()},
            "saving_against_always_best": standing.saving,
        }

    def _line(self, line: Line, requests: int | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {"quality": line.quality, "cost_usd": line.cost_usd}
        if requests is not None:
            told["total_usd"] = requests * line.cost_usd
        return {**told, "shares": dict(zip(self.models, line.shares, strict=True))}


def standing(contest: Contest, answered: Sequence[Answered]) -> Standing:
    """The router beside its yardsticks on the prompts of these requests."""
    rows = [a.row for a in answered]
    router = contest.router(answered)
    # Cheapest, best and the mix as one would have had them on these very prompts.
    there = Contest.on(contest.matrix.rows(np.asarray(rows, dtype=np.int64)))
    mix = there.static_mix(router.cost_usd)
    return Standing(len(rows), router, {**there.yardsticks(), STATIC_MIX: mix})
