"""Which put ids this coordinator has seen lately; see put_ids.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef struct PutIdTable:
    uint8_t *ids        # 16 bytes a place, all zero for a free place
    uint64_t capacity   # places, a power of two, or 0
    uint64_t count

cdef class PutIds:
    cdef PutIdTable young
    cdef PutIdTable old
    cdef int64_t rotate_ms    # when young becomes old
    cdef int64_t period_ms    # twice the longest deadline seen in young
    cdef uint64_t salt
    cdef readonly Py_ssize_t ids_max

    cdef bint seen(self, const uint8_t *put_id) noexcept nogil
    cdef bint room(self, int64_t deadline_ms, int64_t now_ms) noexcept
    cdef int add(self, const uint8_t *put_id) except -1
