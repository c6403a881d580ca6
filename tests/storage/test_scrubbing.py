"""A leaf recomputed from its records: damage that no read meets is found, both leaves are mended, and undamaged ones never touched."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.storage.scrubbing import leaf_range
from dynamo_fast.storage.tables import Tables, open_tables
from tests.storage.engines import ENGINES, open_lmdb, open_moving, settle, tick, turn, wait_for_something
from tests.storage.records import HIGHEST, LOWEST, MAC_KEY, forest_of, record, roots, store_key
from tests.storage.test_removal import check_tables

PARTITIONS = 64
LEAVES = 256


def place(engine: Engine, number: int) -> tuple[int, int]:
    return engine.forest.place(store_key(number)[:16])


def scrub(engine: Engine, numbers: Iterator[int] | range) -> dict[tuple[int, int], LeafFindings]:
    """The leaves of these keys; those with something else than records."""
    found = {leaf: engine.recompute(*leaf) for leaf in sorted({place(engine, number) for number in numbers})}
    return {leaf: findings for leaf, findings in found.items() if findings != LeafFindings(findings.records)}


def tampered(directory: Path, tamper: Callable[[lmdb.Transaction[bytes], Tables], None]) -> None:
    """What a disk does behind LMDB's back is done through it, to the records alone."""
    tables = open_tables(directory / "lmdb", 1 << 34)
    with tables.environment.begin(write=True, db=tables.records) as transaction:
        tamper(transaction, tables)
    tables.environment.close()


def filled(directory: Path, count: int = 300) -> dict[bytes, bytes]:
    """A store whose records are all in LMDB."""
    engine = open_moving(directory, PARTITIONS)
    model = {store_key(number): record(number, 0, 50) for number in range(count)}
    for key, stored in model.items():
        engine.put(key, stored)
    turn(engine)
    settle(engine)
    engine.close()
    return model


def test_leaves_tile_the_key_space() -> None:
    for partitions, leaves in ((1, 256), (16, 256), (1024, 256), (65536, 256)):
        assert leaf_range(0, 0, partitions, leaves)[0] == LOWEST
        assert leaf_range(partitions - 1, leaves - 1, partitions, leaves)[1] == HIGHEST
        assert leaf_range(0, leaves - 1, partitions, leaves)[1] == (leaf_range(1, 0, partitions, leaves)[0] if partitions > 1 else HIGHEST)
    engine_leaf = open_place(store_key(7))
    start, end = leaf_range(*engine_leaf, PARTITIONS, LEAVES)
    assert start <= store_key(7) < end


def open_place(key: bytes) -> tuple[int, int]:
    return forest_of({}, PARTITIONS).place(key[:16])


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, name: str) -> None:
    engine = ENGINES[name](tmp_path, PARTITIONS)
    suspects = engine.suspects
    rng = random.Random(1)
    for step in range(3000):
        number = rng.randrange(200)
        if rng.random() < 0.3:
            engine.delete(store_key(number))
        else:
            engine.put(store_key(number), record(number, step))
        if step % 40 == 0:
            turn(engine)
            assert scrub(engine, iter([number])) == {}
    before = roots(engine.forest)
    assert scrub(engine, range(200)) == {}
    assert roots(engine.forest) == before
    assert engine.suspects == suspects
    assert sum(engine.recompute(*leaf).records for leaf in {place(engine, number) for number in range(200)}) == len(
        engine.scan(LOWEST, HIGHEST, 1000)
    )
    engine.close()


def restarted(engine: LmdbEngine, directory: Path, killed: bool) -> LmdbEngine:
    if killed:
        engine.checkpoints.close()
        engine.abandon()
    else:
        engine.close()
    return open_moving(directory, PARTITIONS)


