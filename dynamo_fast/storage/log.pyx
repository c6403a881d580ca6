# cython: wraparound=True
"""The log: every store and removal, appended in order, before anything else is known of it (docs/storage.md has the bytes).

A record carries its own position, so that bytes of another time or place are never taken for it; the durable position
when it was written, by which recovery tells a torn tail from rot; and the hash of the version it replaced, by which the
Merkle trees are rebuilt without reading LMDB. Records of a pass are written together, and never across two segments.

The next segment is made ahead, in a thread. While there is none the last one just grows, so a pass never waits for it.
"""

cimport cython
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EINTR, errno as c_errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport pwrite

from dynamo_fast.core.bytes cimport load_u32, load_u64, store_u32, store_u64
from dynamo_fast.core.checksum cimport crc32c
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from dynamo_fast.storage.log_start import Beginning, LogStart

cdef extern from "Python.h":
    enum: PyBUF_READ

cdef enum:
    BATCH_BYTES_KEPT = 1 << 20      # a larger batch, of a pass with long records, gives its memory back


@dataclass
class Segment:
    """A file of the log. It holds the positions from start to end; the last segment ends where the log does."""

    path: Path
    start: int
    end: int


def segment_name(number: int) -> str:
    """Segments are numbered in the order in which they are used."""
    return f"{number:010d}.log"


def segment_number(name: str) -> int | None:
    """None when this is not a segment's name."""
    return int(name[:10]) if len(name) == 14 and name.endswith(".log") and name[:10].isdigit() else None


cdef void log_header_write(uint8_t *out, size_t payload_bytes, uint64_t position, uint64_t durable, uint64_t old_hash,
                           const uint8_t *store_key) noexcept nogil:
    store_u32(out, LOG_MAGIC)
    store_u32(out + 8, <uint32_t>payload_bytes)
    store_u32(out + 12, 0)
    store_u64(out + 16, position)
    store_u64(out + 24, durable)
    store_u64(out + 32, old_hash)
    memcpy(out + LOG_KEY_OFFSET, store_key, STORE_KEY_BYTES)
    store_u32(out + 4, crc32c(0, out + 8, LOG_HEADER_BYTES - 8))


cdef bint log_header_read(const uint8_t *data, LogHeader *header) noexcept nogil:
    if load_u32(data) != LOG_MAGIC or load_u32(data + 4) != crc32c(0, data + 8, LOG_HEADER_BYTES - 8):
        return False
    header.payload_bytes = load_u32(data + 8)
    header.position = load_u64(data + 16)
    header.durable = load_u64(data + 24)
    header.old_hash = load_u64(data + 32)
    header.store_key = data + LOG_KEY_OFFSET
    return True


