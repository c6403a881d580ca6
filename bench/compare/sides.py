"""The servers that are compared, each with its own keys, and one measurement of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.processes import cpu_seconds, wait_quiet
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import Report
from dynamo_fast.load.target import Target
from dynamo_fast.load.workload import Workload, fill, run, verify


class ComparisonFailed(Exception):
    """A run that does not count: failed requests, siblings, wrong values, or too few checkpoints."""


@dataclass(frozen=True)
class StorageFigures:
    """What the nodes of a cluster say of their storage, one entry per node, each counted since the node's start."""

    puts: list[int]                  # records stored, as coordinator or as replica
    checkpoints: list[int]           # LMDB transactions committed
    records_moved: list[int]         # from the write buffer to LMDB
    log_bytes: list[int]             # left in the log now

    def since(self, before: StorageFigures) -> StorageFigures:
        """The counters as differences; the log as it is now."""
        def less(now: list[int], then: list[int]) -> list[int]:
            return [a - b for a, b in zip(now, then, strict=True)]

        return StorageFigures(less(self.puts, before.puts), less(self.checkpoints, before.checkpoints),
                              less(self.records_moved, before.records_moved), self.log_bytes)


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
    """Put every key once and wait until the servers have digested it."""
    require(side, fill(side.target, side.keys, workload))
    wait_quiet(side.pids)


def check(side: Side, workload: Workload) -> None:
    """Read every key back: values and siblings."""
    require(side, verify(side.target, side.keys, workload))


def measure(side: Side, workload: Workload, checkpoints_min: int = 0) -> Measurement:
    """One run, and the CPU it cost the servers up to the moment they are quiet again.

    Warm-up requests cost CPU too, so the cost is spread over all requests that were answered. Raises ComparisonFailed.
    """
    storage_before = side.storage() if side.storage else None
    cpu_before_s = cpu_seconds(side.pids)
    report = require(side, run(side.target, side.keys, workload))
    storage = side.storage().since(storage_before) if side.storage and storage_before else None
    if storage is not None and min(storage.checkpoints) < checkpoints_min:
        raise ComparisonFailed(f"{side.name}: a run must span {checkpoints_min} checkpoints on each node, not {storage.checkpoints}")
    wait_quiet(side.pids)
    cpu_us = (cpu_seconds(side.pids) - cpu_before_s) * 1e6 / report.answered
    return Measurement(side.name, report, cpu_us, storage)
