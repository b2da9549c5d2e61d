from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bandit_router.store.group_writer import GroupWriter


@pytest.mark.asyncio
async def test_items_within_the_spacing_share_a_group_and_a_lone_one_does_not_wait() -> None:
    groups: list[list[int]] = []
    loop = asyncio.get_running_loop()

    async def write(group: Sequence[int]) -> list[None]:
        groups.append(list(group))
        return [None] * len(group)

    async with GroupWriter[int, None](write, spacing_s=0.2) as writer:
        begun_s = loop.time()
        await writer.submit(1)
        assert loop.time() - begun_s < 0.1
        later = [asyncio.create_task(writer.submit(number)) for number in (2, 3)]
        await asyncio.sleep(0.05)
        await asyncio.gather(*later, writer.submit(4))
        assert loop.time() - begun_s >= 0.2
    assert groups == [[1], [2, 3, 4]]