@pytest.mark.parametrize("killed", [False, True])
def test_a_key_that_vanished_is_noticed(tmp_path: Path, killed: bool) -> None:
    model = filled(tmp_path)
    gone = [store_key(number) for number in (3, 77)]
    for key in gone:
        tampered(tmp_path, lambda transaction, tables, key=key: transaction.delete(key))  # type: ignore[misc]
    engine = open_moving(tmp_path, PARTITIONS)
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS)), "the trees believe that nothing happened"
    model = {key: stored for key, stored in model.items() if key not in gone}
    found = scrub(engine, range(300))
    assert found.keys() == {place(engine, 3), place(engine, 77)}
    assert all(findings.corrected and findings.repair for findings in found.values())
    assert engine.suspects == {place(engine, 3)[0], place(engine, 77)[0]}
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    assert engine.statistics()["leaves_corrected"] == 2
    settle(engine)
    assert engine.checkpoints.repairs == set()
    assert scrub(engine, range(300)) == {}
    engine = restarted(engine, tmp_path, killed)
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    assert scrub(engine, range(300)) == {}
    for number in (3, 77):
        engine.put(store_key(number), record(number, 5))
        model[store_key(number)] = record(number, 5)
    engine.flush()
    settle(engine)
    engine.close()
    check_tables(tmp_path, model)


def test_flipped_bits_are_found_before_anybody_reads_them(tmp_path: Path) -> None:
    model = filled(tmp_path)
    data = tmp_path / "lmdb" / "data.mdb"
    for number in (5, 6):
        stored = record(number, 0, 50)
        data.write_bytes(data.read_bytes().replace(stored, stored[: 20 * (number - 4)] + b"?" + stored[20 * (number - 4) + 1 :]))
        del model[store_key(number)]
    engine = open_moving(tmp_path, PARTITIONS)
    found = scrub(engine, range(300))
    assert found.keys() == {place(engine, 5), place(engine, 6)}
    assert all(findings.unreadable == 1 and findings.corrected and findings.repair for findings in found.values())
    assert engine.suspects == {place(engine, 5)[0], place(engine, 6)[0]}
    settle(engine)
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    # Stored anew over what cannot be read, the leaves are right without another look.
    for number in (5, 6):
        engine.put(store_key(number), record(number, 9))
        model[store_key(number)] = record(number, 9)
    engine.flush()
    settle(engine)
    assert scrub(engine, range(300)) == {}
    engine.close()
    check_tables(tmp_path, model)


