"""Removal in the engine with a disk: whatever comes between log, buffer and LMDB, what was removed stays away and the trees say so."""

from __future__ import annotations

import itertools
import random
import select
from collections.abc import Iterable
from pathlib import Path

import pytest

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import ReadOnlyError
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.scrubbing import leaf_range
from dynamo_fast.storage.tables import open_tables
from tests.storage.disks import Full
from tests.storage.engines import (
    WAIT_SECONDS_MAX,
    open_lmdb,
    open_moving,
    remove_partition,
    settings,
    settle,
    tick,
    turn,
    wait_for_something,
)
from tests.storage.records import HIGHEST, LOWEST, forest_of, numbers_in, record, roots, store_key

PARTITIONS = 64

# What a key does between two events, and what may happen to all of them at once.
DEEDS = ("", "p", "d", "pd", "dp")
EVENTS = ("moved", "frozen", "committed", "killed")

# Numbers of keys of one range, so that freezing it freezes all of them.
NUMBERS = [number for number in range(60_000) if store_key(number)[0] >> 4 == 3]


def happen(engine: LmdbEngine, directory: Path, event: str) -> LmdbEngine:
    """All records are in LMDB; or frozen; or LMDB has them, and the node has not heard of it; or the node is killed."""
    engine.flush()
    if event == "moved":
        settle(engine)
    elif event == "frozen":
        while engine.checkpoints.due(engine) and not engine.checkpoints.under_way:
            tick(engine)
    elif event == "committed":
        while engine.checkpoints.due(engine) or engine.checkpoints.under_way:
            if engine.checkpoints._asked:
                output = engine.checkpoints.mover._process.stdout
                assert select.select([output], [], [], WAIT_SECONDS_MAX)[0], "the helper process has not answered"
                break
            tick(engine)
            if not engine.checkpoints._asked:
                wait_for_something(engine)
    else:
        engine.checkpoints.close()
        engine.abandon()
        engine = open_moving(directory, PARTITIONS)
        assert engine.recovery.rot_records == 0
    return engine


def check(engine: LmdbEngine, model: dict[bytes, bytes], keys: list[bytes]) -> None:
    assert [engine.get(key) for key in keys] == [model.get(key) for key in keys]
    assert engine.scan(LOWEST, HIGHEST, 100_000) == sorted(model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))


def check_tables(directory: Path, model: dict[bytes, bytes]) -> None:
    """LMDB alone, once everything is in it: records, and leaves which are their sums."""
    tables = open_tables(directory / "lmdb", 1 << 30)
    with tables.environment.begin() as transaction:
        with transaction.cursor(tables.records) as cursor:
            assert list(cursor) == sorted(model.items())
        forest = forest_of(model, PARTITIONS)
        for partition in range(PARTITIONS):
            leaves = transaction.get(partition.to_bytes(4, "big"), bytes(8 * 256), db=tables.leaves)
            assert leaves == forest.leaves(partition)
    tables.environment.close()


def play(directory: Path, events: tuple[str, ...], lives: list[tuple[str, ...]]) -> None:
    """Key number i does what `lives[i]` says before, between and after the events."""
    engine = open_moving(directory, PARTITIONS)
    model: dict[bytes, bytes] = {}
    keys = [store_key(number) for number in NUMBERS[: len(lives)]]
    version = itertools.count()
    for step in range(len(events) + 1):
        for number, life in zip(NUMBERS, lives, strict=False):
            for deed in life[step]:
                key = store_key(number)
                if deed == "p":
                    model[key] = record(number, next(version), 10 * (number % 30))
                    engine.put(key, model[key])
                else:
                    assert engine.delete(key) is (model.pop(key, None) is not None)
        check(engine, model, keys)
        if step < len(events):
            engine = happen(engine, directory, events[step])
            check(engine, model, keys)
    engine.flush()
    settle(engine)
    assert engine.statistics()["buffer_records"] == engine.statistics()["buffer_removed"] == 0
    check(engine, model, keys)
    engine.close()
    check_tables(directory, model)


@pytest.mark.parametrize("events", list(itertools.product(EVENTS, repeat=2)), ids=" ".join)
def test_every_life_of_a_key_around_two_events(tmp_path: Path, events: tuple[str, ...]) -> None:
    play(tmp_path, events, list(itertools.product(DEEDS, repeat=3)))


