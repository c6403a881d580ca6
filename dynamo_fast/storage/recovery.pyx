# cython: wraparound=True
"""Recovery: the log is read once, in order, and every store and removal that LMDB has not seen goes into the write buffer.

**A torn tail is not rot.** A power cut leaves the newest writes missing, out of order or torn, down to the last position
that an fdatasync covered; nobody was told that they are durable, and they are cut off. What is damaged below that has
lost data which somebody counts on: it is stepped over and its partition reported. Each record tells how far the log was
durable when it was written, and the newest record that can be read gives the horizon between the two. When no
write can be missing, as the kernel has run on since, everything before the newest readable record is below it. So
is what was moved to LMDB, which never holds what the log did not have on disk.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stddef cimport size_t

from dynamo_fast.core.bytes cimport load_u32, load_u64
from dynamo_fast.storage.arena cimport Slot
from dynamo_fast.storage.log cimport LOG_HEADER_BYTES, LOG_KEY_OFFSET, LOG_MAGIC, LogHeader, log_header_read, log_record_bytes
from dynamo_fast.storage.schema cimport RECORD_HASH_OFFSET, STORE_KEY_BYTES, RecordView, record_check

from collections.abc import Callable
from pathlib import Path

from dynamo_fast.storage.directory import StorageDirectory
from dynamo_fast.storage.log_start import Beginning
from dynamo_fast.storage.log import Segment, segment_number
from dynamo_fast.storage.report import RecoveryReport

cdef size_t NOT_FOUND = <size_t>-1

ROT_PLACES_MAX = 1000


cdef size_t next_header(const uint8_t *data, size_t n, size_t offset, bint any_start, uint64_t start, LogHeader *header) noexcept nogil:
    """Offset of the next header at or after an offset, whose position fits the segment's start unless `any_start`."""
    while offset + LOG_HEADER_BYTES <= n:
        if load_u32(data + offset) == LOG_MAGIC and log_header_read(data + offset, header):
            if any_start or header.position == start + offset:
                return offset
        offset += 8
    return NOT_FOUND


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
        self.moved_max = self.horizon = max(moved_to)
        self.visitor = visitor
        self.rot_partitions = set()
        self.rot_places = []
        self.segments = []
        self.end = None
        self.memory = bytearray()

    def run(self, directory: Path, beginning: Beginning | None, transaction: int, complete: bool, visit_bytes: int) -> None:
        """Reads the log in the directory and cuts its torn tail; `visit_bytes` of its end are shown to the visitor.

        `beginning`: where it begins, None when that is lost; segments before it are deleted. `transaction`: LMDB's last one.
        `complete`: nothing that was written can be missing, since the kernel has run on, or all was synced at the end.
        """
        log_start = None if beginning is None else beginning.position
        paths = [directory / name for name in self.disk.list(directory) if segment_number(name) is not None]
        self.find_horizon(paths, complete, visit_bytes)
        if log_start is None and paths:
            self.rot(NULL, 0)
        self.end = log_start
        cut = False
        unused = 0      # bytes that nobody can read, in segments since the last one that is kept
        for path in paths:
            self.read(path)
            start = None if cut else self.start_of_data()
            if start is not None and log_start is not None and start < log_start:
                start = None
            elif start is not None and self.end is not None and start != self.end:
                # Something is missing before this segment.
                cut = self.end >= self.horizon
                if not cut:
                    self.rot(NULL, self.end)
                    unused = 0
            if start is None or cut:
                unused += self.used_bytes()
                self.disk.remove(path)
                continue
            self.log_bytes += self.n
            self.end, good = self.walk(start)
            cut = not good
            self.segments.append(Segment(path, start, self.end))
        self.torn_bytes = unused
        self.end = self.end or 0
        if self.end < self.moved_max or (beginning is not None and (self.moved_max < log_start or transaction < beginning.transaction)):
            # The log lacks what LMDB proves that it had on disk, or LMDB what was deleted from the log for being there.
            self.rot(NULL, self.end)
        if self.segments:
            self.cut_tail(self.segments[-1])

    def find_horizon(self, paths: list, complete: bool, visit_bytes: int) -> None:
        """From the newest record that has a readable header."""
        cdef LogHeader header
        cdef size_t offset
        cdef uint64_t start
        for path in reversed(paths):
            self.read(path)
            found = self.start_of_data()
            if found is None:
                continue
            start = found
            offset = 0
            while True:
                offset = next_header(self.data, self.n, offset, False, start, &header)
                if offset == NOT_FOUND:
                    break
                self.durable = header.durable
                self.horizon = max(self.moved_max, header.position if complete else header.durable)
                self.visit_from = max(0, <object>header.position - visit_bytes)
                offset += log_record_bytes(header.payload_bytes)
            return

    cdef int read(self, path) except -1:
        """Fills the memory with a segment. What a disk does not give back is as lost as what it gives back damaged."""
        try:
            self.n = <size_t>self.disk.read_into(path, self.memory)
        except OSError:
            self.n = 0
        self.data = <const uint8_t *>PyByteArray_AS_STRING(self.memory)
        return 0

    cdef size_t used_bytes(self) noexcept:
        """Of the segment at hand: how many there are up to the last that is not zero."""
        cdef size_t n = self.n
        while n and self.data[n - 1] == 0:
            n -= 1
        return n

    cdef object start_of_data(self):
        """The position of the segment's first byte, by a header that fits the end of the one before, else by any; or None."""
        cdef LogHeader header
        cdef size_t offset
        if self.end is not None and next_header(self.data, self.n, 0, False, self.end, &header) != NOT_FOUND:
            return self.end
        offset = next_header(self.data, self.n, 0, True, 0, &header)
        return None if offset == NOT_FOUND or header.position < offset else header.position - offset

    cdef tuple walk(self, uint64_t start):
        """Applies a segment's records: (position of its end, whether the log may go on after it)."""
        cdef const uint8_t *data = self.data
        cdef size_t n = self.n
        cdef size_t offset = 0, found, total
        cdef LogHeader header
        cdef RecordView view
        cdef bint whole
        while True:
            found = next_header(data, n, offset, False, start, &header)
            if found == NOT_FOUND:
                return start + offset, True
            if found != offset:
                if start + offset >= self.horizon:
                    return start + offset, False
                self.rot(NULL, start + offset)
                offset = found
            total = log_record_bytes(header.payload_bytes)
            whole = header.payload_bytes == 0 or (
                total <= n - offset and record_check(data + offset + LOG_HEADER_BYTES, header.payload_bytes, &view) == 0)
            if whole:
                self.look_ahead(data, n, offset + total)
                self.apply(&header, data + offset + LOG_HEADER_BYTES)
                if header.payload_bytes and self.visitor is not None and header.position >= self.visit_from:
                    self.visitor.replayed(header.store_key, &view)
            elif header.position >= self.horizon:
                return start + offset, False
            else:
                self.rot(header.store_key, header.position)
            if total > n - offset:
                return start + n, True
            offset += total

    cdef void look_ahead(self, const uint8_t *data, size_t n, size_t offset) noexcept:
        """Asks memory for what the record at the offset, and the one after it, will need: it is what replay waits for."""
        if offset + LOG_HEADER_BYTES > n or load_u32(data + offset) != LOG_MAGIC:
            return
        self.buffer.fetch_ahead(data + offset + LOG_KEY_OFFSET, 2)
        offset += log_record_bytes(load_u32(data + offset + 8))
        if offset + LOG_HEADER_BYTES <= n:
            self.buffer.fetch_ahead(data + offset + LOG_KEY_OFFSET, 1)

    cdef int apply(self, const LogHeader *header, const uint8_t *record) except -1:
        cdef const uint8_t *store_key = header.store_key
        cdef uint64_t old_hash = header.old_hash, new_hash = 0
        if header.position < self.moved_to[store_key[0]]:
            self.skipped += 1
            return 0
        # After rot the version before this one may not be the one that the header names.
        if header.payload_bytes:
            self.buffer.store(store_key, record, header.payload_bytes, old_hash, header.position, &old_hash)
            new_hash = load_u64(record + RECORD_HASH_OFFSET)
        else:
            self.buffer.remove(store_key, old_hash, header.position, &old_hash)
        self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, new_hash)
        self.records += 1
        return 0

    cdef int rot(self, const uint8_t *store_key, uint64_t position) except -1:
        self.rot_records += 1
        if len(self.rot_places) < ROT_PLACES_MAX:
            self.rot_places.append((position, self.forest.partition_of(store_key) if store_key != NULL else None))
        if store_key != NULL:
            self.rot_partitions.add(self.forest.partition_of(store_key))
        else:
            self.rot_partitions.update(range(self.forest.partitions))
        return 0

    cdef int cut_tail(self, segment) except -1:
        """The last segment, read anew, ends where the log does, so that nothing beyond is ever taken for a record."""
        cdef size_t length = segment.end - segment.start
        cdef size_t used
        self.read(segment.path)
        if self.n <= length:
            return 0
        used = self.used_bytes()
        file = self.disk.open(segment.path)
        try:
            file.truncate(length)
            if used > length:
                self.torn_bytes += used - length
                file.sync()
        finally:
            file.close()
        return 0

    def mend_base_hashes(self, hash_in_tables: Callable[[bytes], int]) -> None:
        """After rot a record may name a predecessor that nobody has: LMDB's version, by its hash, takes that one's place."""
        cdef Slot *slot
        cdef uint64_t true_hash
        start = bytes(STORE_KEY_BYTES)
        while page := self.buffer.scan(start, b"\xff" * STORE_KEY_BYTES, 1000, True):
            for store_key, _ in page:
                slot = self.buffer.find_active(<const uint8_t *><const char *>store_key)
                true_hash = hash_in_tables(store_key)
                self.forest.update(self.forest.partition_of(slot.store_key), self.forest.leaf_of(slot.store_key), true_hash, slot.base_hash)
                slot.base_hash = true_hash
            start = (int.from_bytes(page[-1][0], "big") + 1).to_bytes(STORE_KEY_BYTES, "big")

    def report(self, directory: StorageDirectory, suspects: frozenset, nanoseconds: int) -> RecoveryReport:
        """What was found, for who opened the directory."""
        return RecoveryReport(
            records=self.records, skipped=self.skipped, log_bytes=self.log_bytes, torn_bytes=self.torn_bytes,
            rot_records=self.rot_records, suspects=suspects, unclean=directory.unclean,
            same_boot=directory.same_boot, seconds=nanoseconds / 1e9)
