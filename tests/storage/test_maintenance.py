"""The task that maintains an engine: it moves, syncs and deletes by itself, sleeps when idle, and outlives a full disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import ReadOnlyError
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from tests.storage.disks import Full
from tests.storage.engines import WAIT_SECONDS_MAX, settings
from tests.storage.records import HIGHEST, LOWEST, hash_of, record, store_key

PARTITIONS = 64


async def until(condition: Callable[[], bool]) -> None:
    """Looks again and again, since what is waited for happens in threads and processes."""
    with trio.fail_after(WAIT_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 -- nobody in this process could set an event
            await trio.sleep(0.005)


def test_it_moves_syncs_and_deletes(tmp_path: Path) -> None:
    bounds = settings(checkpoint_fill=0.1, log_bytes_max=1 << 20, log_segment_bytes=50_000, sync_seconds=0.05)
    engine = LmdbEngine(tmp_path, Disk(), bounds, partitions=PARTITIONS)
    model: dict[bytes, bytes] = {}
    rng = random.Random(1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, trio.to_thread.run_sync)
            for version in range(4000):
                number = rng.randrange(500)
                key, stored = store_key(number), record(number, version, 100)
                engine.put(key, stored, hash_of(model.get(key)))
                model[key] = stored
                engine.flush()
                await trio.lowlevel.checkpoint()
                if engine.fullness == 2:
                    await until(lambda: engine.fullness < 2)
            await until(lambda: engine.durable == engine.position and not engine.checkpoints.due(engine))
            assert engine.statistics()["records_moved"] != 0
            # Segments go with a tick after the one that hears that all is moved.
            await until(lambda: engine.statistics()["log_bytes"] < engine.position)  # type: ignore[operator]
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert engine.scan(LOWEST, HIGHEST, 1000) == sorted(model.items())
    engine.close()


def test_an_idle_engine_rests_until_a_write(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, Disk(), settings(sync_seconds=0.0), partitions=PARTITIONS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, trio.to_thread.run_sync)
            await until(lambda: engine.tick_ns.count > 0 and engine.resting)
            await trio.testing.wait_all_tasks_blocked(0.1)
            ticks = engine.tick_ns.count
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert engine.tick_ns.count == ticks, "a resting engine does not tick"
            engine.put(store_key(1), record(1, 1))
            engine.flush()
            await until(lambda: engine.durable == engine.position)
            nursery.cancel_scope.cancel()

    trio.run(main)
    engine.close()


def test_it_retries_when_a_disk_has_room_again(tmp_path: Path) -> None:
    disk = Full(5000)
    engine = LmdbEngine(tmp_path, disk, settings(checkpoint_fill=9.0), partitions=PARTITIONS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, trio.to_thread.run_sync)
            for number in range(4):
                engine.put(store_key(number), record(number, 0, 2000))
            with pytest.raises(ReadOnlyError, match="No space left"):
                engine.flush()
            await trio.lowlevel.checkpoint()
            assert engine.read_only is not None
            disk.room = 1 << 30
            await until(lambda: engine.read_only is None)
            nursery.cancel_scope.cancel()

    trio.run(main)
    engine.close()


def test_a_memory_engine_has_nothing_to_do() -> None:
    engine = MemoryEngine()

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await engine.run(trio.to_thread.run_sync)
        assert scope.cancelled_caught

    trio.run(main)
