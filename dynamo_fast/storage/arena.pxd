"""Memory for records, in chunks that a helper process can read too."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.storage.schema cimport RECORD_HASH_OFFSET


# A stretch of the region: where it starts, the bytes in use from there, and the chunks it has (several for a long record).
cdef struct Stretch:
    uint64_t offset
    uint64_t used
    uint64_t chunks


cdef class Region:
    cdef uint8_t *base                  # start of the mapping, chunks_max * chunk_bytes long; pages come when touched
    cdef uint8_t *states                # CHUNK_CLEAN, CHUNK_DIRTY or CHUNK_TAKEN for every chunk
    cdef object mapping                 # the mmap that base points into
    cdef readonly size_t chunk_bytes
    cdef readonly size_t chunks_max
    cdef readonly size_t chunks_taken
    cdef readonly size_t chunks_dirty   # free, but with pages that the system has given
    cdef readonly int fd                # a memfd, to be inherited by the helper

    # That many chunks side by side: the offset of the first, or -1 when there is no such place.
    cdef int64_t take(self, size_t chunks) noexcept nogil
    cdef void give(self, uint64_t offset, size_t chunks) noexcept nogil


cdef class Arena:
    cdef Region region
    cdef Stretch *stretches             # stretch_n of stretch_max; the last one of a single chunk is being filled
    cdef readonly size_t stretch_n
    cdef size_t stretch_max
    cdef size_t filling                 # index of the stretch being filled; past stretch_n when there is none
    cdef uint64_t free_slots[256]       # head of the list of dead slots of each size class: region offset + 1, 0 for none
    cdef readonly uint64_t chunks       # chunks held

    # Room for a slot whose record has n bytes: its region offset and capacity, or -1 when memory has run out.
    cdef int64_t allocate(self, size_t n, uint32_t *capacity) noexcept nogil
    # The slot at offset, of that capacity, is dead: its place may be given out again.
    cdef void release(self, uint64_t offset, uint32_t capacity) noexcept nogil
    # Gives everything back to the region.
    cdef void clear(self) noexcept nogil

    cdef int64_t add_stretch(self, size_t chunks) noexcept nogil


# A record's place: this header, then `capacity` bytes.
cdef struct Slot:
    uint32_t capacity
    uint32_t n                          # bytes of the record; 0 = dead, REMOVED_BYTES = there is none any more
    uint64_t base_hash                  # hash of the version that LMDB holds, 0 for none
    uint8_t store_key[24]


cdef enum:
    SLOT_HEADER_BYTES = 40
    REMOVED_BYTES = 1                   # of a zero that stands in place of a record; no record is so short


# Whether the slot says that the record of its key is removed, so that whatever LMDB holds under it counts no more.
cdef inline bint slot_removed(const Slot *slot) noexcept nogil:
    return slot.n == REMOVED_BYTES


# What the slot adds to its leaf of the Merkle tree: the hash of its record, 0 for a removed one.
cdef inline uint64_t slot_hash(const Slot *slot) noexcept nogil:
    return 0 if slot.n == REMOVED_BYTES else load_u64(<const uint8_t *>slot + SLOT_HEADER_BYTES + RECORD_HASH_OFFSET)
