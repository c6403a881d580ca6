"""The ring for other Cython modules: position -> partition -> nodes, without Python objects."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "ring.h" nogil:
    ctypedef struct RingToken "struct ring_token":
        uint64_t high, low
        uint32_t node


cdef class Ring:
    cdef uint16_t *table               # partitions * node_count node indices, row by row
    cdef unsigned int partition_bits   # log2(partitions)
    cdef list home_tuples              # per partition, the tuple that Python callers get
    cdef readonly uint32_t partitions  # a power of two
    cdef readonly uint32_t replicas    # home replicas of every partition, at most node_count
    cdef readonly uint32_t node_count

    # The top bits of a 16-byte position.
    cdef uint32_t partition_of(self, const uint8_t *position) noexcept nogil
    # The first `replicas` entries are the homes, in preference order. The memory is the ring's: valid while it lives.
    cdef const uint16_t *homes(self, uint32_t partition) noexcept nogil
    # All node_count nodes in preference order: the homes, then the fallbacks.
    cdef const uint16_t *order(self, uint32_t partition) noexcept nogil

    cdef int fill(self, object preference_lists) except -1
    cdef int check_partition(self, Py_ssize_t partition) except -1


cdef class BasicRing:
    cdef RingToken *sorted_tokens
    cdef uint8_t *seen                 # scratch of a walk: one byte per node, all 0 between walks
    cdef uint16_t *found               # what the last walk met, up to node_count
    cdef readonly size_t token_count
    cdef readonly uint32_t node_count  # one more than the largest node

    cdef tuple walk(self, const uint8_t *position, uint32_t count)
