"""Disks that are full, fail, or take a few bytes at a time: writes are refused with a reason, reads go on, nothing acknowledged is lost."""

from __future__ import annotations

import errno
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import ReadOnlyError, StorageError
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.settings import MIB
from tests.storage.disks import Failing, Full, Grudging
from tests.storage.engines import settings, settle, tick, wait_for_something
from tests.storage.records import HIGHEST, LOWEST, forest_of, hash_of, record, roots, store_key

PARTITIONS = 64
SMALL_LOG = settings(log_segment_bytes=2500, checkpoint_fill=9.0)


def put_until_refused(
    engine: LmdbEngine, model: dict[bytes, bytes], puts: int, value_bytes: int = 200, first: int = 0
) -> dict[bytes, bytes]:
    """Puts, each with a pass of its own; acknowledged ones go into the model. Returns those of the pass that failed."""
    for number in range(first, first + puts):
        pending = {store_key(number): record(number, len(model), value_bytes)}
        try:
            for key, stored in pending.items():
                engine.put(key, stored, hash_of(model.get(key)))
        except ReadOnlyError:
            return {}
        try:
            engine.flush()
        except ReadOnlyError:
            return pending
        model |= pending
        tick(engine)
    return {}


def check(engine: LmdbEngine, model: dict[bytes, bytes]) -> None:
    assert engine.scan(LOWEST, HIGHEST, 1 << 20) == sorted(model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))


def retry(engine: LmdbEngine) -> None:
    """What a tick does after the pause between attempts."""
    engine.retry()
    tick(engine)


def test_a_full_disk_refuses_writes_and_recovers_by_itself(tmp_path: Path) -> None:
    disk, model = Full(20_000), {}
    engine = LmdbEngine(tmp_path, disk, SMALL_LOG, partitions=PARTITIONS)
    failed = put_until_refused(engine, model, 200)
    assert failed
    assert len(model) > 40
    assert engine.read_only is not None
    assert "No space left on device" in engine.read_only
    assert engine.fullness == 2
    assert engine.statistics()["read_only"] == engine.read_only
    assert not engine.failed_fsync
    with pytest.raises(ReadOnlyError, match="No space left"):
        engine.put(store_key(999), record(999, 0))
    assert all(engine.get(key) == stored for key, stored in model.items())
    retry(engine)
    assert engine.read_only is not None
    disk.room = 1 << 30
    retry(engine)
    assert engine.read_only is None
    model |= failed  # its fate was unknown; it is in the log now, as whoever read it meanwhile would expect
    put_until_refused(engine, model, 50)
    check(engine, model)
    engine.checkpoints.close()
    engine.abandon()
    again = LmdbEngine(tmp_path, Disk(), SMALL_LOG, partitions=PARTITIONS)
    assert again.recovery.rot_records == 0
    check(again, model)
    again.close()


def test_killed_while_the_disk_is_full(tmp_path: Path) -> None:
    """Part of the last batch is in the log: it is there whole or not at all."""
    for room in range(5000, 5400, 37):
        store = tmp_path / str(room)
        model: dict[bytes, bytes] = {}
        engine = LmdbEngine(store, Full(room), SMALL_LOG, partitions=PARTITIONS)
        failed = put_until_refused(engine, model, 200)
        engine.checkpoints.close()
        engine.abandon()
        again = LmdbEngine(store, Disk(), SMALL_LOG, partitions=PARTITIONS)
        there = dict(again.scan(LOWEST, HIGHEST, 1000))
        assert model.items() <= there.items() <= (model | failed).items()
        check(again, there)
        again.close()


