"""What a preference list costs, and how that compares with `uhashring`'s get_node, which finds one node by MD5 and bisection.

`pytest bench/bench_ring.py` times our lookups. `python -m bench.bench_ring` times both libraries in turns over 1,000,000
distinct keys, prints the ratios, and exits with 1 when one is below its floor (`--one-min`, `--batch-min`). Our cost does not
grow with the number of nodes, theirs does. One key alone costs little more than MD5 itself, whose 64 steps wait for each
other: some 90 of 125 ns, and 23 more are the loop and an empty call.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import pytest
import uhashring
from pytest_benchmark.fixture import BenchmarkFixture

from dynamo_fast.core.digest import md5
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.ring import BasicRing, Ring
from dynamo_fast.core.succession import next_placement

PARTITIONS = 1024
REPLICAS = 3
BATCH = 1_000


def members(count: int, zones: int = 1) -> list[Member]:
    return [Member(md5(b"%d" % node), f"host-{node}", f"zone-{node % zones}") for node in range(count)]


def ring(nodes: int) -> Ring:
    return first_placement(members(nodes), PARTITIONS, REPLICAS).ring()


@pytest.mark.benchmark(group="preference list of a key")
def test_preference_list_of_one_key(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(ring(10).preference_list, b"customer-0000001")) == REPLICAS


def test_preference_list_of_one_key_in_a_bucket(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(ring(10).preference_list, b"customer-0000001", b"carts")) == REPLICAS


@pytest.mark.parametrize("key_bytes", [16, 250])
def test_preference_lists_of_a_batch(benchmark: BenchmarkFixture, key_bytes: int) -> None:
    batch = [b"%0*d" % (key_bytes, number) for number in range(BATCH)]
    assert len(benchmark(ring(10).preference_lists, batch)) == BATCH


@pytest.mark.benchmark(group="preference list of a key")
def test_basic_ring_walk(benchmark: BenchmarkFixture) -> None:
    basic = BasicRing([(md5(b"%d-%d" % (node, token)), node) for node in range(10) for token in range(100)])
    assert len(benchmark(basic.preference_list, b"customer-0000001", REPLICAS)) == REPLICAS


@pytest.mark.parametrize(("nodes", "partitions"), [(10, 1024), (200, 4096)])
def test_first_placement(benchmark: BenchmarkFixture, nodes: int, partitions: int) -> None:
    placement = benchmark.pedantic(first_placement, (members(nodes, zones=3), partitions, REPLICAS), rounds=5, warmup_rounds=1)
    assert placement.partitions == partitions


@pytest.mark.parametrize(("nodes", "partitions"), [(10, 1024), (200, 4096)])
def test_next_placement(benchmark: BenchmarkFixture, nodes: int, partitions: int) -> None:
    before, after = members(nodes, zones=3), members(nodes + 1, zones=3)
    parent = first_placement(before, partitions, REPLICAS)
    placement = benchmark.pedantic(next_placement, (parent, before, after, REPLICAS), rounds=5, warmup_rounds=1)
    assert len(placement.node_ids) == nodes + 1


def seconds(call: Callable[..., object], items: Sequence[object]) -> float:
    started = time.perf_counter()
    for item in items:
        call(item)
    return time.perf_counter() - started


def compare(keys: int, nodes: int, round_keys: int) -> dict[str, float]:
    """Median nanoseconds per key of each way. The ways take turns, so that what else the machine does falls on all of them;
    each comes first as often as the others, since the first to touch a key fetches it from memory for all."""
    ours = ring(nodes)
    theirs = uhashring.HashRing(nodes=[f"node-{node}" for node in range(nodes)])
    texts = [f"customer-{number:07d}" for number in range(keys)]
    names = [text.encode() for text in texts]
    rounds: dict[str, list[float]] = {"get_node": [], "one": [], "batch": []}
    for turn, first in enumerate(range(0, keys, round_keys)):
        last = first + round_keys
        batches = [names[i : i + BATCH] for i in range(first, last, BATCH)]
        ways = [
            ("get_node", theirs.get_node, texts[first:last]),
            ("one", ours.preference_list, names[first:last]),
            ("batch", ours.preference_lists, batches),
        ]
        for name, call, items in ways[turn % 3 :] + ways[: turn % 3]:
            rounds[name].append(seconds(call, items))
    return {name: statistics.median(each) / round_keys * 1e9 for name, each in rounds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="distinct keys in all")
    parser.add_argument("--round-keys", type=int, default=20_000, help="keys of one turn, a multiple of 1000")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--one-min", type=float, default=12.0, help="least ratio for one key")
    parser.add_argument("--batch-min", type=float, default=40.0, help="least ratio per key in batches of 1000")
    options = parser.parse_args()
    found = compare(options.keys, options.nodes, options.round_keys)
    print(f"uhashring get_node  {found['get_node']:7.0f} ns a key, {options.nodes} nodes, {options.keys:,} distinct keys")
    failed = False
    for name, text, floor in (("one", "one key", options.one_min), ("batch", "batches of 1000", options.batch_min)):
        ratio = found["get_node"] / found[name]
        failed |= ratio < floor
        verdict = "ok" if ratio >= floor else "MISSED"
        print(f"{text:<19} {found[name]:7.0f} ns a key: {ratio:5.1f} times faster, {floor:g} wanted, {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
