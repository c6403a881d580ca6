"""How our nodes' storage is set up for comparisons, and how its figures are read from their status."""

from __future__ import annotations

from typing import Any

from bench.cluster import BenchCluster
from bench.compare.sides import StorageFigures

Settings = dict[str, dict[str, Any]]

MIB = 1 << 20

# 100,000 keys: limits low enough that a run of seconds spans several checkpoints.
SETTINGS: Settings = {"storage": {"log_bytes_max": 64 * MIB, "log_segment_bytes": 4 * MIB, "write_buffer_bytes_max": 32 * MIB}}
# 1,000,000 keys: as users run it.
SETTINGS_SOAK: Settings = {}
# So large that no checkpoint is due within the soak.
SETTINGS_HELD_BACK: Settings = {
    "storage": {"log_bytes_max": 256 << 30, "log_segment_bytes": 256 * MIB, "write_buffer_bytes_max": 64 << 30},
}


def storage_figures(cluster: BenchCluster) -> StorageFigures:
    nodes = [statistics["storage"] for statistics in cluster.statistics()]
    return StorageFigures(
        puts=[node["stores"] for node in nodes],
        checkpoints=[node["checkpoints"] for node in nodes],
        records_moved=[node["records_moved"] for node in nodes],
        log_bytes=[node["log_bytes"] for node in nodes],
    )
