"""What a store, a log write and a find cost, through the Python face of the engines; `python -m bench.storage` has the long runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.storage import PASS_PUTS, records, store_keys, tick
from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import decode_record, encode_record, encode_store_key
from dynamo_fast.storage.settings import StorageSettings

KEYS = store_keys(100_000)
RECORDS = records(1000)


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """With 100,000 records of a value of 100 bytes in its write buffer."""
    bounds = StorageSettings(checkpoint_fill=1e9, log_bytes_max=1 << 40)
    opened: Engine = MemoryEngine() if request.param == "memory" else LmdbEngine(tmp_path, Disk(), bounds)
    for number, key in enumerate(KEYS):
        opened.put(key, RECORDS[number % 1000], 0)
        if number % PASS_PUTS == 0:
            opened.flush()
    opened.flush()
    yield opened
    opened.close()


@pytest.mark.benchmark(group="32 puts and their log write")
def test_put(benchmark: BenchmarkFixture, engine: Engine) -> None:
    """A random key that is in the buffer; every 32nd put ends a pass."""
    numbers = itertools.count()

    def put_32() -> None:
        for number in itertools.islice(numbers, PASS_PUTS):
            engine.put(KEYS[number * 7919 % len(KEYS)], RECORDS[number % 1000], 1)
        engine.flush()

    benchmark(put_32)


@pytest.mark.benchmark(group="find")
def test_find(benchmark: BenchmarkFixture, engine: Engine) -> None:
    numbers = itertools.count()
    assert benchmark(lambda: engine.get(KEYS[next(numbers) * 7919 % len(KEYS)])) is not None


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[LmdbEngine]:
    """With 100,000 records, all in LMDB."""
    opened = LmdbEngine(tmp_path, Disk(), StorageSettings(checkpoint_fill=0.0))
    for number, key in enumerate(KEYS):
        opened.put(key, RECORDS[number % 1000], 0)
    opened.flush()
    while opened.statistics()["buffer_records"]:
        tick(opened)
    yield opened
    opened.close()


@pytest.mark.benchmark(group="find")
def test_find_in_lmdb(benchmark: BenchmarkFixture, moved: LmdbEngine) -> None:
    numbers = itertools.count()
    assert benchmark(lambda: moved.get(KEYS[next(numbers) * 7919 % len(KEYS)])) is not None


def test_scan_of_a_partition(benchmark: BenchmarkFixture, moved: LmdbEngine) -> None:
    assert len(benchmark(moved.scan, bytes([5]) + bytes(23), bytes([5, 64]) + bytes(22), 1000)) > 50


def test_encode_and_decode_a_record(benchmark: BenchmarkFixture) -> None:
    assert benchmark(lambda: decode_record(encode_record(b"key", bytes(200), hash=1))).hash == 1


def test_encode_a_store_key(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(encode_store_key, bytes(16), bytes(16), b"a key of usual length", b"")) == 24
