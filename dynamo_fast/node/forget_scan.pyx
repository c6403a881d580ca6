"""Which records of a scan could be forgotten, in part or whole: without a Python object for those that could not."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from dynamo_fast.core.siblings cimport SIBLING_TOMBSTONE, SiblingView, object_clock_count, object_next, object_settle
from dynamo_fast.storage.schema cimport RecordView, record_view


cdef bint is_old_tombstone(const RecordView *view, uint64_t before_ms) noexcept nogil:
    """Is the key deleted, by all that is left of it, and was the last delete before that time?"""
    cdef SiblingView sibling
    cdef size_t offset = 0
    while object_next(view.object, view.object_n, &offset, &sibling):
        if not sibling.flags & SIBLING_TOMBSTONE or sibling.timestamp_ms >= before_ms:
            return False
    return True


cdef bint can_settle(const RecordView *view, uint32_t entries_max, uint64_t before_ms) except -1:
    cdef uint8_t *out
    cdef size_t n = 0
    if object_clock_count(view.object) <= entries_max:
        return False
    out = <uint8_t *>malloc(view.object_n)
    if out == NULL:
        raise MemoryError
    try:
        return object_settle(view.object, view.object_n, entries_max, before_ms, out, &n) == 0
    finally:
        free(out)


def forgettable(list found not None, uint64_t before_ms, uint32_t entries_max) -> list:
    """(store key, hash) of the records, among what an engine's `scan` found, that are deletes from before that time (milliseconds since
    1970), or whose clock has more than `entries_max` entries and could lose some from before that time."""
    cdef RecordView view
    cdef bytes store_key, record
    cdef int code
    cdef list some = []
    for store_key, record in found:
        code = record_view(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view)
        assert code == 0, "a scan finds records alone"
        if is_old_tombstone(&view, before_ms) or can_settle(&view, entries_max, before_ms):
            some.append((store_key, view.hash))
    return some
