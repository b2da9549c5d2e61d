"""What a load is sent to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulations.gateway.processes import cpu_s


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

    def cpu_s(self) -> tuple[float, float]:
        """Seconds of CPU so far: the server's, and its Postgres's."""
        if self.postgres_id is None:
            return cpu_s(self.process_id), 0.0
        return cpu_s(self.process_id, {self.postgres_id}), cpu_s(self.postgres_id)
