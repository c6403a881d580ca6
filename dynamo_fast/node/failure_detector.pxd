"""The other nodes as this one finds them; see failure_detector.pyx."""

from libc.stdint cimport int64_t, uint64_t

from dynamo_fast.core.suspicion cimport Suspicion
from dynamo_fast.wire.connection cimport Connection

cdef class Peer:
    cdef readonly bytes node_id
    cdef readonly Connection connection
    cdef Suspicion suspicion

    cdef bint trusted(self, int64_t now_ms) except -1

cdef class FailureDetector:
    cdef readonly dict peers            # node id -> Peer, whether the placement knows the node or not
    cdef int64_t suspect_ms, final_ms
    cdef int64_t looked_at_ms
    cdef readonly Py_ssize_t suspects   # as of the last look
    cdef readonly uint64_t suspicions, given_up

    cdef list look(self, int64_t now_ms)
    cdef int forget_questions(self) noexcept
