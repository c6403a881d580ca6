"""How our nodes' storage is set up for comparisons, and how its figures are read from their status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.cluster import BenchCluster

MIB = 1 << 20
# The comparison runs nodes as users do, on the defaults. Here the log and the buffer are so large that no checkpoint is
# due within the soak.
HELD_BACK: dict[str, dict[str, Any]] = {
    "storage": {"log_bytes_max": 256 << 30, "log_segment_bytes": 256 * MIB, "write_buffer_bytes_max": 64 << 30},
}


@dataclass(frozen=True)
class StorageFigures:
    """What the nodes of a cluster say of their storage, one entry per node, each counted since the node's start."""

    puts: list[int]                  # records stored, as coordinator or as replica
    checkpoints: list[int]           # ranges moved to LMDB
    records_moved: list[int]         # from the write buffer to LMDB
    log_bytes: list[int]             # left in the log now

    def since(self, before: StorageFigures) -> StorageFigures:
        """The counters as differences; the log as it is now."""
        def less(now: list[int], then: list[int]) -> list[int]:
            return [a - b for a, b in zip(now, then, strict=True)]

        return StorageFigures(less(self.puts, before.puts), less(self.checkpoints, before.checkpoints),
                              less(self.records_moved, before.records_moved), self.log_bytes)


def storage_figures(cluster: BenchCluster) -> StorageFigures:
    """The figures now. Raises OSError when a node does not answer."""
    nodes = [statistics["storage"] for statistics in cluster.statistics()]
    return StorageFigures(*([node[name] for node in nodes] for name in ("puts", "checkpoints", "records_moved", "log_bytes")))
