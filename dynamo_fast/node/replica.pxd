"""This node's own copy of a key; see replica.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.storage.engine cimport Engine
from dynamo_fast.storage.schema cimport RecordView
from dynamo_fast.wire.data_messages cimport PutMessage

cdef enum:
    DAMAGED = 0xFFFF                # what `find` says of a record whose checksum does not hold; never on the wire

cdef struct Address:                # where a key lives; bucket and key lead into the message they came in
    const uint8_t *bucket
    size_t bucket_bytes
    const uint8_t *key
    size_t key_bytes
    uint8_t position[16]            # MD5, on the ring
    uint8_t store_key[24]           # position and a keyed hash: the key of the engine
    uint32_t partition

cdef struct ObjectView:             # a packed object; valid until the replica's next operation
    const uint8_t *data             # NULL: this node holds nothing
    size_t n
    uint64_t hash

cdef class Replica:
    cdef readonly Engine engine
    cdef uint8_t node_id[16]
    cdef uint8_t mac_key[16]
    cdef uint64_t nonce             # this process start; a mark with another nonce continues nothing
    cdef object random_bytes
    cdef bytes epochs               # random bytes not used yet, from epochs_used on
    cdef Py_ssize_t epochs_used
    cdef uint8_t *work              # 16 bytes of position and an object being made
    cdef size_t work_bytes
    cdef uint8_t *record            # the record being made of it
    cdef size_t record_bytes
    cdef size_t merge_bytes_max     # an object that a merge makes must still find room in a message
    cdef uint16_t placement_number  # low bits of the number of the placement in which the slots of new hints count
    cdef uint16_t all_homes         # a bit for each slot of that placement
    cdef readonly int64_t hint_bytes  # of the records kept for others; until handoff has counted them, of those of this process alone
    cdef readonly uint64_t hints_kept
    cdef readonly uint64_t puts, merges, stored, retries, epoch_alarms, damaged

    cdef int locate(self, const uint8_t *bucket, size_t bucket_bytes, const uint8_t *key, size_t key_bytes, Address *address) noexcept
    cdef uint8_t *room(self, size_t object_bytes) except NULL
    cdef uint64_t fresh_epoch(self) except? 0
    cdef int look(self, const Address *address, RecordView *view) except -1
    cdef int find(self, const Address *address, ObjectView *found) except -1
    cdef int put(self, const Address *address, const PutMessage *message, const uint8_t *context, uint32_t context_count,
                 const uint8_t *dot, bint last_write_wins, bint seen_before, uint32_t siblings_max, size_t object_bytes_max,
                 int64_t wall_ms, uint16_t owed, ObjectView *result) except -1
    cdef int merge(self, const Address *address, const uint8_t *incoming, size_t n, uint16_t owed, ObjectView *result) except -1
    cdef int count_hint(self, int64_t more) noexcept
    cdef uint16_t owed_by(self, const RecordView *view) noexcept
    cdef int own(self, const uint8_t *store_key) except -1
    cdef int store_again(self, const uint8_t *store_key, const RecordView *view, uint16_t owed) except -1
    cdef int settle_owed(self, const uint8_t *store_key, uint64_t hash, uint16_t confirmed, bint home) except -1
    cdef int forget(self, const uint8_t *store_key, uint64_t hash, uint64_t before_ms, uint32_t entries_max) except -1
    cdef int keep(self, const Address *address, size_t n, uint64_t mark_nonce, uint64_t mark_epoch, const RecordView *old,
                  uint16_t owed, ObjectView *result) except -1
