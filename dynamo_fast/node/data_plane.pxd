"""From frame to handler, and the end of a pass; see data_plane.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dynamo_fast.node.coordinator cimport Coordinator
from dynamo_fast.node.copies cimport Copies
from dynamo_fast.node.failure_detector cimport FailureDetector

cdef class DataPlane(Copies):
    cdef Coordinator coordinator
    cdef readonly bytes node_id
    cdef object control
    cdef bint draining              # clients are refused, replicas are served
    cdef object cluster_defaults
    cdef FailureDetector detector   # and its peers, whether the placement knows them or not
    cdef dict pings                 # request id -> trio.Event of a task that waits for the PONG
    cdef uint64_t last_ping
    cdef readonly uint64_t control_frames, strangers

    cdef int begin_pass(self, int64_t now_us, int64_t wall_ms) except -1
    cdef int end_pass(self) except -1
    cdef bint needs_time(self) noexcept
    cdef int synced(self) except -1
