"""Work that is done behind the arriving bytes keeps their order, frees every block and tells what failed."""

from __future__ import annotations

import asyncio
import time

import pytest

from adapter_registry.api.bulk import Behind


def put_all(work, blocks: list[bytes], *, pause: float = 0.0) -> list[bytes]:
    """What was given back, in order; raises what the work raises."""
    given_back: list[bytes] = []

    async def go() -> None:
        behind = Behind(work, lambda block: given_back.append(bytes(block)))
        try:
            for block in blocks:
                behind.put(memoryview(block))
                await asyncio.sleep(pause)
        finally:
            await behind.finish()
            await asyncio.sleep(0.01)

    asyncio.run(go())
    return given_back


@pytest.mark.parametrize(("pause", "work"), [(0.0, 0.0), (0.0, 0.002), (0.002, 0.0), (0.001, 0.001)])
def test_blocks_are_worked_on_in_order_and_given_back(pause, work):
    done: list[bytes] = []
    blocks = [bytes([i]) for i in range(100)]

    def slowly(block: memoryview) -> None:
        time.sleep(work)
        done.append(bytes(block))

    assert put_all(slowly, blocks, pause=pause) == blocks
    assert done == blocks


def test_nothing_to_do_is_done_at_once():
    assert put_all(lambda _block: None, []) == []


@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_a_failure_is_told_and_ends_the_work(pause):
    seen: list[bytes] = []

    def failing(block: memoryview) -> None:
        seen.append(bytes(block))
        if bytes(block) == b"\x02":
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        put_all(failing, [bytes([i]) for i in range(50)], pause=pause)
    assert seen == [b"\x00", b"\x01", b"\x02"]
