from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bandit_router.store.group_writer import GroupWriter

SPACING_S = 0.2


class Groups:
    """Remembers what was written together, and when."""

    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.begun_s: list[float] = []

    async def write(self, group: Sequence[int]) -> list[None]:
        self.written.append(list(group))
        self.begun_s.append(asyncio.get_running_loop().time())
        return [None] * len(group)


@pytest.mark.asyncio
async def test_after_a_group_of_several_the_next_waits_for_its_time_and_grows() -> None:
    groups = Groups()
    async with GroupWriter[int, None](groups.write, spacing_s=SPACING_S) as writer:
        await asyncio.gather(writer.submit(1), writer.submit(2))
        third = asyncio.create_task(writer.submit(3))
        await asyncio.sleep(SPACING_S / 4)
        await asyncio.gather(third, writer.submit(4))
    assert groups.written == [[1, 2], [3, 4]]
    assert groups.begun_s[1] - groups.begun_s[0] >= SPACING_S


@pytest.mark.asyncio
async def test_one_caller_alone_does_not_wait_unless_nobody_minds() -> None:
    for eager in (True, False):
        groups = Groups()
        async with GroupWriter[int, None](groups.write, spacing_s=SPACING_S, eager=eager) as writer:
            await writer.submit(1)
            await writer.submit(2)
        assert (groups.begun_s[1] - groups.begun_s[0] < SPACING_S) == eager
