"""The contract of storage engines, for the replica and the reactor."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dynamo_fast.core.merkle cimport Forest
from dynamo_fast.storage.schema cimport RecordView
from dynamo_fast.storage.suspects cimport Suspects

cdef enum:                      # what find answers
    FIND_NOTHING = 0
    FIND_RECORD = 1
    FIND_ROT = 2                # a record is there and cannot be read: counted, treated as absent

cdef enum:                      # what room answers
    ROOM_PLENTY = 0
    ROOM_SOFT = 1               # slow down
    ROOM_NONE = 2               # refuse client puts; merges are taken still


cdef class Engine:
    cdef readonly Forest forest         # of buffer and LMDB together
    cdef Suspects suspected

    # FIND_RECORD fills the view, which is valid until the next store, find or end_pass. 24-byte store keys here and below.
    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1
    # Replaces the record; old_hash is that of the version which find showed, 0 for none. Seen by find at once. Raises
    # StorageError, having changed nothing, when the engine is read-only or its memory is used up.
    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1
    # The record is gone; old_hash as in store, errors too. Removing what is not there changes nothing.
    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1
    # One log write for all stores and removals of the pass. Raises StorageError when it fails: answer nothing of this pass.
    cdef int end_pass(self) except -1
    # Byte positions in the log: a store or removal is durable when durable_position() >= log_position() as read after its end_pass.
    cdef uint64_t log_position(self) noexcept
    cdef uint64_t durable_position(self) noexcept
    # Starts an fdatasync of everything written so far; when it is done, sync_fileno becomes readable.
    cdef int request_sync(self) except -1
    cdef int room(self) noexcept
    # Whether this node may lack records of the partition that it has acknowledged: then it must not count for a strict read.
    cpdef bint is_suspect(self, uint32_t partition) noexcept
    # The record will be looked for soon: have its memory fetched, without waiting for it. Called for many keys with step 0, then for
    # the same ones with 1 and 2, since each step follows a pointer that the one before has fetched. Changes nothing.
    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil


# Is shown the last records of the log when an engine opens, oldest first: the place to learn put ids from.
cdef class ReplayVisitor:
    cdef int replayed(self, const uint8_t *store_key, const RecordView *view) except -1
