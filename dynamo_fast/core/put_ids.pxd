"""Which put ids this coordinator has seen lately; see put_ids.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dynamo_fast.core.bytes cimport load_u64, store_u64

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

    # Have the memory fetched that `seen` and `add` of this id will touch; changes nothing.
    cdef void fetch_ahead(self, const uint8_t *put_id) noexcept nogil
    cdef bint seen(self, const uint8_t *put_id) noexcept nogil
    cdef bint room(self, int64_t deadline_ms, int64_t now_ms) noexcept
    cdef int add(self, const uint8_t *put_id) except -1


# Ids are remembered per key, so that a client that repeats one id for all its puts does not lose them. All of 16 bytes.
cdef inline void retry_id_of(const uint8_t *put_id, const uint8_t *position, uint8_t *out) noexcept nogil:
    store_u64(out, load_u64(put_id) ^ load_u64(position))
    store_u64(out + 8, load_u64(put_id + 8) ^ load_u64(position + 8))
