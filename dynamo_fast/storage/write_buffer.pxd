"""The write buffer, for the engines."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dynamo_fast.storage.arena cimport Arena, Region, Slot

cdef enum:
    RANGES = 16                 # by the top 4 bits of the position
    TABLES = 256                # of a range's generation, by the 8 bits after those


# Open addressing with linear probing. A cell is the top 16 bits of the store key's keyed hash, then the slot's region
# offset / 8 + 1; 0 is empty. At most 5/8 full.
cdef struct Table:
    uint64_t *cells             # mask + 1 of them, a power of two; NULL while the table is empty
    uint32_t mask
    uint32_t used


# The records of one range that came between two freezes.
cdef class Generation:
    cdef Arena arena
    cdef Region region
    cdef Table tables[256]
    cdef readonly uint64_t records          # slots in use: records, and marks that one is removed
    cdef readonly uint64_t removed          # of these, marks
    cdef readonly uint64_t record_bytes     # of the records alone, without headers and slack
    cdef readonly uint64_t table_bytes
    cdef readonly uint64_t first_position   # log position of the oldest record that may be in here

    cdef Slot *find(self, const uint8_t *store_key) noexcept nogil
    # Puts a copy of the record in: 1 replaced another, 0 is new, -1 memory has run out and nothing is changed.
    # base_hash and position count for a new one only. The hash of the one replaced goes to *replaced unless that is NULL.
    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t base_hash, uint64_t position,
                   uint64_t *replaced) noexcept nogil
    # Forgets the key, and whether LMDB holds a version of it: for a buffer with nothing behind. False: it was not there.
    cdef bint take_out(self, const uint8_t *store_key) noexcept nogil
    cdef int grow(self, Table *table) noexcept nogil


cdef class WriteBuffer:
    cdef readonly Region region
    cdef list active            # RANGES generations
    cdef list frozen            # RANGES, None where nothing is frozen
    cdef void *active_now[16]   # the same, for the way without reference counts
    cdef void *frozen_now[16]

    # The newest slot under a store key, or NULL; valid until the next store or drop. One that is slot_removed hides LMDB's record.
    cdef Slot *find(self, const uint8_t *store_key) noexcept nogil
    # That of the active generation only.
    cdef Slot *find_active(self, const uint8_t *store_key) noexcept nogil
    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t base_hash, uint64_t position,
                   uint64_t *replaced) except -1
    # A mark that the record is removed, as store puts a record in.
    cdef int remove(self, const uint8_t *store_key, uint64_t base_hash, uint64_t position, uint64_t *replaced) except -1
    cdef bint take_out(self, const uint8_t *store_key) noexcept nogil
    # See Engine.fetch_ahead.
    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil
    cdef Generation freeze(self, unsigned int range_index)
    cdef int drop_frozen(self, unsigned int range_index) except -1
    cdef Generation active_of(self, unsigned int range_index)
    cdef Generation frozen_of(self, unsigned int range_index)


cdef inline uint8_t *record_of(Slot *slot) noexcept nogil:
    return <uint8_t *>slot + 40
