"""The task that does for an engine what may wait: it ticks while there is something to do, and sleeps while there is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from dynamo_fast.storage.lmdb_engine import LmdbEngine

TICK_SECONDS = 0.02  # how late a checkpoint's next step may be


async def maintain(engine: LmdbEngine, offload: Callable[..., Awaitable[object]]) -> None:
    """Until cancelled. A job that the disk refuses is offered again by a later tick."""
    while True:
        for job in engine.tick():
            try:
                await offload(job)
            except OSError as error:
                engine.postpone(error)
        if engine.resting:
            await engine.wait_for_write()
        else:
            await trio.sleep(TICK_SECONDS)