def test_short_writes_are_gone_on_with(tmp_path: Path) -> None:
    model: dict[bytes, bytes] = {}
    engine = LmdbEngine(tmp_path, Grudging(random.Random(1)), SMALL_LOG, partitions=PARTITIONS)
    put_until_refused(engine, model, 100)
    assert len(model) == 100
    engine.close()
    again = LmdbEngine(tmp_path, Disk(), SMALL_LOG, partitions=PARTITIONS)
    assert again.recovery.torn_bytes == again.recovery.rot_records == 0
    check(again, model)
    again.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_at_every_step_of_the_write_path(tmp_path: Path, code: int) -> None:
    """The n-th change to the disk fails, for every n: acknowledged is kept, durable is durable, refused is said."""
    kinds = set()
    for fails_at in range(1, 500):
        store = tmp_path / str(fails_at)
        disk, model = Failing(fails_at, code), {}
        durable: dict[bytes, bytes] = {}
        failed: dict[bytes, bytes] = {}
        try:
            engine = LmdbEngine(store, disk, SMALL_LOG, partitions=PARTITIONS)
        except OSError:
            kinds.add("open")
            continue
        for _ in range(2):
            failed |= put_until_refused(engine, model, 10)
            engine.sync()
            if engine.durable == engine.position:
                durable = dict(model)
        kinds.add(disk.kind)
        if disk.kind == "sync" and engine.failed_fsync:
            assert engine.read_only is not None
            assert "must be restarted" in engine.read_only
            with pytest.raises(StorageError, match="must be restarted"):
                engine.put(store_key(1), record(1, 1))
        elif disk.kind == "write":
            assert engine.read_only is not None
        assert all(engine.get(key) == stored for key, stored in model.items() if key not in failed)
        engine.checkpoints.close()
        engine.abandon()
        again = LmdbEngine(store, Disk(), SMALL_LOG, partitions=PARTITIONS)
        if engine.failed_fsync:
            assert again.recovery.tail_may_be_lost
            assert again.suspects == frozenset(range(PARTITIONS)), "the kernel may show what is not on disk"
        there = dict(again.scan(LOWEST, HIGHEST, 1000))
        assert there.keys() >= durable.keys()
        assert all(there[key] in (stored, failed.get(key)) for key, stored in model.items())
        check(again, there)
        again.close()
        if disk.changes < fails_at:
            break
    assert kinds >= {"write", "sync", "create", "reserve", "sync_directory", ""}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A file system of a few MiB, where this user may mount one: (directory, whether it is one)."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)], capture_output=True).returncode == 0
    yield tmp_path, mounted
    if mounted:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_small_file_system_fills_up_and_is_emptied(small_disk: tuple[Path, bool]) -> None:
    """Log and LMDB share it; without the right to mount, the same story with a disk that counts."""
    directory, mounted = small_disk
    disk = Disk() if mounted else Full(3 * MIB)
    ballast = directory / "ballast"
    ballast.write_bytes(bytes(MIB))
    engine = LmdbEngine(directory / "store", disk, settings(log_segment_bytes=256 << 10, checkpoint_fill=0.0), partitions=PARTITIONS)
    model: dict[bytes, bytes] = {}
    failed: dict[bytes, bytes] = {}
    for part in range(60):
        failed |= put_until_refused(engine, model, 300, 500, 300 * part)
        if engine.read_only is not None:
            break
        wait_for_something(engine)
    assert engine.read_only is not None
    assert "No space left on device" in engine.read_only
    assert all(engine.get(key) == stored for key, stored in model.items() if key not in failed)
    ballast.unlink()
    if isinstance(disk, Full):
        disk.room = 1 << 30
    retry(engine)
    assert engine.read_only is None
    model |= failed
    engine.put(store_key(1_000_000), record(1_000_000, 0))
    model[store_key(1_000_000)] = record(1_000_000, 0)
    engine.flush()
    check(engine, model)
    engine.close()
    again = LmdbEngine(directory / "store", Disk(), settings(log_segment_bytes=256 << 10), partitions=PARTITIONS)
    check(again, model)
    again.close()


def test_lmdb_without_room_is_tried_again(tmp_path: Path) -> None:
    """The map is too small for the records: they stay in log and buffer, with the trouble told."""
    tiny = settings(lmdb_map_bytes=256 << 10, checkpoint_fill=0.0)
    model: dict[bytes, bytes] = {}
    engine = LmdbEngine(tmp_path, Disk(), tiny, partitions=PARTITIONS)
    put_until_refused(engine, model, 3000)
    for _ in range(1000):
        tick(engine)
        if engine.checkpoints.trouble:
            break
        wait_for_something(engine)
    assert "MDB_MAP_FULL" in str(engine.statistics()["checkpoint_trouble"])
    check(engine, model)
    engine.close()
    roomy = LmdbEngine(tmp_path, Disk(), settings(checkpoint_fill=0.0), partitions=PARTITIONS)
    settle(roomy)
    assert roomy.statistics()["buffer_records"] == 0
    check(roomy, model)
    roomy.close()
