"""The log, for the engine and for recovery."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dynamo_fast.storage.group_commit cimport GroupCommit

cdef enum:
    LOG_HEADER_BYTES = 64
    LOG_KEY_OFFSET = 40         # of the store key in the header
    LOG_MAGIC = 0x524c4644      # "DFLR"


# The header of a log record, taken apart.
cdef struct LogHeader:
    uint32_t payload_bytes
    uint64_t position           # of the header's first byte
    uint64_t durable            # the log was on disk to here when this was written
    uint64_t old_hash           # of the version that this one replaced, 0 for none
    const uint8_t *store_key


# Header and padded payload together.
cdef inline size_t log_record_bytes(size_t payload_bytes) noexcept nogil:
    return LOG_HEADER_BYTES + ((payload_bytes + 7) & ~<size_t>7)

# Takes a header of LOG_HEADER_BYTES apart: 1, or 0 when these bytes are none.
cdef bint log_header_read(const uint8_t *data, LogHeader *header) noexcept nogil


cdef class Log:
    cdef readonly object disk
    cdef readonly object directory
    cdef readonly uint64_t segment_bytes
    cdef readonly list segments         # of Segment, oldest first; the last one is being written when `file` is not None
    cdef readonly list doomed           # paths of segments that nobody needs any more, oldest first
    cdef object log_start               # LogStart
    cdef object file                    # of the last segment, None until the first write after opening
    cdef int fileno                     # its descriptor; below 0: it has none, and is asked itself
    cdef object prepared                # (number, path, file) of the next segment, or None
    cdef readonly bint preparing        # a thread is at it
    cdef readonly int number            # of the newest segment file, prepared ones included
    cdef readonly GroupCommit commit
    cdef uint8_t *batch                 # records of this pass: batch_n bytes in batch_room
    cdef size_t batch_n
    cdef size_t batch_room
    cdef uint64_t written_to            # end of the log as written
    cdef readonly uint64_t oldest       # start of the oldest segment
    cdef uint64_t transaction           # of LMDB, by which all before it had been moved
    cdef readonly object failure        # the OSError of the last write, None when it went well
    cdef readonly uint64_t records      # appended

    # Makes sure that append of such a record cannot fail. No bytes at all stand for a removal.
    cdef int reserve(self, size_t n) except -1
    cdef void append(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) noexcept
    # Writes the batch. OSError when the disk does not take all of it: the batch is kept, and the next write tries again.
    cdef int write(self) except -1
    cdef uint64_t position(self) noexcept       # end of the log with the batch
    cdef size_t write_at(self, size_t done, uint64_t offset) except? 0
    cdef int rotate(self) except -1