@pytest.mark.parametrize("seed", range(8))
def test_random_lives_around_many_events(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    events = tuple(rng.choices(EVENTS, k=5))
    play(tmp_path, events, [tuple(rng.choices(DEEDS, k=6)) for _ in range(400)])


def test_marks_of_removed_keys_go_with_the_checkpoint(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, PARTITIONS)
    for number in range(2000):
        engine.put(store_key(number), record(number, 0, 100))
    engine.flush()
    settle(engine)
    for number in range(2000):
        engine.delete(store_key(number))
    engine.flush()
    assert engine.statistics()["buffer_removed"] == engine.statistics()["buffer_records"] == 2000
    # A slot's header, 8 bytes, and two to four cells of 8 bytes; each range rounds up to a chunk of 256 KiB.
    assert engine.statistics()["buffer_bytes"] < 2000 * (40 + 8 + 32) + 16 * (256 << 10)  # type: ignore[operator]
    assert not any(engine.delete(store_key(number)) for number in range(2000))
    settle(engine)
    assert engine.statistics()["buffer_removed"] == engine.statistics()["buffer_bytes"] == 0
    assert engine.statistics()["removals"] == 2000
    assert engine.scan(LOWEST, HIGHEST, 10) == []
    engine.close()
    check_tables(tmp_path, {})


def of_the_partition(engine: LmdbEngine, partition: int, keys: Iterable[bytes]) -> list[object]:
    """Whatever is left of a partition in an engine, by where it is."""
    start, end = leaf_range(partition, 0, PARTITIONS, 1)
    return [
        *(["root"] if engine.holds(partition) else []),
        *(["suspect"] if engine.is_suspect(partition) else []),
        *engine.scan(start, end, 10),
        *engine.buffer.scan(start, end, 10, True),
        *filter(None, map(engine.get, keys)),
        *(leaf for leaf in range(256) if engine.recompute(partition, leaf) != LeafFindings()),
        *filter(None, [engine.snapshot.leaves(partition)]),
    ]


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("moved", [False, True], ids=["still in the log", "from LMDB"])
def test_nothing_is_left_of_a_removed_partition(tmp_path: Path, moved: bool, killed: bool) -> None:
    """In log, buffer, LMDB, trees and suspects, and at a start that finds the removals in the log, or only in LMDB."""
    model = {store_key(number): record(number, 0, 100) for number in numbers_in((12, 13, 14, 15, 50), PARTITIONS, 10_000)}
    engine = open_lmdb(tmp_path, PARTITIONS)
    for key, stored in model.items():
        engine.put(key, stored, 0)
    engine.close()
    if moved:
        engine = open_moving(tmp_path, PARTITIONS)
        settle(engine)
        engine.close()
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.statistics()["lmdb_records"] == moved * len(model)
    gone = [key for key in model if key[0] >> 2 == 13]
    *_, removed = remove_partition(engine, 13, 256)
    assert removed == len(gone)
    model = {key: stored for key, stored in model.items() if key[0] >> 2 != 13}
    for opener in (open_lmdb, open_moving, open_lmdb):
        if killed:
            engine.checkpoints.close()
            engine.abandon()
        else:
            engine.close()
        engine = opener(tmp_path, PARTITIONS)
        assert not engine.holds(13)
        if opener is open_moving:
            settle(engine)
    assert of_the_partition(engine, 13, gone) == []
    check(engine, model, [])
    engine.close()
    check_tables(tmp_path, model)
    assert not any(path.read_bytes().count(key) for path in (tmp_path / "log").glob("*.log") for key in gone[:20])


def test_a_removal_after_rot_leaves_true_trees(tmp_path: Path) -> None:
    """LMDB holds a version; the log a second one, damaged, and the removal, which names that as its predecessor."""
    engine = open_moving(tmp_path, PARTITIONS)
    engine.put(store_key(1), record(1, 0))
    engine.put(store_key(2), record(2, 0))
    engine.flush()
    settle(engine)
    engine.close()
    engine = open_lmdb(tmp_path, PARTITIONS)
    engine.put(store_key(1), record(1, 1))
    engine.delete(store_key(1))
    engine.delete(store_key(2))
    engine.close()
    path = max((tmp_path / "log").glob("*.log"), key=lambda path: path.read_bytes().find(record(1, 1)))
    path.write_bytes(path.read_bytes().replace(record(1, 1), record(1, 1)[:-1] + b"?"))
    for opener in (open_lmdb, open_moving, open_lmdb):
        engine = opener(tmp_path, PARTITIONS)
        assert engine.suspects == {store_key(1)[0] >> 2}
        check(engine, {}, [store_key(1), store_key(2)])
        if opener is open_moving:
            settle(engine)
        engine.close()
    check_tables(tmp_path, {})


def test_a_record_that_cannot_be_read_can_be_removed(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, PARTITIONS)
    engine.put(store_key(1), record(1, 1, 500))
    turn(engine)
    settle(engine)
    engine.close()
    data = tmp_path / "lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(record(1, 1, 500), record(1, 1, 500)[:-1] + b"?"))
    again = open_moving(tmp_path, PARTITIONS)
    assert not again.delete(store_key(1), 5)
    assert again.delete(store_key(1))
    assert not again.delete(store_key(1))
    again.flush()
    settle(again)
    assert again.scan(LOWEST, HIGHEST, 10) == []
    again.close()
    tables = open_tables(tmp_path / "lmdb", 1 << 30)
    with tables.environment.begin() as transaction:
        assert transaction.stat(tables.records)["entries"] == 0
    tables.environment.close()


def test_a_disk_that_is_full_refuses_removals(tmp_path: Path) -> None:
    disk = Full(10_000)
    engine = LmdbEngine(tmp_path, disk, settings(checkpoint_fill=9.0), partitions=PARTITIONS)
    engine.put(store_key(1), record(1, 1))
    engine.put(store_key(2), record(2, 1))
    engine.flush()
    disk.room = 10
    engine.delete(store_key(1))
    with pytest.raises(ReadOnlyError, match="No space left"):
        engine.flush()
    with pytest.raises(ReadOnlyError, match="No space left"):
        engine.delete(store_key(2))
    assert engine.get(store_key(2)) == record(2, 1)
    disk.room = 10_000
    engine.retry()
    assert engine.delete(store_key(2))
    engine.flush()
    engine.checkpoints.close()
    engine.abandon()
    again = LmdbEngine(tmp_path, Disk(), settings(checkpoint_fill=9.0), partitions=PARTITIONS)
    check(again, {}, [store_key(1), store_key(2)])
    again.close()
