"""Table 2 of the paper: a client that sends each request straight to a home of its key, against one behind a load balancer.

The paper's client-driven coordination lowered the 99.9th percentile by 30 ms or more (reads 68.9 to 30.4, writes 68.5 to 30.4) and the
averages by 2 to 3 ms (3.9 to 1.55, 4.02 to 1.9), since no request is forwarded. Here the same client runs in both of its modes against
six processes, so that half of all nodes are no home of a given key; the modes take turns. Judged is the direction of the median: at
the 99.9th percentile a machine shared with other work says little.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bench.cluster import BenchCluster
from bench.paper.rows import Row
from dynamo_fast.client.client import Client, connect
from dynamo_fast.core.histogram import Histogram

NODES = 6
KEYS = 2_000
VALUE = b"v" * 1_000
CALLERS = 4         # requests in flight
ROUNDS = 4
ROUND_S = 1.5
MODES = {"client-driven": True, "server-driven": False}   # by whether the client knows the placement
PAPER_P999_MS = {"client-driven": {"get": 30.4, "put": 30.4}, "server-driven": {"get": 68.9, "put": 68.5}}
PAPER_MEAN_MS = {"client-driven": {"get": 1.55, "put": 1.9}, "server-driven": {"get": 3.9, "put": 4.02}}


@dataclass
class Latencies:
    """Of one operation in one mode, all rounds together, and the median of each round; ns."""

    all: Histogram = field(default_factory=Histogram)
    p50s_ns: list[int] = field(default_factory=list)


Found = dict[tuple[str, str], Latencies]


def measure(say: Callable[[str], None], rounds: int = ROUNDS, round_s: float = ROUND_S) -> Found:
    found: Found = {(mode, operation): Latencies() for mode in MODES for operation in ("get", "put")}
    with tempfile.TemporaryDirectory() as scratch, BenchCluster(Path(scratch), NODES) as cluster:
        for number in range(rounds):
            for mode, aware in MODES.items():
                taken = trio.run(one_round, cluster.cluster.addresses, aware, round_s)
                for operation, histogram in taken.items():
                    found[mode, operation].all.merge(histogram)
                    found[mode, operation].p50s_ns.append(histogram.quantile(0.5))
            say(f"Table 2: round {number + 1} of {rounds}")
    return found


async def one_round(seeds: list[str], aware: bool, seconds: float) -> dict[str, Histogram]:
    taken = {"get": Histogram(), "put": Histogram()}
    async with connect(seeds, partition_aware=aware, deadline_s=5.0) as db:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for caller in range(CALLERS):
                    nursery.start_soon(call, db, random.Random(caller), taken)
    return taken


async def call(db: Client, rng: random.Random, taken: dict[str, Histogram]) -> None:
    clock = trio.lowlevel.current_clock()
    while True:
        key = f"key:{rng.randrange(KEYS)}"
        started = clock.current_time()
        await db.put(key, VALUE, overwrite=True)
        between = clock.current_time()
        await db.get(key)
        taken["put"].record(int((between - started) * 1e9))
        taken["get"].record(int((clock.current_time() - between) * 1e9))


def rows(found: Found) -> list[Row]:
    made = []
    for operation in ("get", "put"):
        p50 = {mode: statistics.median(found[mode, operation].p50s_ns) / 1e6 for mode in MODES}
        ok = p50["client-driven"] < p50["server-driven"]
        for mode in MODES:
            latencies = found[mode, operation].all
            mean, p999 = latencies.mean / 1e6, latencies.quantile(0.999) / 1e6
            made += [
                Row("Table 2", f"{operation} p50, {mode}", p50[mode], None, ok, "client-driven is lower", "ms"),
                Row("Table 2", f"{operation} mean, {mode}", mean, PAPER_MEAN_MS[mode][operation], True, "for information", "ms"),
                Row("Table 2", f"{operation} p99.9, {mode}", p999, PAPER_P999_MS[mode][operation], True, "for information", "ms"),
            ]
    return made
