"""Ten minutes of puts over a million keys: what checkpoints do to the slowest requests, and whether throughput lasts.

Each load, closed loop and open loop at 60 % of the peak, runs twice on a new cluster: once with checkpoints as they
come, once with a log and a write buffer so large that none is due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.cluster import BenchCluster
from bench.compare.rows import Row, latency
from bench.compare.sides import CHECKPOINTS_MIN, ComparisonFailed, Measurement, Side, check, measure, prepare, require
from bench.compare.storage import HELD_BACK, storage_figures
from bench.processes import wait_quiet
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.target import DynamoTarget
from dynamo_fast.load.workload import Workload, fill

KEYS = 1_000_000
OPEN_LOOP_SHARE = 0.6    # of the depth-1 peak
PEAK_SECONDS = 10.0


def soak_rows(directory: Path, seconds: float, say: Callable[[str], None], keys: int) -> tuple[list[Row], dict[str, list[Measurement]]]:
    """The soak's rows and its runs by name. Raises ComparisonFailed."""
    closed = Workload(seconds=seconds, warmup_s=2.0)
    peak = 0.0
    rows: list[Row] = []
    measurements: dict[str, list[Measurement]] = {}
    for mode in ("closed loop", "open loop"):
        found: dict[str, Measurement] = {}
        for checkpoints, settings in (("with checkpoints", {}), ("held back", HELD_BACK)):
            name = f"soak {mode}, {checkpoints}"
            with BenchCluster(directory / name.replace(" ", "-").replace(",", ""), settings=settings) as cluster:
                side = soak_side(name, cluster, keys)
                if settings is HELD_BACK:
                    require(side, fill(side.target, side.keys, closed))
                    wait_quiet(side.pids)
                else:
                    prepare(side, closed)
                if not peak:
                    peak = measure(side, replace(closed, seconds=min(seconds, PEAK_SECONDS))).report.rate_per_s
                    say(f"depth-1 peak over {keys:,} keys: {peak:,.0f}/s")
                workload = closed if mode == "closed loop" else replace(closed, rate_per_s=peak * OPEN_LOOP_SHARE)
                measurement = measure(side, workload)
                check(side, closed)
            require_checkpoints(measurement, wanted=checkpoints == "with checkpoints")
            found[checkpoints] = measurement
            measurements[name] = [measurement]
            say(f"{name}: {measurement.report.rate_per_s:,.0f}/s, p99.9 {latency(measurement)['p999'] / 1e6:.2f} ms, {measurement.storage}")
        rows += [
            Row(f"soak {seconds:g} s, {mode}: p99.9 / with checkpoints held back",
                latency(found["with checkpoints"])["p999"] / latency(found["held back"])["p999"], "x", 3, at_most=True),
            Row(f"soak {seconds:g} s, {mode}: last minute / first", last_to_first(found["with checkpoints"]), "x", 0.95),
        ]
    return rows, measurements


def soak_side(name: str, cluster: BenchCluster, keys: int) -> Side:
    target = DynamoTarget(cluster.servers, w=2, dw=0, r=2)
    return Side(name, target, KeySpace(keys, 100, 100), cluster.pids, lambda: storage_figures(cluster))


def require_checkpoints(measurement: Measurement, wanted: bool) -> None:
    assert measurement.storage is not None
    spanned = measurement.storage.checkpoints
    if min(spanned) < CHECKPOINTS_MIN if wanted else max(spanned) > 0:
        raise ComparisonFailed(f"{measurement.side}: it spanned {spanned} checkpoints on its nodes")


def last_to_first(measurement: Measurement) -> float:
    """Throughput of the last minute over the first; of the last tenth in runs shorter than ten minutes."""
    per_second = measurement.report.per_second
    span = max(1, min(60, len(per_second) // 10))
    return sum(per_second[-span:]) / sum(per_second[:span])
