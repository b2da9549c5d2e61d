"""What this replica may still send to models with a rate limit, out of slices leased to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bandit_router.config import ModelConfig
from bandit_router.protocols import Clock

# A slice is at least this share of the minute's limit, and room for whatever was asked for in
# vain since the one before: a few replicas can hold one each, and a burst gets what is left.
SLICE_SHARE = 0.05
# A lease is renewed so long before its end, so that there is always one in use.
RENEW_S = 1.5
# An upstream without a limit on one of the two is given this much of it: never the bound.
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Need:
    """What to lease for a model. per_minute: (requests, tokens) over all replicas."""

    model: str
    requests: int
    tokens: int
    per_minute: tuple[int, int]


@dataclass(slots=True)
class _Stock:
    requests_per_minute: int
    tokens_per_minute: int
    requests: int = 0
    tokens: int = 0
    expires_s: float = -math.inf
    lease_id: int | None = None
    # The largest request that the stock could not serve since the last lease.
    wanting_tokens: int = 0
    # How many those were, in requests and in tokens.
    refused_requests: int = 0
    refused_tokens: int = 0

    @property
    def per_minute(self) -> tuple[int, int]:
        return self.requests_per_minute, self.tokens_per_minute

    @property
    def slice_requests(self) -> int:
        return max(1, math.ceil(self.requests_per_minute * SLICE_SHARE))

    @property
    def slice_tokens(self) -> int:
        return max(1, math.ceil(self.tokens_per_minute * SLICE_SHARE))


@dataclass(frozen=True, slots=True)
class Unused:
    """What is left of a lease that has come to its end, to be given back."""

    model: str
    lease_id: int
    requests: int
    tokens: int


class UpstreamLimits:
    """Counts down the slices; ``short`` is called when a model's stock runs low.

    Nothing here waits or asks the database: whoever leases hands the slices in.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        clock: Clock,
        short: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self.short = short
        self._stocks: dict[str, _Stock] = {}
        self._left: list[Unused] = []
        self.follow(models)

    def follow(self, models: Mapping[str, ModelConfig]) -> None:
        """Keep the limits of these models from now on; slices under other limits go back."""
        before, self._stocks = self._stocks, {}
        for name, model in models.items():
            if model.rpm is None and model.tpm is None:
                continue
            stock = _Stock(model.rpm or UNLIMITED, model.tpm or UNLIMITED)
            old = before.get(name)
            if old is not None and old.per_minute == stock.per_minute:
                stock = before.pop(name)
            self._stocks[name] = stock
        for name, stock in before.items():
            self._left += self._emptied(name, stock)
        self.short()

    def holds(self, model: str) -> bool:
        """Whether the model has a limit at all."""
        return model in self._stocks

    def admits(self, model: str, tokens: int) -> bool:
        """Whether a request of so many tokens may be sent just now."""
        stock = self._stocks.get(model)
        if stock is None:
            return True
        enough = self._enough(stock, tokens)
        if not enough:
            self._want(stock, tokens)
        return enough

    def take(self, model: str, tokens: int) -> Grant | None:
        """Use up a request and its tokens; None where they are not there."""
        stock = self._stocks.get(model)
        if stock is None:
            return FREE
        if not self._enough(stock, tokens):
            self._want(stock, tokens)
            return None
        tokens = min(tokens, stock.tokens_per_minute)
        stock.requests -= 1
        stock.tokens -= tokens
        if 2 * stock.requests < stock.slice_requests or 2 * stock.tokens < stock.slice_tokens:
            self.short()
        return Grant(stock, tokens)

    def ended(self, *, everything: bool = False) -> list[Unused]:
        """The leases that are over, with what is left of them; they are then gone."""
        now_s = self._clock.monotonic_s()
        found, self._left = self._left, []
        for name, stock in self._stocks.items():
            if everything or now_s >= stock.expires_s:
                found += self._emptied(name, stock)
        return found

    def needs(self) -> list[Need]:
        """What to lease now: a slice for every model that runs low or whose lease ends soon."""
        soon_s = self._clock.monotonic_s() + RENEW_S
        return [
            Need(
                name,
                min(stock.slice_requests + stock.refused_requests, stock.requests_per_minute),
                min(stock.slice_tokens + stock.refused_tokens, stock.tokens_per_minute),
                stock.per_minute,
            )
            for name, stock in self._stocks.items()
            if stock.expires_s <= soon_s or self._low(stock)
        ]

    def lease(
        self, model: str, lease_id: int, requests: int, tokens: int, for_s: float
    ) -> list[Unused]:
        """Take a slice into use; returns what is left of the one before it."""
        stock = self._stocks.get(model)
        if stock is None:
            # It went while the lease was on its way.
            return [Unused(model, lease_id, requests, tokens)]
        unused = self._emptied(model, stock)
        stock.requests, stock.tokens = requests, tokens
        stock.lease_id = lease_id
        stock.expires_s = self._clock.monotonic_s() + for_s
        stock.wanting_tokens = stock.refused_requests = stock.refused_tokens = 0
        return unused

    def left(self, model: str) -> dict[str, int | None] | None:
        """Requests and tokens that this replica may send before it leases more, None for one
        that has no limit; None for a model without limits."""
        stock = self._stocks.get(model)
        if stock is None:
            return None
        fresh = self._clock.monotonic_s() < stock.expires_s
        limits = {"requests": stock.requests_per_minute, "tokens": stock.tokens_per_minute}
        left = {"requests": stock.requests, "tokens": stock.tokens}
        return {
            what: None if most == UNLIMITED else (left[what] if fresh else 0)
            for what, most in limits.items()
        }

    @staticmethod
    def _emptied(model: str, stock: _Stock) -> list[Unused]:
        if stock.lease_id is None:
            return []
        # Tokens may be overdrawn: then the lease is charged more than it was given.
        unused = Unused(model, stock.lease_id, stock.requests, stock.tokens)
        stock.requests = stock.tokens = 0
        stock.lease_id, stock.expires_s = None, -math.inf
        return [unused]

    def _enough(self, stock: _Stock, tokens: int) -> bool:
        fresh = self._clock.monotonic_s() < stock.expires_s
        # A request larger than a minute's tokens may go when a whole minute is free.
        needed = min(tokens, stock.tokens_per_minute)
        return fresh and stock.requests >= 1 and stock.tokens >= needed

    def _low(self, stock: _Stock) -> bool:
        return (
            2 * stock.requests < stock.slice_requests
            or 2 * stock.tokens < stock.slice_tokens
            or stock.tokens < stock.wanting_tokens
            or stock.refused_requests > 0
        )

    def _want(self, stock: _Stock, tokens: int) -> None:
        stock.wanting_tokens = max(stock.wanting_tokens, min(tokens, stock.tokens_per_minute))
        stock.refused_requests += 1
        stock.refused_tokens += tokens
        self.short()


class Grant:
    """A request that was let through; settled once, when its tokens are known."""

    def __init__(self, stock: _Stock | None, tokens: int) -> None:
        self._stock = stock
        self._lease_id = None if stock is None else stock.lease_id
        self._tokens = tokens

    def settle(self, used_tokens: int | None) -> None:
        """Correct the tokens by what was really used; None leaves them as reserved."""
        stock, self._stock = self._stock, None
        if stock is None or used_tokens is None:
            return
        saved = self._tokens - used_tokens
        # Of a lease that has ended the account is closed: what it reserved in vain stays counted,
        # what was used beyond is taken from the one in use.
        if stock.lease_id == self._lease_id or saved < 0:
            stock.tokens += saved


# For a model without limits.
FREE = Grant(None, 0)
