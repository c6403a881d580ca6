"""The tables in LMDB, as the node reads them and the helper process writes them.

    records   store key (24 bytes) -> record
    leaves    partition (u32, big-endian) -> 256 u64: the leaves of the Merkle tree of what `records` holds; no row for nothing
    moved     range (u8, the top 4 bits of a store key) -> 16 u64: for each value of the 4 bits after, the log position
              below which all records are in `records`

Every transaction writes all three, so each describes the others exactly, whenever the power fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import lmdb

RANGES = 16  # of the key space, by the top 4 bits of a store key: the write buffer's
GRANULES = 16  # of a range: what a transaction of the helper moves is some of them
MOVED_ROW_BYTES = 8 * GRANULES

# LMDB 1.0 would write a new format, and be bound by other limits: the old engine, where py-lmdb carries both.
ENGINE: dict[str, Any] = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}


class Tables(NamedTuple):
    """An open LMDB environment. Only one may be open in a process, and it must not cross a fork."""

    environment: lmdb.Environment
    records: lmdb._Database
    leaves: lmdb._Database
    moved: lmdb._Database


def open_tables(path: Path, map_bytes: int) -> Tables:
    """Opens the tables, and makes them where there are none. lmdb.Error when they cannot be read or made."""
    environment = lmdb.open(
        str(path),
        map_size=map_bytes,
        subdir=True,
        max_dbs=3,
        max_readers=64,
        max_spare_txns=1,
        readahead=False,
        meminit=False,
        **ENGINE,
    )
    try:
        environment.reader_check()  # a killed reader would keep old pages for ever
        # Makes the tables that are missing; where none is, nothing is written, so that a full disk can still be read.
        return Tables(environment, *(environment.open_db(name) for name in (b"records", b"leaves", b"moved")))
    except BaseException:
        environment.close()
        raise


def open_read_only(path: Path) -> Tables:
    """Opens tables that nobody else uses, and makes and changes no file. lmdb.Error when they are not there, or cannot be read."""
    environment = lmdb.open(str(path), readonly=True, lock=False, create=False, subdir=True, max_dbs=3, readahead=True, **ENGINE)
    try:
        return Tables(environment, *(environment.open_db(name, create=False) for name in (b"records", b"leaves", b"moved")))
    except BaseException:
        environment.close()
        raise
