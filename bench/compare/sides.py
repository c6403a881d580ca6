"""The servers that are compared, each with its own keys, and one measurement of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.compare.storage import StorageFigures
from bench.processes import cpu_seconds, wait_quiet
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import Report
from dynamo_fast.load.target import Target
from dynamo_fast.load.workload import Workload, fill, run, verify

CHECKPOINTS_MIN = 3      # on each node, in every timed run of puts
PREPARE_SECONDS = 2.0
DOUBLINGS = 5


class ComparisonFailed(Exception):
    """A run that does not count: failed requests, siblings, wrong values, or too few checkpoints."""


@dataclass
class Side:
    """One kind of server and how it is asked. Sides of the same servers share `keys`, and with them the contexts."""

    name: str
    target: Target
    keys: KeySpace
    pids: Sequence[int]                                   # their children count as well
    storage: Callable[[], StorageFigures] | None = None   # of our own sides


@dataclass(frozen=True)
class Measurement:
    """One timed run."""

    side: str
    seconds: float                   # asked for
    report: Report
    server_cpu_us: float             # CPU of all server processes per request, until what they put off was done as well
    storage: StorageFigures | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        figures = self.report.as_dict()
        del figures["per_second"]
        return {"side": self.side, "server_cpu_us": self.server_cpu_us, **figures, "storage": self.storage and asdict(self.storage)}


def require(side: Side, report: Report) -> Report:
    if report.problems:
        raise ComparisonFailed(f"{side.name}: " + "; ".join(report.problems))
    return report


def prepare(side: Side, workload: Workload) -> None:
    """Put every key once and, on our sides, go on until checkpoints come as they will come later; then wait for quiet."""
    require(side, fill(side.target, side.keys, workload))
    while side.storage is not None and min(side.storage().checkpoints) < CHECKPOINTS_MIN:
        require(side, run(side.target, side.keys, replace(workload, seconds=PREPARE_SECONDS, depth=16)))
    wait_quiet(side.pids)


def check(side: Side, workload: Workload) -> None:
    """Read every key back: values and siblings."""
    require(side, verify(side.target, side.keys, workload))


def measure(side: Side, workload: Workload) -> Measurement:
    """One run, and the CPU it cost the servers up to the moment they are quiet again.

    Warm-up requests cost CPU too, so the cost is spread over all requests that were answered. Raises ComparisonFailed.
    """
    storage_before = side.storage() if side.storage else None
    cpu_before_s = cpu_seconds(side.pids)
    report = require(side, run(side.target, side.keys, workload))
    storage = side.storage().since(storage_before) if side.storage and storage_before else None
    wait_quiet(side.pids)
    cpu_us = (cpu_seconds(side.pids) - cpu_before_s) * 1e6 / report.answered
    return Measurement(side.name, workload.seconds, report, cpu_us, storage)


def measure_with_checkpoints(side: Side, workload: Workload) -> Measurement:
    """A run that spans CHECKPOINTS_MIN checkpoints on each node: one that does not is repeated, twice as long."""
    for _ in range(DOUBLINGS):
        measurement = measure(side, workload)
        assert measurement.storage is not None
        if min(measurement.storage.checkpoints) >= CHECKPOINTS_MIN:
            return measurement
        workload = replace(workload, seconds=workload.seconds * 2)
    raise ComparisonFailed(f"{side.name}: no run of up to {workload.seconds / 2:g} s spanned {CHECKPOINTS_MIN} checkpoints on each node")
