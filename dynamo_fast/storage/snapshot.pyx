"""LMDB as the node sees it: the tables as of the last commit of the helper process that the node has heard of.

The node only reads them, in one transaction that stays open from one `renew` to the next: a find then takes no lock, and
sees the leaves and the log positions that go with the records. What the helper commits in between stays unseen, and in the
write buffer, where it is found first.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_GET_BUFFER

from dynamo_fast.storage.engine cimport FIND_NOTHING, FIND_RECORD, FIND_ROT
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, record_check

from pathlib import Path

import lmdb

from dynamo_fast.storage.checkpoint import MOVED_ROW
from dynamo_fast.storage.tables import GRANULES, RANGES, open_tables


@cython.final
cdef class Snapshot:
    """`Snapshot(path, map_bytes)`: opens the tables, and makes those that are missing. lmdb.Error when they cannot be read or made."""

    def __cinit__(self, path: Path, map_bytes: int):
        self.tables = open_tables(path, map_bytes)
        try:
            self.renew()
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """Sees what the helper has committed."""
        if self.transaction is not None:
            self.held = None
            self.transaction.abort()
        self.transaction = self.tables.environment.begin(db=self.tables.records, buffers=True)
        self.get_record = self.transaction.get
        self.empty = self.transaction.stat(self.tables.records)["entries"] == 0

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        self.finds += 1
        cdef RecordView found
        try:
            record = self.get_record(PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES))
        except lmdb.Error:      # a page that cannot be read
            return FIND_ROT
        if record is None:
            return FIND_NOTHING
        if record_check(<const uint8_t *>PyMemoryView_GET_BUFFER(record).buf, PyMemoryView_GET_BUFFER(record).len, &found) < 0:
            return FIND_ROT
        self.held = record
        view[0] = found
        return FIND_RECORD

    def load(self, forest) -> list:
        """The leaves into the forest; the log positions up to which the 256 granules are moved. Rows of a wrong length count as missing."""
        cdef Py_ssize_t row_bytes = 8 * forest.leaf_count
        with self.transaction.cursor(self.tables.leaves) as cursor:
            for key, leaves in cursor:
                partition = int.from_bytes(key, "big")
                if len(leaves) == row_bytes and partition < forest.partitions:
                    forest.load(partition, bytes(leaves))
                else:
                    self.damaged = True
        moved = []
        for range_index in range(RANGES):
            row = self.transaction.get(bytes([range_index]), db=self.tables.moved)
            if row is not None and len(row) != MOVED_ROW.size:
                self.damaged = True
                row = None
            moved += [0] * GRANULES if row is None else MOVED_ROW.unpack(row)
        return moved

    def leaves(self, partition: int) -> memoryview | None:
        """The row with the leaves of a partition's tree; None when it never held a record. lmdb.Error when it cannot be read."""
        return self.transaction.get(partition.to_bytes(4, "big"), db=self.tables.leaves)

    def size(self) -> tuple[int, int]:
        """Records, and the bytes of the pages they are on."""
        held = self.transaction.stat(self.tables.records)
        return held["entries"], held["psize"] * (held["branch_pages"] + held["leaf_pages"] + held["overflow_pages"])

    def close(self) -> None:
        """Once or more often. A find raises after that."""
        self.get_record = self.held = None
        if self.transaction is not None:
            self.transaction.abort()
        if self.tables is not None:
            self.tables.environment.close()
        self.transaction = self.tables = None
