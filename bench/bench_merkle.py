"""What trees cost a write, a comparison of replicas that agree, and one of replicas that do not."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dynamo_fast.core.digest import md5
from dynamo_fast.core.merkle import Forest, entry_hash

PARTITIONS = 1024
LEAVES = 256


def grown(entries: int) -> Forest:
    forest = Forest(PARTITIONS, LEAVES)
    for number in range(entries):
        position = md5(b"%d" % number)
        forest.replace(position, 0, entry_hash(position, b"object"))
    return forest


def test_update(benchmark: BenchmarkFixture) -> None:
    forest = grown(1000)
    benchmark(forest.replace, md5(b"7"), 1, 2)


def test_update_and_root(benchmark: BenchmarkFixture) -> None:
    forest, position = grown(1000), md5(b"7")
    partition, _ = forest.place(position)

    def update_and_look() -> int:
        forest.replace(position, 1, 2)
        return forest.root(partition)

    assert benchmark(update_and_look) != 0


@pytest.mark.parametrize("object_bytes", [200, 4096])
def test_entry_hash(benchmark: BenchmarkFixture, object_bytes: int) -> None:
    assert benchmark(entry_hash, bytes(16), bytes(object_bytes)) != 0


def test_roots_of_all_partitions(benchmark: BenchmarkFixture) -> None:
    forest = grown(20_000)
    assert len(benchmark(lambda: [forest.root(partition) for partition in range(PARTITIONS)])) == PARTITIONS


@pytest.mark.parametrize("differing", [0, 1, 40])
def test_diff(benchmark: BenchmarkFixture, differing: int) -> None:
    left, right = grown(20_000), grown(20_000)
    for number in range(differing):
        right.replace((number * (1 << 64) // PARTITIONS // 41).to_bytes(8, "big") + bytes(8), 0, 1 + number)
    assert len(benchmark(left.diff, right, 0)) == differing


def test_leaves_kept_and_loaded(benchmark: BenchmarkFixture) -> None:
    forest = grown(20_000)
    benchmark(lambda: forest.load(0, forest.leaves(0)))
