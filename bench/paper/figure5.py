"""Figure 5 of the paper: writes that wait for the page cache only (buffered) against writes that wait for disks, over time.

The paper's object buffer lowers the 99.9th percentile of writes by a factor of 5 at peak load and smooths it; durability is
kept by letting one of the N replicas write through. Here the buffered write is DW=0 and the durable one DW=2, against one cluster of
three processes, in slices that take turns, so that what else the machine does falls on both. An open loop: a latency counts from
when the write was due. What is judged is the direction: a disk of today is no disk of 2007.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import BenchCluster
from bench.paper.rows import Row
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.target import DynamoTarget
from dynamo_fast.load.workload import Workload, fill, run

KEYS = 20_000
VALUE_BYTES = 1_000
RATE_PER_S = 500.0   # far from what saturates either way: latency, not throughput
SLICES = 10
SLICE_S = 1.0
BUFFERED, DURABLE = 0, 2
PAPER_FACTOR = 5.0


@dataclass(frozen=True)
class Slice:
    """One second of one kind of write; latencies in ms."""

    dw: int
    p50_ms: float
    p999_ms: float


def measure(say: Callable[[str], None], slices: int = SLICES) -> list[Slice]:
    found: list[Slice] = []
    with tempfile.TemporaryDirectory() as scratch, BenchCluster(Path(scratch)) as cluster:
        keys = KeySpace(KEYS, VALUE_BYTES, VALUE_BYTES)
        targets = {dw: DynamoTarget(cluster.servers, w=2, dw=dw) for dw in (BUFFERED, DURABLE)}
        fill(targets[BUFFERED], keys, Workload())
        for number in range(slices):
            for dw in (BUFFERED, DURABLE) if number % 2 else (DURABLE, BUFFERED):
                workload = Workload(connections=16, rate_per_s=RATE_PER_S, warmup_s=0.2, seconds=SLICE_S, seed=number + 1)
                report = run(targets[dw], keys, workload)
                if report.problems or report.puts is None:
                    raise RuntimeError(f"writes with DW={dw} went wrong: {'; '.join(report.problems)}")
                found.append(Slice(dw, report.puts["p50"] / 1e6, report.puts["p999"] / 1e6))
            say(f"Figure 5: slice {number + 1} of {slices}")
    return found


def rows(found: list[Slice]) -> list[Row]:
    made = []
    for dw, name in ((BUFFERED, "buffered (DW=0)"), (DURABLE, "durable (DW=2)")):
        ours = [one for one in found if one.dw == dw]
        p50, p999 = (statistics.median(figures) for figures in zip(*((one.p50_ms, one.p999_ms) for one in ours), strict=True))
        made.append(Row("Figure 5", f"write p50, {name}", p50, None, True, "for information", "ms"))
        made.append(Row("Figure 5", f"write p99.9, {name}", p999, None, True, "for information", "ms"))
    pairs = zip(*([one.p999_ms for one in found if one.dw == dw] for dw in (DURABLE, BUFFERED)), strict=True)
    factor = statistics.median(durable / buffered for durable, buffered in pairs)   # of neighbours in time
    made.append(Row("Figure 5", "p99.9 durable over buffered", factor, PAPER_FACTOR, factor > 1, "buffered is lower", "x"))
    return made