@cython.final
cdef class Log:
    """`Log(disk, log_start, directory, segment_bytes, segments, position, durable, number)`: goes on after what recovery found.

    `segments` are the files there are, `position` is where the next byte goes, `durable` what is on disk for certain,
    and `number` the highest that a segment file has had.
    """

    def __cinit__(self, disk, log_start: LogStart, directory: Path, segment_bytes: int, segments: list, position: int,
                  durable: int, number: int):
        self.disk = disk
        self.log_start = log_start
        self.doomed = []
        self.directory = directory
        self.segment_bytes = segment_bytes
        self.segments = list(segments)
        self.written_to = position
        self.oldest = self.segments[0].start if self.segments else position
        self.number = number
        self.commit = GroupCommit(durable)
        self.commit.written(position)
        for segment in self.segments:
            if segment.end > durable:
                self.watch(segment)

    def __dealloc__(self):
        free(self.batch)

    def watch(self, segment: Segment) -> None:
        """Group commit covers a segment of an earlier life; too many of them are synced right here."""
        file = self.disk.open(segment.path)
        try:
            try:
                self.commit.add(file, segment.start)
            except OSError:
                file.sync()
        finally:
            if file.fileno() >= 0:
                file.close()

    cdef int reserve(self, size_t n) except -1:
        cdef size_t needed = self.batch_n + log_record_bytes(n)
        if needed <= self.batch_room:
            return 0
        cdef size_t room = max(2 * self.batch_room, needed, <size_t>65536)
        cdef uint8_t *grown = <uint8_t *>realloc(self.batch, room)
        if grown == NULL:
            raise MemoryError
        self.batch = grown
        self.batch_room = room
        return 0

    cdef void append(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) noexcept:
        cdef uint8_t *out = self.batch + self.batch_n
        cdef size_t total = log_record_bytes(n)
        log_header_write(out, n, self.written_to + self.batch_n, self.commit.durable(), old_hash, store_key)
        if n:
            memset(out + total - 8, 0, 8)
            memcpy(out + LOG_HEADER_BYTES, record, n)
        self.batch_n += total
        self.records += 1

    cdef uint64_t position(self) noexcept:
        return self.written_to + self.batch_n

    cdef int write(self) except -1:
        if self.batch_n == 0:
            return 0
        cdef size_t done = 0
        cdef uint64_t start
        try:
            if self.file is None:
                self.rotate()
            start = self.segments[-1].start
            if self.written_to > start and self.written_to - start + self.batch_n > self.segment_bytes:
                self.rotate()
                start = self.segments[-1].start
            while done < self.batch_n:
                done += self.write_at(done, self.written_to + done - start)
        except OSError as error:
            self.failure = error
            raise
        self.failure = None
        self.written_to += self.batch_n
        self.segments[-1].end = self.written_to
        self.commit.written(self.written_to)
        self.batch_n = 0
        if self.batch_room > BATCH_BYTES_KEPT:
            free(self.batch)
            self.batch = NULL
            self.batch_room = 0
        return 0

    cdef size_t write_at(self, size_t done, uint64_t offset) except? 0:
        """What is left of the batch goes into the file at that offset; how much of it went. OSError."""
        cdef ssize_t n = -1
        if self.fileno < 0:
            return self.file.write_at(PyMemoryView_FromMemory(<char *>self.batch + done, self.batch_n - done, PyBUF_READ), offset)
        # The same without a Python object, and with the lock kept: the page cache takes it sooner than a thread gives the lock back.
        while n < 0:
            n = pwrite(self.fileno, self.batch + done, self.batch_n - done, <off_t>offset)
            if n < 0 and c_errno != EINTR:
                raise OSError(c_errno, os.strerror(c_errno))
        return n

    cdef int rotate(self) except -1:
        """Goes on in the prepared segment. Without one the last segment grows; without that too, one is made here."""
        if self.prepared is None and self.file is not None:
            return 0
        if self.prepared is None:
            if self.preparing:
                raise BlockingIOError(errno.EAGAIN, "the first segment of the log is still being made")
            self.prepare(reserve=False)
        path, file = self.prepared
        self.commit.add(file, self.written_to)
        if self.file is not None and self.file.fileno() >= 0:
            self.file.close()       # the thread has a descriptor of its own; a file without one is group commit's to close
        self.segments.append(Segment(path, self.written_to, self.written_to))
        self.file = file
        self.fileno = file.fileno()
        self.prepared = None
        return 0

    @property
    def outgrown(self) -> bool:
        """Whether the last segment had to grow past its length, and the next one is there by now: `roll` ends it."""
        return (self.prepared is not None and self.file is not None
                and self.written_to - self.segments[-1].start > <uint64_t>self.segment_bytes)

    def roll(self) -> None:
        """Goes on in the prepared segment before anything is written to it. The next write would; but a log that is full up to its bound
        takes none, and its only segment, all of it in LMDB, could never be deleted (!). OSError: try again."""
        self.rotate()

    @property
    def wants_segment(self) -> bool:
        """Whether `prepare` should be called, from a thread if there is one."""
        return self.prepared is None and not self.preparing

    def prepare(self, reserve: bool = True) -> None:
        """Makes the next segment: its space taken, its name on disk. OSError when the disk has no room for it."""
        self.preparing = True
        number = self.number + 1
        path = self.directory / segment_name(number)
        file = None
        try:
            file = self.disk.open(path, create=True)
            if reserve:
                file.reserve(self.segment_bytes)
                file.sync()
            self.disk.sync_directory(self.directory)
            self.number = number
            self.prepared = (path, file)
        except BaseException:
            if file is not None:
                file.close()
                self.disk.remove(path)
            raise
        finally:
            self.preparing = False

    def forget_before(self, position: int, transaction: int) -> None:
        """Segments that end at or before a position are needed no more, since that transaction of LMDB is on disk: `remove_doomed`
        deletes them."""
        while len(self.segments) > (self.file is not None) and self.segments[0].end <= position:
            self.doomed.append(self.segments.pop(0).path)
        self.oldest = self.segments[0].start if self.segments else self.written_to
        self.transaction = transaction

    def remove_doomed(self) -> None:
        """Deletes what is needed no more, after the disk knows where the log begins now; from a thread. OSError: try again."""
        beginning, paths = Beginning(self.oldest, self.transaction), list(self.doomed)
        self.log_start.write(beginning)
        for path in paths:
            self.disk.remove(path)
            self.doomed.remove(path)
        self.disk.sync_directory(self.directory)

    @property
    def bytes(self) -> int:
        """From the oldest segment's start to the end: what recovery would read."""
        return self.written_to - self.oldest

    def sync_all(self) -> None:
        """Everything written is on disk when this returns. OSError when it cannot be."""
        for segment in self.segments:
            if segment.end > self.commit.durable():
                file = self.disk.open(segment.path)
                try:
                    file.sync()
                finally:
                    file.close()

    def close(self) -> None:
        """Ends the thread and closes files; what was written and not synced is left to the kernel."""
        self.commit.stop()
        for file in (self.file, self.prepared and self.prepared[1]):
            if file is not None:
                file.close()
        self.file = self.prepared = None
