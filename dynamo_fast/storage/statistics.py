"""What an engine with a disk says of itself: for `status`, for metrics, and for whoever wonders where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_fast.storage.lmdb_engine import LmdbEngine


def engine_statistics(engine: LmdbEngine) -> dict[str, object]:
    """Counts are since the engine was opened; `log_`, `lmdb_` and `buffer_` are what is held now; `_ns` are quantiles of nanoseconds."""
    log, buffer, checkpoints = engine.log, engine.buffer, engine.checkpoints
    lmdb_records, lmdb_bytes = engine.snapshot.size()
    return {
        "engine": "lmdb",
        "puts": engine.puts,
        "removals": engine.removals,
        "finds_in_lmdb": engine.snapshot.finds,
        "lmdb_records": lmdb_records,
        "lmdb_bytes": lmdb_bytes,
        "log_bytes": log.bytes,
        "log_bytes_left": max(0, engine.settings.log_bytes_max - log.bytes),
        "log_unsynced_bytes": engine.position - engine.durable,
        "log_syncs": log.commit.syncs,
        "buffer_records": buffer.records,
        "buffer_removed": buffer.removed,
        "buffer_bytes": buffer.memory_bytes,
        "buffer_bytes_max": engine.settings.write_buffer_bytes_max,
        "checkpoints": checkpoints.done,
        "records_moved": checkpoints.records_moved,
        "bytes_moved": checkpoints.bytes_moved,
        "helper_cpu_seconds": checkpoints.helper_cpu_ns / 1e9,
        "helper_pid": checkpoints.mover.pid,
        "checkpoint_trouble": checkpoints.trouble,
        "pass_ns": engine.pass_ns.as_dict(),
        "tick_ns": engine.tick_ns.as_dict(),
        "rot_found": engine.rot_found,
        "leaves_corrected": engine.leaves_corrected,
        "suspect_partitions": len(engine.suspects),
        "read_only": engine.read_only,
    }
