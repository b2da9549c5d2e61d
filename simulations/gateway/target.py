"""What a load is sent to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulations.gateway.processes import child_running, cpu_s

LEARNER = "service.learner_process"


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU. server_s: of all processes but Postgres's; learner_s: the part of that
    which is its learner's process's; postgres_s: its Postgres's."""

    server_s: float
    learner_s: float = 0.0
    postgres_s: float = 0.0

    def since(self, before: Cpu) -> Cpu:
        """What was used since then."""
        return Cpu(
            self.server_s - before.server_s,
            self.learner_s - before.learner_s,
            self.postgres_s - before.postgres_s,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load. process_id: with all below it, it is the server; postgres_id: the
    one among these that is counted apart. rated: whether it takes feedback."""

    name: str
    url: str
    process_id: int
    path: str = "/v1/chat/completions"
    model: str = "auto"
    headers: Mapping[str, str] = field(default_factory=dict)
    postgres_id: int | None = None
    rated: bool = False

    def cpu(self) -> Cpu:
        """CPU so far."""
        if self.postgres_id is None:
            return Cpu(cpu_s(self.process_id))
        learner = child_running(self.process_id, LEARNER)
        return Cpu(
            cpu_s(self.process_id, {self.postgres_id}),
            0.0 if learner is None else cpu_s(learner),
            cpu_s(self.postgres_id),
        )
