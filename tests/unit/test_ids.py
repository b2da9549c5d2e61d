from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import numpy as np

from bandit_router.ids import uuid7

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_example_of_the_rfc() -> None:
    # RFC 9562, appendix A.6: 2022-02-22 14:22:22 in UTC-5, rand_a CC3, rand_b 18C4DC0C0C07398F.
    moment = datetime.fromtimestamp(0x017F22E279B0 / 1000, UTC)
    random_bits = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert str(uuid7(moment, random_bits)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_version_and_variant_stand_whatever_the_random_bits() -> None:
    for random_bits in (0, 2**74 - 1, 2**128 - 1):
        made = uuid7(NOON, random_bits)
        assert made.version == 7
        assert made.variant == RFC_4122


def test_ids_sort_as_their_moments_do() -> None:
    rng = np.random.default_rng(0)
    ids = [
        uuid7(NOON + timedelta(milliseconds=step), int.from_bytes(rng.bytes(10), "big"))
        for step in range(200)
    ]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
