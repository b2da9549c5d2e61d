"""API keys: shown once, stored as a hash, each with scopes and a tenant."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.config_steering import LimitSet
from bandit_router.errors import InvalidRequest
from bandit_router.store.engine import store_errors
from bandit_router.store.tables import api_keys

PREFIX = "br-"
KEY_BYTES = 32


class Scope(StrEnum):
    """What a key may do."""

    ROUTE = "route"
    FEEDBACK = "feedback"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is behind a request."""

    key_id: int
    name: str
    tenant: str
    scopes: frozenset[Scope]
    limits: LimitSet = field(default_factory=LimitSet)

    @property
    def source(self) -> str:
        """Under what its feedback is held against that of others: keys of the same name of two
        tenants are two sources."""
        return self.name if self.tenant == "default" else f"{self.name}@{self.tenant}"

    @property
    def own_tenant(self) -> str | None:
        """Whose decisions it may speak of; None, without a key, means anybody's."""
        return self.tenant if self.key_id else None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed. hint: its first characters, to tell keys apart."""

    id: int
    name: str
    tenant: str
    scopes: frozenset[Scope]
    hint: str
    created_at: datetime
    revoked_at: datetime | None
    limits: LimitSet = field(default_factory=LimitSet)


class ApiKeys:
    """The keys of the store. random_bytes: a source fit for secrets, such as os.urandom."""

    def __init__(self, engine: AsyncEngine, random_bytes: Callable[[int], bytes]) -> None:
        self._engine = engine
        self._random_bytes = random_bytes

    async def create(
        self,
        name: str,
        tenant: str,
        scopes: Collection[Scope],
        limits: LimitSet | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; the clear text is in the answer and nowhere else."""
        secret = base64.urlsafe_b64encode(self._random_bytes(KEY_BYTES)).decode().rstrip("=")
        clear = PREFIX + secret
        values = {
            "name": name,
            "tenant": tenant,
            "scopes": sorted(scope.value for scope in scopes),
            "key_sha256": key_digest(clear),
            "limits": (limits or LimitSet()).model_dump(exclude_none=True),
            "hint": clear[: len(PREFIX) + 4],
        }
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                made = await connection.execute(
                    insert(api_keys)
                    .values(values)
                    .returning(*(column for column in api_keys.c if column.name != "key_sha256"))
                )
                return _api_key(made.one()), clear

    async def verify(self, clear: str) -> Principal | None:
        """Whose key this is; None when it is unknown or revoked."""
        # The hash of a 256-bit random key is looked up directly: it needs no salt, and an
        # index look-up of a hash tells a clock nothing about the key.
        query = select(
            api_keys.c.id, api_keys.c.name, api_keys.c.tenant, api_keys.c.scopes, api_keys.c.limits
        ).where(api_keys.c.key_sha256 == key_digest(clear), api_keys.c.revoked_at.is_(None))
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return Principal(row.id, row.name, row.tenant, _scopes(row.scopes), LimitSet(**row.limits))

    async def revoke(self, key_id: int) -> bool:
        """End a key; False when there is none that still works."""
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                done = await connection.execute(
                    update(api_keys)
                    .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                    .values(revoked_at=func.now())
                )
                return bool(done.rowcount)

    async def list_all(self) -> tuple[ApiKey, ...]:
        """Every key there is or was, oldest first."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(select(api_keys).order_by(api_keys.c.id))
                return tuple(_api_key(row) for row in found)


def key_digest(clear: str) -> bytes:
    """What is stored in place of a key."""
    return hashlib.sha256(clear.encode("utf-8", "replace")).digest()


def _scopes(names: Collection[str]) -> frozenset[Scope]:
    return frozenset(Scope(name) for name in names)


def _api_key(row: object) -> ApiKey:
    values = {name: getattr(row, name) for name in ApiKey.__slots__}
    return ApiKey(
        **{**values, "scopes": _scopes(values["scopes"]), "limits": LimitSet(**values["limits"])}
    )


def limits_from(given: Collection[str]) -> LimitSet:
    """Limits from ``usd_per_day=5`` and the like. Raises InvalidRequest."""
    values = {}
    for item in given:
        name, _, amount = item.partition("=")
        try:
            number = float(amount)
        except ValueError:
            number = -1.0
        if name not in LimitSet.model_fields or number < 0.0:
            raise InvalidRequest(
                f"no limit '{item}': write one of {', '.join(LimitSet.model_fields)} and a "
                "number, such as usd_per_day=5"
            )
        values[name] = number if name.startswith("usd") else int(number)
    return LimitSet(**values)
