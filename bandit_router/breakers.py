"""Which models and keys are left alone after failing, and how reliable each model has been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandit_router.circuit import BreakerSettings, Circuit, CircuitState, CircuitView
from bandit_router.config import ModelConfig
from bandit_router.errors import ProviderError
from bandit_router.protocols import Clock
from bandit_router.types import FAULTS, MODEL_NOT_FOUND

# Weight of the newest attempt in the success rate: about the last twenty attempts count.
RELIABILITY_STEP = 0.05
RELIABILITY_OF_UNTRIED = 1.0


def counts_against_model(error: ProviderError) -> bool:
    """Whether a failure says something about the model, not about the request."""
    return error.status in FAULTS or error.http_status == MODEL_NOT_FOUND


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """A model's breaker and its key's, for whoever looks. key: None where it needs no key."""

    model: CircuitView
    key: CircuitView | None
    reliability: float

    @property
    def state(self) -> CircuitState:
        """The worse of the two."""
        return self._worse().state

    @property
    def reason(self) -> str | None:
        """Why it is not closed, the key's reason first; None while closed."""
        return self._worse().reason

    def _worse(self) -> CircuitView:
        if self.key is not None and self.key.state is not CircuitState.CLOSED:
            return self.key
        return self.model


class Breakers:
    """One circuit per model, and one per API key that several models may share.

    A refused or exhausted key opens the key's circuit at once, and so rests every model that
    shows it; any other fault counts against the model alone. State of one process; only the
    handed-in clock is read.
    """

    def __init__(
        self, models: Mapping[str, ModelConfig], settings: BreakerSettings, clock: Clock
    ) -> None:
        self._models = models
        self._settings = settings
        self._clock = clock
        self._circuits: dict[str, Circuit] = {}
        self._keys: dict[tuple[str, str], Circuit] = {}
        self._reliability: dict[str, float] = {}

    def begin(self, model: str) -> BreakerCall:
        """Note that a call begins; it counts as a probe where the breaker is half open."""
        return BreakerCall(self, model, self._clock, self._of(model))

    def state(self, model: str) -> CircuitState:
        """The worse of the model's own state and its key's."""
        now_s = self._clock.monotonic_s()
        states = {circuit.state(now_s) for circuit in self._of(model)}
        for state in (CircuitState.OPEN, CircuitState.HALF_OPEN):
            if state in states:
                return state
        return CircuitState.CLOSED

    def is_closed(self, model: str) -> bool:
        """Whether nothing speaks against the model."""
        return all(circuit.is_closed for circuit in self._of(model))

    def admits(self, model: str, uniform: float) -> bool:
        """Whether a decision may choose the model. uniform: in [0, 1), fixed by the decision;
        it picks the share of decisions that may probe a half-open breaker."""
        now_s = self._clock.monotonic_s()
        return all(circuit.admits(now_s, uniform) for circuit in self._of(model))

    def reliability(self, model: str) -> float:
        """Success rate in [0, 1] of about the last twenty attempts; 1 for an untried model."""
        return self._reliability.get(model, RELIABILITY_OF_UNTRIED)

    def health(self, model: str) -> ModelHealth:
        """Everything known of a model's breakers."""
        now_s = self._clock.monotonic_s()
        own, *shared = self._of(model)
        return ModelHealth(
            model=own.view(now_s),
            key=shared[0].view(now_s) if shared else None,
            reliability=self.reliability(model),
        )

    def trip(self, model: str, reason: str, for_s: float) -> None:
        """Open a model's breaker by hand."""
        self._of(model)[0].open_for(self._clock.monotonic_s(), for_s, reason)

    def reset(self, model: str) -> None:
        """Close a model's breaker, and its key's, by hand."""
        for circuit in self._of(model):
            circuit.close()

    def note(self, model: str, *, failed: bool) -> None:
        """Move the model's success rate."""
        target = 0.0 if failed else 1.0
        known = self.reliability(model)
        self._reliability[model] = known + RELIABILITY_STEP * (target - known)

    def _of(self, model: str) -> tuple[Circuit, ...]:
        """The model's own circuit, then its key's, if it has one."""
        own = self._circuits.get(model)
        if own is None:
            own = self._circuits[model] = Circuit(self._settings)
        config = self._models.get(model)
        if config is None or config.api_key_env is None:
            return (own,)
        # Two upstreams may be given the same variable; what one refuses the other may take.
        shown_to = (config.api_key_env, config.base_url or "")
        shared = self._keys.get(shown_to)
        if shared is None:
            shared = self._keys[shown_to] = Circuit(self._settings)
        return (own, shared)


class BreakerCall:
    """One call as the breakers see it; the first of its ends counts, later ones do not."""

    def __init__(
        self, breakers: Breakers, model: str, clock: Clock, circuits: tuple[Circuit, ...]
    ) -> None:
        self._breakers = breakers
        self._model = model
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._circuits = circuits
        self._probed = tuple(c for c in circuits if c.begin_probe(self._began_s))
        self._ended = False

    def succeed(self) -> None:
        """The model answered: the circuits close, if they opened before the call began."""
        if not self._end():
            return
        self._breakers.note(self._model, failed=False)
        for circuit in self._circuits:
            circuit.succeeded(self._clock.monotonic_s(), self._began_s)

    def fail(self, error: ProviderError) -> None:
        """The model failed; failures that are the request's own fault are passed over."""
        if not self._end() or not counts_against_model(error):
            return
        self._breakers.note(self._model, failed=True)
        own, *shared = self._circuits
        reason, hint_s = f"{error.status.value}: {error}", error.retry_after_s
        if error.key_at_fault and shared:
            shared[0].failed(self._clock.monotonic_s(), self._began_s, reason, hint_s, fatal=True)
        else:
            own.failed(self._clock.monotonic_s(), self._began_s, reason, hint_s)

    def leave(self) -> None:
        """The caller went away: nothing was learned of the model."""
        self._end()

    def _end(self) -> bool:
        if self._ended:
            return False
        self._ended = True
        for circuit in self._probed:
            circuit.end_probe()
        return True
