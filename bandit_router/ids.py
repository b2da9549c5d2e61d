"""Decision ids: UUID version 7, whose order is the order in time (RFC 9562, section 5.7)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID


def uuid7(now: datetime, random_bits: int) -> UUID:
    """The id for a moment. random_bits: at least 74 random bits; only the low 74 are used."""
    unix_ms = int(now.timestamp() * 1000.0)
    value = (unix_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= ((random_bits >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits & (2**62 - 1)
    return UUID(int=value)
