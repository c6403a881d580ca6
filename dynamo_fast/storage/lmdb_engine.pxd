"""The engine with a disk."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.storage.engine cimport Engine, RecordView
from dynamo_fast.storage.log cimport Log
from dynamo_fast.storage.snapshot cimport Snapshot
from dynamo_fast.storage.write_buffer cimport WriteBuffer


cdef class LmdbEngine(Engine):
    cdef readonly object settings
    cdef readonly object recovery       # RecoveryReport
    cdef readonly WriteBuffer buffer
    cdef readonly Log log
    cdef object disk
    cdef object directory               # StorageDirectory
    cdef readonly Snapshot snapshot     # of LMDB, renewed when the helper has committed
    cdef uint64_t transaction           # of LMDB, the last that the helper has told to be on disk
    cdef object clock_ns
    cdef object waker                   # a trio.Event to set at the next write, None when the maintenance is awake
    cdef readonly object checkpoints    # Checkpoints: which range goes to LMDB, and how far it is
    cdef readonly object visitor        # was shown the end of the log, None: nobody was
    cdef object refusal                 # why writes are refused, None while they are taken
    cdef size_t left_n                  # bytes of the log's batch that the disk has refused; nothing is added to them meanwhile
    cdef int sync_failure               # errno of the fdatasync that failed
    cdef readonly Histogram pass_ns     # what end_pass took
    cdef readonly Histogram tick_ns     # what tick took of the loop
    cdef int64_t next_sync_ns
    cdef int64_t not_before_ns          # when what the disk has refused is tried again
    cdef readonly uint64_t puts
    cdef readonly uint64_t removals
    cdef readonly uint64_t rot_found
    cdef readonly uint64_t leaves_corrected
    cdef uint64_t buffer_soft, buffer_hard, log_soft, log_hard      # bytes

    cdef int find_in_snapshot(self, const uint8_t *store_key, RecordView *view) except -1
    cdef int rot(self, const uint8_t *store_key) except -1
    cdef int wake(self) except -1
    cdef int refuse(self, object error) except -1
    cdef uint64_t log_bytes(self) noexcept
