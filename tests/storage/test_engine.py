"""The contract of engines as a suite, run over each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.storage.scrubbing import leaf_range
from tests.storage.engines import ENGINES, remove_partition, turn
from tests.storage.records import HIGHEST, LOWEST, forest_of, hash_of, numbers_in, record, roots, store_key

PARTITIONS = 64


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = ENGINES[request.param](tmp_path, PARTITIONS)
    yield opened
    opened.close()


def test_what_was_put_is_found_at_once(engine: Engine) -> None:
    assert engine.get(store_key(1)) is None
    engine.put(store_key(1), record(1, 1))
    assert engine.get(store_key(1)) == record(1, 1)
    turn(engine)
    assert engine.get(store_key(1)) == record(1, 1)
    assert engine.get(store_key(2)) is None


def test_the_newest_record_wins_whatever_the_sizes(engine: Engine) -> None:
    for version, value_bytes in enumerate([20, 21, 3000, 0, 100_000, 5, 1 << 20, 1 << 20, 40, 700_000]):
        engine.put(store_key(3), record(3, version, value_bytes))
        assert engine.get(store_key(3)) == record(3, version, value_bytes)
        if version % 3 == 0:
            turn(engine)


@pytest.mark.parametrize(("key_bytes", "bucket_bytes"), [(1, 0), (4096, 64)])
def test_the_longest_and_shortest_names(engine: Engine, key_bytes: int, bucket_bytes: int) -> None:
    stored = encode_record(b"k" * key_bytes, b"", b"b" * bucket_bytes, hash=5)
    engine.put(store_key(4), stored)
    turn(engine)
    assert engine.get(store_key(4)) == stored


def test_many_keys_against_a_dictionary(engine: Engine) -> None:
    model: dict[bytes, bytes] = {}
    rng = random.Random(5)
    for step in range(20_000):
        number = rng.randrange(4000)
        key, stored = store_key(number), record(number, step, rng.choice([0, 8, 60, 300]))
        engine.put(key, stored, hash_of(model.get(key)))
        model[key] = stored
        if step % 97 == 0:
            turn(engine)
    assert all(engine.get(key) == stored for key, stored in model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    assert engine.scan(LOWEST, HIGHEST, 10_000) == sorted(model.items())


def test_a_scan_is_cut_by_its_bounds_and_its_limit(engine: Engine) -> None:
    model = {store_key(number): record(number, 0) for number in range(500)}
    for key, stored in model.items():
        engine.put(key, stored)
    ordered = sorted(model.items())
    assert engine.scan(LOWEST, HIGHEST, 7) == ordered[:7]
    assert engine.scan(ordered[100][0], ordered[130][0], 1000) == ordered[100:130]
    assert engine.scan(ordered[9][0], ordered[9][0], 1000) == []
    pages, start = [], LOWEST
    while page := engine.scan(start, HIGHEST, 33):
        pages += page
        start = (int.from_bytes(page[-1][0], "big") + 1).to_bytes(24, "big")
    assert pages == ordered


def test_a_store_is_durable_after_a_sync(engine: Engine, wait_for_sync: Callable[[Engine], None]) -> None:
    engine.put(store_key(6), record(6, 1))
    turn(engine)
    written = engine.position
    assert written > 0
    engine.sync()
    wait_for_sync(engine)
    assert engine.durable >= written


def test_what_was_deleted_is_gone_at_once_and_may_come_back(engine: Engine) -> None:
    engine.put(store_key(1), record(1, 1))
    assert engine.delete(store_key(1))
    assert engine.get(store_key(1)) is None
    assert engine.scan(LOWEST, HIGHEST, 10) == []
    assert roots(engine.forest) == [0] * PARTITIONS
    turn(engine)
    assert engine.get(store_key(1)) is None
    engine.put(store_key(1), record(1, 2, 500))
    turn(engine)
    assert engine.get(store_key(1)) == record(1, 2, 500)
    assert engine.scan(LOWEST, HIGHEST, 10) == [(store_key(1), record(1, 2, 500))]
    assert roots(engine.forest) == roots(forest_of({store_key(1): record(1, 2, 500)}, PARTITIONS))


def test_only_the_expected_version_is_deleted(engine: Engine) -> None:
    engine.put(store_key(1), record(1, 1))
    engine.put(store_key(2), record(2, 1))
    assert not engine.delete(store_key(1), hash_of(record(1, 2)))
    assert engine.get(store_key(1)) == record(1, 1)
    assert engine.delete(store_key(1), hash_of(record(1, 1)))
    assert engine.scan(LOWEST, HIGHEST, 10) == [(store_key(2), record(2, 1))]


def test_deleting_what_is_not_there_changes_nothing(engine: Engine) -> None:
    engine.put(store_key(1), record(1, 1))
    engine.put(store_key(2), record(2, 1))
    engine.delete(store_key(2))
    turn(engine)
    position, statistics = engine.position, engine.statistics()
    for number in (2, 3):
        assert not engine.delete(store_key(number))
        assert not engine.delete(store_key(number), 5)
    assert engine.position == position
    assert engine.statistics()["removals"] == statistics["removals"] == 1
    assert engine.scan(LOWEST, HIGHEST, 10) == [(store_key(1), record(1, 1))]
    assert roots(engine.forest) == roots(forest_of({store_key(1): record(1, 1)}, PARTITIONS))


def test_puts_and_deletions_of_many_keys_against_a_dictionary(engine: Engine) -> None:
    model: dict[bytes, bytes] = {}
    rng = random.Random(6)
    for step in range(20_000):
        number = rng.randrange(3000)
        key = store_key(number)
        if rng.random() < 0.45:
            assert engine.delete(key) is (model.pop(key, None) is not None)
        else:
            stored = record(number, step, rng.choice([0, 8, 60, 300]))
            engine.put(key, stored, hash_of(model.get(key)))
            model[key] = stored
        if step % 97 == 0:
            turn(engine)
        if step % 1999 == 0:
            ordered = sorted(model.items())
            assert engine.scan(LOWEST, HIGHEST, 10_000) == ordered
            assert engine.scan(LOWEST, HIGHEST, 100) == ordered[:100]
    assert all(engine.get(store_key(number)) == model.get(store_key(number)) for number in range(3000))
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
    for key in list(model):
        assert engine.delete(key)
    assert engine.scan(LOWEST, HIGHEST, 10) == []
    assert roots(engine.forest) == [0] * PARTITIONS


def test_keys_that_fall_together_come_and_go(engine: Engine) -> None:
    """All in one hash table of the buffer, many with one home in it: chains close over what is taken out."""
    rng = random.Random(7)
    keys = [b"\x12\x34" + rng.randbytes(14) + bytes([rng.randrange(4)]) + rng.randbytes(7) for _ in range(300)]
    model: dict[bytes, bytes] = {}
    for step in range(6000):
        key = keys[rng.randrange(50 + step % 250)]
        if rng.random() < 0.5:
            assert engine.delete(key) is (model.pop(key, None) is not None)
        else:
            model[key] = record(step, 0, rng.choice([0, 40, 200]))
            engine.put(key, model[key])
        if step % 50 == 0:
            assert [engine.get(key) for key in keys] == [model.get(key) for key in keys]
            turn(engine)
    assert engine.scan(LOWEST, HIGHEST, 1000) == sorted(model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))


def test_a_scan_passes_over_what_is_deleted_and_still_finds_its_limit(engine: Engine) -> None:
    model = {store_key(number): record(number, 0) for number in range(600)}
    for key, stored in model.items():
        engine.put(key, stored)
    turn(engine)
    ordered = sorted(model.items())
    for key, _ in ordered[50:300]:
        engine.delete(key)
    left = ordered[:50] + ordered[300:]
    for limit in (1, 49, 50, 51, 120, 350, 1000):
        assert engine.scan(LOWEST, HIGHEST, limit) == left[:limit]
    assert engine.scan(ordered[60][0], ordered[299][0], 10) == []


def test_a_partition_removed_in_batches_leaves_nothing_behind(engine: Engine) -> None:
    """Four partitions of one range and one of another; one of the four goes."""
    model = {store_key(number): record(number, 0, number % 200) for number in numbers_in((12, 13, 14, 15, 50), PARTITIONS, 10_000)}
    for step, (key, stored) in enumerate(model.items()):
        engine.put(key, stored, 0)
        if step % 500 == 0:
            turn(engine)
    gone = {key for key in model if key[0] >> 2 == 13}
    *_, removed = remove_partition(engine, 13, 256)
    assert removed == len(gone) > 1900
    model = {key: stored for key, stored in model.items() if key not in gone}
    assert not engine.holds(13)
    assert engine.forest.leaves(13) == bytes(8 * 256)
    assert engine.scan(*leaf_range(13, 0, PARTITIONS, 1), 10) == []
    assert not any(engine.get(key) for key in gone)
    assert all(engine.recompute(13, leaf) == LeafFindings() for leaf in range(256))
    assert engine.scan(LOWEST, HIGHEST, 10_000) == sorted(model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))


def test_a_deletion_is_durable_after_a_sync(engine: Engine, wait_for_sync: Callable[[Engine], None]) -> None:
    engine.put(store_key(6), record(6, 1))
    turn(engine)
    written = engine.position
    engine.delete(store_key(6))
    turn(engine)
    assert engine.position > written
    engine.sync()
    wait_for_sync(engine)
    assert engine.durable >= engine.position


def test_what_is_no_record_is_refused(engine: Engine) -> None:
    damaged = bytearray(record(7, 1))
    damaged[50] ^= 1
    with pytest.raises(ValueError, match="wrong checksum"):
        engine.put(store_key(7), bytes(damaged))
    with pytest.raises(ValueError, match="shorter"):
        engine.put(store_key(7), b"short")
    with pytest.raises(ValueError, match="24 bytes"):
        engine.get(b"short")
    assert engine.get(store_key(7)) is None


def test_statistics_count_puts(engine: Engine) -> None:
    for number in range(10):
        engine.put(store_key(number), record(number, 0))
    turn(engine)
    assert engine.statistics()["puts"] == 10
    assert engine.statistics()["read_only"] is None
    assert engine.read_only is None
    assert engine.failed_fsync is False
    assert engine.fullness == 0
