# cython: wraparound=True
"""Recovery: the log is read once, in order, and every record that LMDB does not hold yet goes into the write buffer.

**A torn tail is not rot.** A power cut leaves the newest writes missing, out of order or torn, down to the last position
that an fdatasync covered; nobody was told that they are durable, and they are cut off. What is damaged below that has
lost data which somebody counts on: it is stepped over and its partition reported. Each record tells how far the log was
durable when it was written, and the newest record that can be read gives the horizon between the two. When the kernel
has not been restarted since, no write can be missing, and everything before the last readable record is below it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memcmp

from dynamo_fast.core.bytes cimport load_u32, load_u64
from dynamo_fast.storage.arena cimport Slot
from dynamo_fast.storage.log cimport LOG_HEADER_BYTES, LOG_MAGIC, LogHeader, log_header_read, log_record_bytes
from dynamo_fast.storage.schema cimport RecordView, record_check
from dynamo_fast.storage.write_buffer cimport record_of

from pathlib import Path

from dynamo_fast.storage.log import Segment, segment_number

cdef size_t NOT_FOUND = <size_t>-1


cdef size_t next_header(const uint8_t *data, size_t n, size_t offset, bint any_start, uint64_t start, LogHeader *header) noexcept nogil:
    """Offset of the next header at or after an offset, whose position fits the segment's start unless `any_start`."""
    while offset + LOG_HEADER_BYTES <= n:
        if load_u32(data + offset) == LOG_MAGIC and log_header_read(data + offset, header):
            if any_start or header.position == start + offset:
                return offset
        offset += 8
    return NOT_FOUND


cdef Py_ssize_t used_bytes(const uint8_t *data, Py_ssize_t n) noexcept nogil:
    """How many there are up to the last that is not zero."""
    while n and data[n - 1] == 0:
        n -= 1
    return n


@cython.final
cdef class Replay:
    """`Replay(disk, buffer, forest, moved_to, visitor)`, then `run` once; the attributes tell what was found.

    `moved_to` has for each first byte of a store key the position up to which LMDB holds that part of the key space.
    """

    def __cinit__(self, disk, WriteBuffer buffer not None, Forest forest not None, moved_to: list, ReplayVisitor visitor = None):
        cdef int i
        self.disk = disk
        self.buffer = buffer
        self.forest = forest
        for i in range(256):
            self.moved_to[i] = moved_to[i]
        self.visitor = visitor
        self.rot_partitions = set()
        self.segments = []
        self.end = None

    def run(self, directory: Path, same_boot: bool, visit_bytes: int) -> None:
        """Reads the log in the directory and cuts its torn tail; `visit_bytes` of its end are shown to the visitor."""
        paths = [directory / name for name in self.disk.list(directory) if segment_number(name) is not None]
        self.find_horizon(paths, same_boot, visit_bytes)
        cut = False
        nameless = 0    # bytes in segments without a single header, since the last segment that has one
        last = b""
        for path in paths:
            data = self.read(path)
            start = None if cut else self.start_of(data)
            if start is not None and (nameless if self.end is None else start != self.end):
                # Something is missing before this segment.
                cut = self.end is not None and self.end >= self.horizon
                if not cut:
                    self.rot(NULL)
                    nameless = 0
            if start is None or cut:
                nameless += used_bytes(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
                self.disk.remove(path)
                continue
            self.log_bytes += len(data)
            last = data
            self.end, good = self.walk(data, start)
            cut = not good
            self.segments.append(Segment(path, start, self.end))
        self.torn_bytes = nameless
        if self.segments:
            self.cut_tail(self.segments[-1], last)

    def find_horizon(self, paths: list, same_boot: bool, visit_bytes: int) -> None:
        """From the newest record that has a readable header."""
        cdef LogHeader header
        cdef size_t offset
        cdef const uint8_t *bytes_
        cdef uint64_t start
        for path in reversed(paths):
            data = self.read(path)
            found = self.start_of(data)
            if found is None:
                continue
            start = found
            bytes_ = <const uint8_t *>PyBytes_AS_STRING(data)
            offset = 0
            while True:
                offset = next_header(bytes_, PyBytes_GET_SIZE(data), offset, False, start, &header)
                if offset == NOT_FOUND:
                    break
                self.durable = header.durable
                self.horizon = header.position if same_boot else header.durable
                self.visit_from = max(0, <object>header.position - visit_bytes)
                offset += log_record_bytes(header.payload_bytes)
            return

    def read(self, path: Path) -> bytes:
        """What a disk does not give back is as lost as what it gives back damaged."""
        try:
            return self.disk.read(path)
        except OSError:
            return b""

    def start_of(self, data: bytes) -> int | None:
        """The position of a segment's first byte, by its first header that fits the end of the one before, else by any."""
        cdef LogHeader header
        cdef const uint8_t *bytes_ = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef size_t n = PyBytes_GET_SIZE(data)
        cdef size_t offset
        if self.end is not None and next_header(bytes_, n, 0, False, self.end, &header) != NOT_FOUND:
            return self.end
        offset = next_header(bytes_, n, 0, True, 0, &header)
        return None if offset == NOT_FOUND or header.position < offset else header.position - offset

    cdef tuple walk(self, bytes data, uint64_t start):
        """Applies a segment's records: (position of its end, whether the log may go on after it)."""
        cdef const uint8_t *bytes_ = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef size_t n = PyBytes_GET_SIZE(data)
        cdef size_t offset = 0, found, total
        cdef LogHeader header
        cdef RecordView view
        cdef bint whole
        while True:
            found = next_header(bytes_, n, offset, False, start, &header)
            if found == NOT_FOUND:
                return start + offset, True
            if found != offset:
                if start + offset >= self.horizon:
                    return start + offset, False
                self.rot(NULL)
                offset = found
            total = log_record_bytes(header.payload_bytes)
            whole = total <= n - offset and record_check(bytes_ + offset + LOG_HEADER_BYTES, header.payload_bytes, &view) == 0
            if whole:
                self.apply(header.store_key, view.data, view.n, header.old_hash, header.position)
                if self.visitor is not None and header.position >= self.visit_from:
                    self.visitor.replayed(header.store_key, &view)
            elif header.position >= self.horizon:
                return start + offset, False
            else:
                self.rot(header.store_key)
            if total > n - offset:
                return start + n, True
            offset += total

    cdef int apply(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash, uint64_t position) except -1:
        if position < self.moved_to[store_key[0]]:
            self.skipped += 1
            return 0
        # After rot the version before this one may not be the one that the header names.
        cdef Slot *slot = self.buffer.find_active(store_key)
        if slot != NULL:
            old_hash = load_u64(record_of(slot) + 32)
        self.buffer.store(store_key, record, n, old_hash, position)
        self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, load_u64(record + 32))
        self.records += 1
        return 0

    cdef int rot(self, const uint8_t *store_key) except -1:
        self.rot_records += 1
        if store_key != NULL:
            self.rot_partitions.add(self.forest.partition_of(store_key))
        else:
            self.rot_partitions.update(range(self.forest.partitions))
        return 0

    def cut_tail(self, segment: Segment, data: bytes) -> None:
        """The last segment ends where the log does, so that nothing beyond is ever taken for a record."""
        length = segment.end - segment.start
        torn = used_bytes(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) - length
        if len(data) <= length:
            return
        file = self.disk.open(segment.path)
        try:
            file.truncate(length)
            if torn > 0:
                self.torn_bytes += torn
                file.sync()
        finally:
            file.close()
