"""The helper process: takes ranges of the node's write buffer into LMDB, one request after another, at low priority.

Started by `mover` as `python -m dynamo_fast.storage.helper`; requests come on standard input, answers go to standard
output, both as in `messages` below. It dies with its parent, and may be killed at any time: a transaction that has not
been committed is not there.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import lmdb

from dynamo_fast.disk import Disk
from dynamo_fast.storage.checkpoint import Checkpointer
from dynamo_fast.storage.mover import COMMITTED, DONE, FAILED, LEAF, REPLY, REQUEST
from dynamo_fast.storage.tables import open_tables

NICENESS = 10
PR_SET_PDEATHSIG = 1


def cpu_ns() -> int:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def yield_the_processor() -> None:
    """Nodes come first. Where the kernel shares the processor among sessions (sched_autogroup), niceness counts only within one, and we
    have one of our own: there the session has to be nice as well."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:  # a kernel without it has no such file
        group.write(str(NICENESS))


def answer(output: BinaryIO, kind: int, range_index: int, records: int, record_bytes: int, text: str = "") -> None:
    encoded = text.encode()[:1000]
    output.write(REPLY.pack(kind, range_index, records, record_bytes, cpu_ns(), len(encoded)) + encoded)
    output.flush()


def serve(checkpointer: Checkpointer, source: BinaryIO, output: BinaryIO) -> None:
    """Until the node closes its end."""
    while header := source.read(REQUEST.size):
        range_index, position, stretch_bytes, leaf_bytes = REQUEST.unpack(header)
        stretches, leaves = source.read(stretch_bytes), source.read(leaf_bytes)
        records, record_bytes = 0, 0
        try:
            for moved, moved_bytes in checkpointer.move(range_index, position, stretches):
                records += moved
                record_bytes += moved_bytes
                answer(output, COMMITTED, range_index, moved, moved_bytes)
            for partition, leaf in LEAF.iter_unpack(leaves):
                checkpointer.sum_up(partition, leaf)
        except (lmdb.Error, OSError, MemoryError) as error:
            answer(output, FAILED, range_index, records, record_bytes, f"{type(error).__name__}: {error}")
        else:
            answer(output, DONE, range_index, records, record_bytes)


def main(arguments: list[str]) -> None:
    """Arguments: LMDB's directory, its map size, the region's descriptor and size, partitions, bytes of a transaction, the node's id."""
    path = Path(arguments[0])
    map_bytes, region_fd, region_bytes, partitions, transaction_bytes, parent = map(int, arguments[1:])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it was gone before we asked to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends us
    yield_the_processor()
    lock = Disk().lock(path / "helper.lock")
    tables = open_tables(path, map_bytes)
    region = mmap.mmap(region_fd, region_bytes, prot=mmap.PROT_READ)
    try:
        serve(Checkpointer(tables, region, partitions, transaction_bytes), sys.stdin.buffer, sys.stdout.buffer)
    finally:
        tables.environment.close()
        lock.close()


if __name__ == "__main__":
    main(sys.argv[1:])
