"""The contract of engines as a suite, run over each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.schema import encode_record
from tests.storage.engines import ENGINES, turn
from tests.storage.records import HIGHEST, LOWEST, forest_of, hash_of, record, roots, store_key

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
