"""Every engine, as a function that opens one in a directory, and what a loop would do for it between passes."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.scrubbing import leaf_range
from dynamo_fast.storage.settings import MIB, StorageSettings
from tests.storage.records import hash_of

WAIT_SECONDS_MAX = 60  # for the disk or the helper process; every wait ends when its condition holds

SMALL = StorageSettings(log_bytes_max=64 * MIB, log_segment_bytes=MIB, write_buffer_bytes_max=64 * MIB, lmdb_map_bytes=1 << 34)


def settings(**changes: Any) -> StorageSettings:
    return StorageSettings(**(vars(SMALL) | changes))


def open_memory(directory: Path, partitions: int) -> Engine:
    return MemoryEngine(partitions=partitions)


def open_lmdb(directory: Path, partitions: int) -> LmdbEngine:
    return LmdbEngine(directory, Disk(), SMALL, partitions=partitions)


def open_moving(directory: Path, partitions: int) -> LmdbEngine:
    """One that moves every record to LMDB as soon as it can."""
    return LmdbEngine(directory, Disk(), settings(checkpoint_fill=0.0), partitions=partitions)


ENGINES: dict[str, Callable[[Path, int], Engine]] = {"memory": open_memory, "lmdb": open_lmdb, "lmdb-moving": open_moving}


def remove_partition(engine: Engine, partition: int, batch: int) -> Iterator[int]:
    """Removes what a partition holds, so many records a pass; yields after each pass how many are gone."""
    start, end = leaf_range(partition, 0, engine.forest.partitions, 1)
    removed = 0
    while page := engine.scan(start, end, batch):
        for key, stored in page:
            assert engine.delete(key, hash_of(stored))
        removed += len(page)
        turn(engine)
        yield removed


def turn(engine: Engine) -> None:
    """The end of a pass, and a tick of the maintenance with its jobs done."""
    engine.flush()
    tick(engine)


def tick(engine: Engine) -> None:
    if isinstance(engine, LmdbEngine):
        for job in engine.tick():
            try:
                job()
            except OSError as error:
                engine.postpone(error)


def settle(engine: LmdbEngine) -> None:
    """Ticks until nothing more is to be moved to LMDB."""
    for _ in range(100_000):
        tick(engine)
        if not engine.checkpoints.under_way and not engine.checkpoints.due(engine):
            return
        wait_for_something(engine)
    raise AssertionError("checkpoints did not come to an end")


def wait_for_something(engine: LmdbEngine) -> None:
    """Until what the checkpoint under way waits for has happened: the helper's answer, or a sync of the log."""
    checkpoints, process = engine.checkpoints, engine.checkpoints.mover._process
    if checkpoints._asked and process is not None and process.stdout is not None:
        descriptor = process.stdout.fileno()
    elif checkpoints.under_way and engine.durable < checkpoints._frozen_at and engine.sync_fileno() is not None:
        descriptor = engine.sync_fileno()
    else:
        return
    assert select.select([descriptor], [], [], WAIT_SECONDS_MAX)[0], "neither the helper process nor the disk has answered"
    if descriptor == engine.sync_fileno():
        engine.sync_done()
