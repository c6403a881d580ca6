"""From the records of a scan to a page of objects, without a Python object for each."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from dynamo_fast.storage.schema cimport RecordView, record_view
from dynamo_fast.wire.object_page cimport PAGE_OBJECTS_MAX, ObjectPageWriter


def add_objects(ObjectPageWriter page not None, list found not None, Py_ssize_t bytes_max) -> int:
    """Adds to the page what an engine's `scan` found, until another object would make it longer than `bytes_max` bytes; its first object
    goes in whatever its length. Returns how many were added: fewer than were found when the page is full."""
    cdef RecordView view
    cdef Py_ssize_t added = 0
    cdef bytes store_key, record
    cdef int code
    for store_key, record in found:
        code = record_view(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view)
        assert code == 0, "a scan finds records alone"
        if page.count and (page.size + <Py_ssize_t>(view.bucket_n + view.key_n) + <Py_ssize_t>view.object_n > bytes_max
                           or page.count == PAGE_OBJECTS_MAX):
            break
        page.add(view.bucket, view.bucket_n, view.key, view.key_n, view.object, view.object_n)
        added += 1
    return added
