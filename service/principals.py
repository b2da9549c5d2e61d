"""Who is calling, and whether he may: API keys with scopes, or anyone on loopback."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers

from bandit_router.errors import StoreUnavailable
from bandit_router.protocols import Clock
from bandit_router.store.api_keys import PREFIX, ApiKeys, Principal, Scope, key_digest
from service.errors import Refused

# A revoked key still works for so long.
FRESH_S = 5.0
# A key seen within this time is believed while the database cannot be asked.
BELIEVED_S = 600.0
MOST_KEPT = 10_000

ANONYMOUS = Principal(key_id=0, name="anonymous", tenant="default", scopes=frozenset(Scope))


@dataclass(frozen=True, slots=True)
class _Seen:
    principal: Principal
    at_s: float


class Doorkeeper:
    """Verifies ``Authorization: Bearer br-…``; remembers good keys for a few seconds."""

    def __init__(self, keys: ApiKeys, clock: Clock, *, require_api_key: bool) -> None:
        self._keys = keys
        self._clock = clock
        self._require_api_key = require_api_key
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    async def admit(self, headers: Headers, scope: Scope) -> Principal:
        """The caller. Raises Refused 401 without a valid key, 403 without the scope."""
        if not self._require_api_key:
            return ANONYMOUS
        word, _, clear = headers.get("authorization", "").partition(" ")
        clear = clear.strip()
        if word.lower() != "bearer" or not clear.startswith(PREFIX):
            raise _unauthorised(
                f"no API key: send the header Authorization: Bearer {PREFIX}…, with a key that "
                "`bandit-router keys create` made"
            )
        principal = await self._principal(clear)
        if principal is None:
            raise _unauthorised("this API key is unknown or revoked; ask the operator for another")
        if scope not in principal.scopes:
            held = ", ".join(sorted(principal.scopes)) or "none"
            raise Refused(
                f"key '{principal.name}' has the scopes {held}; this door needs {scope.value}",
                status=403,
                code="insufficient_scope",
                kind="permission_error",
            )
        return principal

    async def _principal(self, clear: str) -> Principal | None:
        digest, now_s = key_digest(clear), self._clock.monotonic_s()
        seen = self._seen.get(digest)
        if seen is not None and now_s - seen.at_s < FRESH_S:
            return seen.principal
        try:
            principal = await self._keys.verify(clear)
        except StoreUnavailable:
            if seen is not None and now_s - seen.at_s < BELIEVED_S:
                return seen.principal
            raise
        self._seen.pop(digest, None)
        if principal is not None:
            self._seen[digest] = _Seen(principal, now_s)
            if len(self._seen) > MOST_KEPT:
                self._seen.popitem(last=False)
        return principal


def _unauthorised(message: str) -> Refused:
    return Refused(
        message,
        status=401,
        code="invalid_api_key",
        kind="authentication_error",
        headers={"www-authenticate": "Bearer"},
    )
