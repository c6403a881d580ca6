"""What anti-entropy costs and what of it requests feel: `python -m bench.anti_entropy`.

Three nodes on loopback hold keys of 12 bytes with values of 100. In step they compare; then one loses its records, again and again, and is
refilled by the other two. Told are the bytes of comparing per partition and round, the objects sent per key that differed, how long a
refill takes, and the p99 of puts at a fixed rate with a refill going on and without, in turns, each pair as a ratio.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

import dynamo_fast
from bench.cluster import BenchCluster
from bench.compare.rows import Row
from bench.processes import wait_quiet, wait_until

VALUE = bytes(100)
COMPARED_PER_ROUND = 6 * 1024  # partitions: three nodes, each with two others


def command(cluster: BenchCluster, *words: str) -> Any:
    """A command of ours with --json; what it prints."""
    seeds = cluster.cluster.addresses
    given = [*words, "--json", *(seeds if words[0] == "bench" else ("--seeds", ",".join(seeds)))]
    done = subprocess.run([sys.executable, "-m", "dynamo_fast", *given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(given)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def total(cluster: BenchCluster, group: str, name: str) -> int:
    return sum(int(figures[group][name]) for figures in cluster.statistics())


def in_step(cluster: BenchCluster) -> None:
    """Compares until nothing differs any more."""
    while any(report["differing"] or report["failed"] for report in command(cluster, "repair").values()):
        pass


async def fill(cluster: BenchCluster, keys: int) -> None:
    async with dynamo_fast.connect(cluster.cluster.addresses) as db:
        for first in range(0, keys, 10_000):
            await db.put_many({b"cold%08d" % number: VALUE for number in range(first, min(first + 10_000, keys))}, w=3, dw=0)


def lose_records(cluster: BenchCluster) -> None:
    """kill -9 of the third node, its log and LMDB gone, and a start."""
    node = cluster.cluster[2]
    node.kill()
    for name in ("log", "lmdb"):
        shutil.rmtree(node.data_dir / name)
    node.start()
    cluster.cluster.wait_ready()


def put_p99_ms(cluster: BenchCluster, rate: int, seconds: float) -> float:
    """Of puts that are due at a fixed rate, through their first homes."""
    words = ("bench", "--keys", "5000", "--rate", str(rate), "--seconds", str(seconds), "--connections", "20", "--no-verify")
    return float(command(cluster, *words)["run"]["puts"]["p99"]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=2000, help="puts per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for the figures that have a target")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, BenchCluster(Path(scratch)) as cluster:
        trio.run(fill, cluster, given.keys)
        in_step(cluster)
        before = total(cluster, "anti_entropy", "compare_bytes")
        command(cluster, "repair")
        spent = total(cluster, "anti_entropy", "compare_bytes") - before
        print(f"in step: {spent / COMPARED_PER_ROUND:.1f} bytes for each partition and pair of nodes that compare")

        sent = total(cluster, "delivery", "entries_sent")
        began = time.perf_counter()
        lose_records(cluster)
        wait_until(lambda: cluster.statistics()[2]["delivery"]["entries_merged"] >= given.keys, "the refill", 600)
        took = time.perf_counter() - began
        in_step(cluster)
        per_key = (total(cluster, "delivery", "entries_sent") - sent) / given.keys
        print(f"refill of {given.keys:,} keys: {took:.1f} s, start included; {per_key:.3f} objects sent for each key that was missing")

        ratios = []
        for _ in range(given.rounds):
            wait_quiet(cluster.pids)
            without = put_p99_ms(cluster, given.rate, given.seconds)
            lose_records(cluster)
            merged = cluster.statistics()[2]["delivery"]["entries_merged"]
            during = put_p99_ms(cluster, given.rate, given.seconds)
            moved = cluster.statistics()[2]["delivery"]["entries_merged"] - merged
            ratios.append(during / without)
            print(f"put p99 at {given.rate}/s: {without:.2f} ms, {during:.2f} ms while {moved:,} keys came in: {ratios[-1]:.2f}")
            in_step(cluster)
        print(f"put p99 with a refill going on / without: median {statistics.median(ratios):.2f}, asked: at most 1.2")
    if given.json is not None:
        rows = [
            Row("objects sent for each key that was missing", per_key, "objects", 1.05, at_most=True),
            Row("put p99 with a refill going on / without", statistics.median(ratios), "x", 1.2, at_most=True),
        ]
        given.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
