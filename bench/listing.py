"""How fast the Python client lists keys, and what an empty store costs it: `python -m bench.listing`.

Three nodes with N=3 R=2 on loopback, keys of 16 bytes and values of 100. The first figure is of a store without a key, where all there is
to do is to ask every partition; the others list the same keys again and again. Medians; exits with 1 when a listing is not complete.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

import dynamo_fast
from bench.cluster import BenchCluster

VALUE = bytes(100)


def asked(cluster: BenchCluster) -> int:
    """Control requests that the nodes have answered until now, the one that tells us this included."""
    return sum(int(figures["control"]["answered"]) for figures in cluster.statistics())


async def listed(db: dynamo_fast.Client) -> tuple[int, float]:
    """The keys of one listing and the seconds it took."""
    began, count = time.perf_counter(), 0
    async for _ in db.keys():
        count += 1
    return count, time.perf_counter() - began


async def measure(cluster: BenchCluster, keys: int, rounds: int) -> bool:
    async with dynamo_fast.connect(cluster.cluster.addresses) as db:
        empty = [await listed(db) for _ in range(rounds)]
        for first in range(0, keys, 10_000):
            await db.put_many({b"key:%012d" % number: VALUE for number in range(first, min(first + 10_000, keys))}, dw=0)
        before = asked(cluster)
        full = [await listed(db) for _ in range(rounds)]
        requests = (asked(cluster) - before - len(cluster.pids)) / rounds
    seconds = statistics.median(took for _, took in full)
    print(f"an empty store   {statistics.median(took for _, took in empty) * 1000:9.1f} ms")
    print(f"{keys:,} keys".ljust(17) + f"{seconds * 1000:9.1f} ms, {keys / seconds:,.0f} keys/s, {requests:,.0f} control requests")
    return all(count == 0 for count, _ in empty) and all(count == keys for count, _ in full)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, BenchCluster(Path(scratch)) as cluster:
        complete = trio.run(measure, cluster, given.keys, given.rounds)
    sys.exit(0 if complete else "a listing was not complete")


if __name__ == "__main__":
    main()
