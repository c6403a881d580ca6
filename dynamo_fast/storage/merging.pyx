"""Scans over write buffer and LMDB together."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t

from dynamo_fast.storage.schema cimport RecordView, record_check


cdef inline bytes copied(object found):
    """A memoryview of LMDB's as bytes."""
    return PyBytes_FromStringAndSize(<const char *>PyMemoryView_GET_BUFFER(found).buf, PyMemoryView_GET_BUFFER(found).len)


cdef bint is_whole(bytes record) noexcept:
    cdef RecordView view
    return record_check(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view) == 0


def merge_scans(list newer not None, transaction, bytes start not None, bytes end not None, Py_ssize_t limit, rot) -> list[tuple[bytes, bytes]]:
    """The first `limit` pairs with start <= store key < end, where the buffer's, given as `newer`, hide LMDB's.

    `newer` is the buffer's scan with the same bounds, removed keys included: it ends where it has `limit` records, so whatever
    it does not tell of lies beyond the answer. A record of LMDB that cannot be read is left out, and its store key told to
    `rot`; fewer than `limit` pairs mean the end.
    """
    cdef list merged = []
    cdef Py_ssize_t at = 0, waiting = len(newer)
    cdef bytes store_key, record, last = start
    with transaction.cursor() as cursor:
        if cursor.set_range(start):
            for key, value in cursor.iternext():
                if len(merged) >= limit:
                    break
                store_key = copied(key)
                if store_key >= end:
                    break
                if store_key < last:
                    rot(start)  # a page of another place
                    continue
                last = store_key
                # What the buffer has before this one comes first, and what it has of this one hides it: a removed key, too, which the
                # checkpoint has not deleted yet.
                while at < waiting and (<tuple>newer[at])[0] < store_key:
                    if (<tuple>newer[at])[1] is not None:
                        merged.append(newer[at])
                    at += 1
                if at < waiting and (<tuple>newer[at])[0] == store_key:
                    continue
                record = copied(value)
                if is_whole(record):
                    merged.append((store_key, record))
                else:
                    rot(store_key)
    while at < waiting and len(merged) < limit:
        if (<tuple>newer[at])[1] is not None:
            merged.append(newer[at])
        at += 1
    del merged[limit:]
    return merged
