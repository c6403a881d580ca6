"""Retries make one version across a restart, too: the ids of the puts that the log has seen lately, read as it is replayed.

A version in the log carries the id of the put that made it. While it is a sibling the object itself tells that a put is a retry; once it
was replaced only this memory can, and a process that starts has none but the log. Whoever coordinated the put: this node holds what it
wrote, or what replaced it, so a retry of it needs no new dot.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from dynamo_fast.core.put_ids cimport retry_id_of
from dynamo_fast.core.siblings cimport SiblingView, object_next
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView, record_check


@cython.final
cdef class LoggedPuts(ReplayVisitor):
    """LoggedPuts(salt, ids_max, deadline_ms_max, now_ms, wall_ms): shown records, it has their put ids in `ids`.

    Ids are kept for twice the longest deadline from now on; those beyond `ids_max` are left out.
    """

    def __cinit__(self, salt, ids_max, deadline_ms_max, now_ms, wall_ms):
        self.ids = PutIds(salt, ids_max)
        self.deadline_ms = deadline_ms_max
        self.now_ms = now_ms
        self.not_before_ms = wall_ms - 2 * deadline_ms_max

    cdef int replayed(self, const uint8_t *store_key, const RecordView *view) except -1:
        cdef SiblingView sibling
        cdef uint8_t retry_id[16]
        cdef size_t offset = 0
        while object_next(view.object, view.object_n, &offset, &sibling) == 1:
            if <int64_t>sibling.timestamp_ms < self.not_before_ms:
                continue
            retry_id_of(sibling.request_id, store_key, retry_id)  # a store key begins with the position
            if not self.ids.seen(retry_id) and self.ids.room(self.deadline_ms, self.now_ms):
                self.ids.add(retry_id)
        return 0

    def on_replayed(self, bytes store_key not None, bytes record not None):
        """Python's `replayed`."""
        cdef RecordView view
        if record_check(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view) == 0 and len(store_key) == STORE_KEY_BYTES:
            self.replayed(<const uint8_t *>PyBytes_AS_STRING(store_key), &view)
