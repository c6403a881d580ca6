"""The bounds of an engine with a disk."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class StorageSettings:
    """Bytes and seconds; `node/config.py` has the bounds of those that a user may set."""

    log_bytes_max: int = 512 * MIB  # of log that recovery would have to read; at it puts are refused
    log_segment_bytes: int = 32 * MIB  # after which a new file begins
    write_buffer_bytes_max: int = 256 * MIB  # of records in memory that are not in LMDB; at it puts are refused
    lmdb_map_bytes: int = 1 << 40  # address space for LMDB, and so the most it may hold
    sync_seconds: float = 1.0  # the log is never longer behind the disk than this and one fdatasync
    checkpoint_fill: float = 0.5  # of log or buffer, from which on ranges are moved to LMDB
    soft_fill: float = 0.8  # of log or buffer, from which on puts are slowed down
    replay_visit_bytes: int = 64 * MIB  # of the log's end whose records a ReplayVisitor is shown