def test_swapped_records_are_found_and_removed(tmp_path: Path) -> None:
    model = filled(tmp_path)
    pairs = [(10, 11), (12, 13)]

    def swap(transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        for one, other in pairs:
            transaction.put(store_key(one), model[store_key(other)])
            transaction.put(store_key(other), model[store_key(one)])

    tampered(tmp_path, swap)
    engine = open_moving(tmp_path, PARTITIONS)
    found = scrub(engine, range(300))
    assert sum(findings.misplaced for findings in found.values()) == 4
    swapped = [store_key(number) for pair in pairs for number in pair]
    assert engine.suspects == {key[0] >> 2 for key in swapped}
    model = {key: stored for key, stored in model.items() if key not in swapped}
    assert engine.scan(LOWEST, HIGHEST, 1000) == sorted(model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    settle(engine)
    assert scrub(engine, range(300)) == {}
    engine.close()
    check_tables(tmp_path, model)


def test_a_record_beside_its_store_key_is_found_by_who_knows_the_secret(tmp_path: Path) -> None:
    """A flipped bit in the keyed half of a store key: position, hash and leaf are as they were, and the key is not found."""
    model = filled(tmp_path)
    key = store_key(20)
    beside = key[:-1] + bytes([key[-1] ^ 1])

    def move(transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        transaction.delete(key)
        transaction.put(beside, model[key])

    tampered(tmp_path, move)
    engine = open_moving(tmp_path, PARTITIONS)
    leaf = place(engine, 20)
    assert engine.recompute(*leaf) == LeafFindings(records=1)
    assert engine.recompute(*leaf, MAC_KEY) == LeafFindings(records=1, misplaced=1)
    assert engine.suspects == {leaf[0]}
    assert engine.get(beside) is None
    assert roots(engine.forest) == roots(forest_of({name: stored for name, stored in model.items() if name != key}, PARTITIONS))
    engine.close()


def test_damaged_rows_of_the_other_tables_do_not_keep_a_store_shut(tmp_path: Path) -> None:
    model = filled(tmp_path)

    def harm(transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        transaction.put(b"\xff" * 20, bytes(2048), db=tables.leaves)
        transaction.put((3).to_bytes(4, "big"), b"short", db=tables.leaves)
        transaction.put(b"\1", b"short", db=tables.moved)

    tampered(tmp_path, harm)
    engine = open_moving(tmp_path, PARTITIONS)
    assert engine.suspects == frozenset(range(PARTITIONS))
    assert engine.scan(LOWEST, HIGHEST, 1000) == sorted(model.items())
    scrub(engine, range(300))
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    engine.close()


def test_a_hash_that_is_not_its_objects_is_told(tmp_path: Path) -> None:
    model = filled(tmp_path)
    wrong = encode_record(b"key-4", b"another object", hash=int.from_bytes(model[store_key(4)][32:40], "little"))
    tampered(tmp_path, lambda transaction, tables: transaction.put(store_key(4), wrong))  # type: ignore[arg-type, return-value]
    engine = open_moving(tmp_path, PARTITIONS)
    assert scrub(engine, range(300)) == {place(engine, 4): LeafFindings(records=1, wrong_hash=1)}
    assert engine.suspects == {place(engine, 4)[0]}
    assert hashlib.md5(b"key-4").digest() == store_key(4)[:16]
    engine.close()


@pytest.mark.parametrize("seed", range(12))
def test_stores_during_a_scrub_never_make_a_leaf_wrong(tmp_path: Path, seed: int) -> None:
    """Few keys in few leaves, damaged beforehand; puts, deletions, checkpoint steps, leaves recomputed, kills, in any order."""
    rng = random.Random(seed)
    model = filled(tmp_path, 60)
    numbers = list(range(60))
    for number in rng.sample(numbers, 15):
        fate = rng.choice(["vanish", "flip"])
        key = store_key(number)

        def harm(transaction: Any, tables: Any, key: bytes = key, fate: str = fate) -> None:
            if fate == "vanish":
                transaction.delete(key)
            else:
                transaction.put(key, model[key][:-1] + b"?")

        tampered(tmp_path, harm)
        del model[key]
    engine = open_moving(tmp_path, PARTITIONS)
    version = itertools.count(1)
    for _ in range(400):
        number = rng.choice(numbers)
        key = store_key(number)
        what = rng.choices(["put", "delete", "recompute", "tick", "wait", "flush", "kill"], [8, 4, 6, 6, 2, 4, 0.15])[0]
        if what == "put":
            model[key] = record(number, next(version))
            engine.put(key, model[key])
        elif what == "delete":
            engine.delete(key)
            model.pop(key, None)
        elif what == "recompute":
            engine.recompute(*place(engine, number))
        elif what == "kill":
            engine.flush()
            engine = restarted(engine, tmp_path, True)
        elif what == "flush":
            engine.flush()
        else:
            engine.flush()
            tick(engine)
            if what == "wait":
                wait_for_something(engine)
        assert engine.get(key) == model.get(key)
    scrub(engine, range(60))
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    for _ in range(3):
        engine.flush()
        settle(engine)
        if not scrub(engine, range(60)):
            break
        assert all(findings.unreadable for findings in scrub(engine, range(60)).values())
    # What could not be read stays where it is, and counts nowhere.
    for number in numbers:
        engine.put(store_key(number), record(number, next(version)))
        model[store_key(number)] = engine.get(store_key(number)) or b""
    engine.flush()
    settle(engine)
    assert scrub(engine, range(60)) == {}
    engine = restarted(engine, tmp_path, seed % 2 == 0)
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    engine.close()
    check_tables(tmp_path, model)


def test_a_repair_found_after_the_freeze_waits_for_the_next(tmp_path: Path) -> None:
    """A slot younger than the freeze has its hash from a record that is lost before the sum is taken."""
    model = filled(tmp_path)
    range_index = store_key(3)[0] >> 4
    other = next(number for number in range(1000, 9000) if store_key(number)[0] >> 4 == range_index)
    engine = open_lmdb(tmp_path, PARTITIONS)
    engine.put(store_key(other), record(other, 0))
    engine.flush()
    engine.close()
    engine = open_moving(tmp_path, PARTITIONS)
    tick(engine)
    assert engine.checkpoints.under_way
    engine.repair(*place(engine, 3))
    assert engine.checkpoints._repairs == frozenset()
    settle(engine)
    assert engine.checkpoints.repairs == set()
    assert engine.statistics()["checkpoints"] == 2
    engine.close()
    check_tables(tmp_path, model | {store_key(other): record(other, 0)})
