"""From the records of a scan to the page of a listing, without a Python object per key."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from dynamo_fast.core.siblings cimport SIBLING_TOMBSTONE, SiblingView, object_next
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView, record_view
from dynamo_fast.wire.key_page cimport KeyPageWriter


cdef bint is_live(const RecordView *view) noexcept nogil:
    """Whether some sibling of the record's object is a value."""
    cdef SiblingView sibling
    cdef size_t offset = 0
    while object_next(view.object, view.object_n, &offset, &sibling):
        if not sibling.flags & SIBLING_TOMBSTONE:
            return True
    return False


def add_live_keys(KeyPageWriter page not None, list found not None, bytes bucket not None, Py_ssize_t keys_max,
                  Py_ssize_t bytes_max) -> int:
    """Adds to the page, from what an engine's `scan` found, each key of the bucket that has a value, until the page has `keys_max` keys or
    `bytes_max` bytes. Returns how many of the records were looked at."""
    cdef RecordView view
    cdef Py_ssize_t looked_at = 0, bucket_bytes = PyBytes_GET_SIZE(bucket)
    cdef bytes store_key, record
    cdef int code
    for store_key, record in found:
        if page.count >= keys_max or <Py_ssize_t>page.entries.size() >= bytes_max:
            break
        looked_at += 1
        code = record_view(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view)
        assert code == 0 and PyBytes_GET_SIZE(store_key) == STORE_KEY_BYTES, "a scan finds records alone"
        if view.bucket_n == bucket_bytes and memcmp(view.bucket, PyBytes_AS_STRING(bucket), bucket_bytes) == 0 and is_live(&view):
            page.add(<const uint8_t *>PyBytes_AS_STRING(store_key), view.key, view.key_n)
    return looked_at
