"""What may have lost data is known, survives restarts of every kind, and is forgiven only by name."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import RETRY_NS, LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.testing.faulty_engine import FaultyEngine
from tests.storage.engines import open_lmdb, open_moving, settings, settle, tick, turn
from tests.storage.records import record, store_key
from tests.storage.test_maintenance import until

PARTITIONS = 64
ALL = frozenset(range(PARTITIONS))


class Boot(Disk):
    """A machine with this boot id, which refuses to replace one of the files."""

    def __init__(self, boot: str, refused: str = "") -> None:
        self.boot, self.refused = boot, refused
        self.replaced: list[str] = []
        self.later_ns = 0

    def boot_id(self) -> str:
        return self.boot

    def clock_ns(self) -> int:
        return super().clock_ns() + self.later_ns

    def replace(self, path: Path, data: bytes) -> None:
        if path.name == self.refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.replaced.append(path.name)
        super().replace(path, data)


def open_on(directory: Path, disk: Disk) -> LmdbEngine:
    return LmdbEngine(directory, disk, settings(checkpoint_fill=9.0), partitions=PARTITIONS)


def abandon(engine: LmdbEngine) -> None:
    engine.checkpoints.close()
    engine.abandon()


def forgive_all(engine: LmdbEngine) -> None:
    for partition in engine.suspects:
        engine.forgive(partition)
    tick(engine)


def test_an_unclean_end_before_a_boot_makes_everything_suspect_until_forgiven(tmp_path: Path) -> None:
    engine = open_on(tmp_path, Boot("first"))
    assert engine.suspects == frozenset()
    abandon(engine)
    engine = open_on(tmp_path, Boot("first"))
    assert engine.suspects == frozenset(), "kill -9 alone loses nothing"
    abandon(engine)
    for boot in ("second", "second", "third"):
        engine = open_on(tmp_path, Boot(boot))
        assert engine.suspects == engine.recovery.suspects == ALL
        abandon(engine)
    engine = open_on(tmp_path, Boot("third"))
    engine.forgive(5)
    tick(engine)
    abandon(engine)
    engine = open_on(tmp_path, Boot("third"))
    assert engine.suspects == ALL - {5}
    assert engine.statistics()["suspect_partitions"] == PARTITIONS - 1
    forgive_all(engine)
    engine.close()
    engine = open_on(tmp_path, Boot("fourth"))
    assert engine.suspects == frozenset(), "a clean end loses nothing, whatever comes after"
    engine.close()


def test_a_start_that_dies_half_way_leaves_the_next_one_as_wary(tmp_path: Path) -> None:
    """The suspects are written before the boot id that would make the next start trust the log."""
    abandon(open_on(tmp_path, Boot("first")))
    engine = open_on(tmp_path, disk := Boot("second"))
    assert disk.replaced == ["suspect.json", "storage.json"]
    forgive_all(engine)
    abandon(engine)
    engine = open_on(tmp_path, Boot("third", refused="suspect.json"))
    assert engine.suspects == ALL
    abandon(engine)
    engine = open_on(tmp_path, Boot("third"))
    assert engine.suspects == ALL
    engine.close()


def test_a_disk_that_is_full_at_the_start_is_written_to_later(tmp_path: Path) -> None:
    abandon(open_on(tmp_path, Boot("first")))
    engine = open_on(tmp_path, disk := Boot("second", refused="suspect.json"))
    disk.refused = ""
    disk.later_ns = RETRY_NS
    tick(engine)
    assert frozenset(json.loads((tmp_path / "suspect.json").read_text())) == ALL
    engine.close()


def test_a_clean_end_is_a_clean_end_until_something_is_written(tmp_path: Path) -> None:
    open_on(tmp_path, Boot("first")).close()

    class Dying(Boot):
        def read_into(self, path: Path, target: bytearray) -> int:
            raise RuntimeError("killed during recovery")

    with pytest.raises(RuntimeError, match="killed"):
        open_on(tmp_path, Dying("second"))
    engine = open_on(tmp_path, Boot("third"))
    assert not engine.recovery.unclean
    assert engine.suspects == frozenset()
    abandon(engine)
    assert open_on(tmp_path, Boot("fourth")).suspects == ALL


def moved_away(directory: Path) -> None:
    """A store whose log begins past its first records, which are in LMDB alone."""
    engine = open_moving(directory, PARTITIONS)
    for number in range(200):
        engine.put(store_key(number), record(number, 0, 100))
    turn(engine)
    settle(engine)
    engine.close()
    engine = open_moving(directory, PARTITIONS)
    engine.put(store_key(1), record(1, 1))
    turn(engine)
    settle(engine)
    tick(engine)
    assert engine.statistics()["buffer_records"] == 0
    engine.close()


@pytest.mark.parametrize("lost", ["lmdb", "log"])
def test_half_of_a_store_is_lost(tmp_path: Path, lost: str) -> None:
    moved_away(tmp_path)
    shutil.rmtree(tmp_path / lost)
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.suspects == ALL
    engine.put(store_key(1), record(1, 2))
    engine.close()
    engine = open_moving(tmp_path, PARTITIONS)
    assert engine.get(store_key(1)) == record(1, 2)
    forgive_all(engine)
    settle(engine)
    engine.close()
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.suspects == frozenset()
    engine.close()


def test_an_old_copy_of_lmdb_is_noticed(tmp_path: Path) -> None:
    open_lmdb(tmp_path / "store", PARTITIONS).close()
    shutil.copytree(tmp_path / "store" / "lmdb", tmp_path / "old")
    moved_away(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "lmdb")
    shutil.copytree(tmp_path / "old", tmp_path / "store" / "lmdb")
    engine = open_lmdb(tmp_path / "store", PARTITIONS)
    assert engine.suspects == ALL
    engine.close()


def test_a_member_without_its_store_is_suspect(tmp_path: Path) -> None:
    (tmp_path / "membership").write_bytes(b"the history of a cluster")
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.suspects == ALL
    abandon(engine)
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.suspects == ALL
    engine.close()


@pytest.mark.parametrize("content", ["", "[1, 2", '{"a": 1}x', "7", "[[]]", "\x00"])
def test_a_damaged_list_of_suspects_names_everybody(tmp_path: Path, content: str) -> None:
    open_lmdb(tmp_path, PARTITIONS).close()
    (tmp_path / "suspect.json").write_text(content)
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.suspects == ALL
    engine.close()


def test_what_lmdb_proves_to_have_been_synced_is_no_torn_tail(tmp_path: Path, wait_for_sync: Callable[[LmdbEngine], None]) -> None:
    """Nothing in the log itself tells that its end was durable; that its records were moved does."""
    for damage in (b"?", b""):
        store = tmp_path / str(len(damage))
        engine = LmdbEngine(store, Disk(), settings(checkpoint_fill=0.0, sync_seconds=1e6), partitions=PARTITIONS)
        numbers = sorted(range(30), key=store_key)
        for number in numbers[:2]:
            engine.put(store_key(number), record(number, 0, 300))
        engine.flush()
        engine.put(store_key(numbers[-1]), record(numbers[-1], 0, 300))
        engine.flush()
        settle(engine)
        abandon(engine)
        path = max((store / "log").glob("*.log"), key=lambda path: path.read_bytes().strip(b"\0"))
        content = path.read_bytes()
        place = content.find(record(numbers[-1], 0, 300))
        path.write_bytes(content[:place] + (damage + content[place + 1 :] if damage else b""))
        description = store / "storage.json"
        description.write_text(json.dumps(json.loads(description.read_text()) | {"boot_id": "another"}))
        engine = open_lmdb(store, PARTITIONS)
        assert engine.recovery.rot_records >= 1
        assert engine.recovery.torn_bytes == 0
        assert engine.suspects == ALL
        engine.close()


@pytest.mark.parametrize("damage", [b"", bytes(500), b"?" * 500])
def test_the_last_records_lost_after_a_clean_end(tmp_path: Path, damage: bytes) -> None:
    """As if torn off, had the end not been clean."""
    engine = open_on(tmp_path, Boot("first"))
    for number in range(10):
        engine.put(store_key(number), record(number, 0, 300))
    engine.close()
    path = next(path for path in (tmp_path / "log").glob("*.log") if record(9, 0, 300) in path.read_bytes())
    content = path.read_bytes()
    place = content.index(store_key(9) + bytes(0), content.index(record(8, 0, 300))) - 40
    path.write_bytes(content[:place] + damage)
    engine = open_on(tmp_path, Boot("first"))
    assert engine.get(store_key(8)) == record(8, 0, 300)
    assert engine.get(store_key(9)) is None
    assert engine.suspects == ALL
    engine.close()


def test_an_engine_without_a_disk_has_lost_everything() -> None:
    inner = MemoryEngine(partitions=PARTITIONS)
    engine = FaultyEngine(inner)
    assert engine.suspects == inner.suspects == ALL
    forgive_all_of(engine)
    assert engine.suspects == inner.suspects == frozenset()
    engine.suspect(3)
    engine.suspect(3)
    assert inner.suspects == {3}
    assert [partition for partition in range(2 * PARTITIONS) if engine.is_suspect(partition)] == [3]
    for beyond in (PARTITIONS, -1):
        with pytest.raises(IndexError, match="not one of"):
            engine.suspect(beyond)
        with pytest.raises(IndexError, match="not one of"):
            engine.forgive(beyond)


def forgive_all_of(engine: FaultyEngine) -> None:
    for partition in range(PARTITIONS):
        engine.forgive(partition)


def test_a_resting_engine_writes_suspects_down(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, Disk(), settings(sync_seconds=0.0), partitions=PARTITIONS)

    def written() -> list[int]:
        file = tmp_path / "suspect.json"
        return json.loads(file.read_text()) if file.exists() else []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, trio.to_thread.run_sync)
            await until(lambda: engine.tick_ns.count > 0 and engine.resting)
            await trio.testing.wait_all_tasks_blocked(0.1)
            engine.suspect(7)
            await until(lambda: written() == [7])
            await until(lambda: engine.resting)
            engine.forgive(7)
            await until(lambda: written() == [])
            nursery.cancel_scope.cancel()

    trio.run(main)
    engine.close()
