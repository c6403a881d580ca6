"""From frame to handler, and the end of a pass; see data_plane.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from dynamo_fast.net.reactor cimport PassHandler
from dynamo_fast.node.coordinator cimport Coordinator
from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.failure_detector cimport FailureDetector
from dynamo_fast.node.lookahead cimport Lookahead
from dynamo_fast.node.replica cimport Address, Replica
from dynamo_fast.node.view cimport ClusterView
from dynamo_fast.storage.engine cimport Engine
from dynamo_fast.wire.connection cimport Connection
from dynamo_fast.wire.data_messages cimport ReplicateMessage
from dynamo_fast.wire.frame cimport FrameHeader

cdef class SyncWaiter:
    cdef uint64_t position          # of the log; the wait is over when it is durable up to here
    cdef Connection peer            # who wants a REPLICATE_REPLY then; None: a put of our own
    cdef uint64_t request_id        # the peer's, or the token of our own put
    cdef object event               # trio.Event of a task that waits instead of those two, or None
    cdef bint failed                # the disk will never get there: for the task

cdef class DataPlane(PassHandler):
    cdef readonly Engine engine
    cdef Replica replica
    cdef Coordinator coordinator
    cdef readonly bytes node_id
    cdef Lookahead lookahead
    cdef ClusterView view
    cdef object control, storage_failed
    cdef bint draining              # clients are refused, replicas are served
    cdef object cluster_defaults
    cdef list pass_waiters          # SyncWaiters of this pass, position not known yet
    cdef object sync_queue          # deque of SyncWaiter, positions ascending
    cdef Py_ssize_t sync_queue_max  # beyond it nobody is told that his write is on disk
    cdef FailureDetector detector   # and its peers, whether the placement knows them or not
    cdef int64_t hint_bytes_max
    cdef dict pings                 # request id -> trio.Event of a task that waits for the PONG
    cdef uint64_t last_ping
    cdef readonly uint64_t replicates, reads, hints_taken, hints_refused, control_frames, strangers

    cdef int begin_pass(self, int64_t now_us, int64_t wall_ms) except -1
    cdef int end_pass(self) except -1
    cdef bint needs_time(self) noexcept
    cdef int synced(self) except -1
    cdef int keep_apart(self, const Address *address, const ReplicateMessage *message) except -2
    cdef int replicate(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
    cdef int read(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
    cdef int reply(self, Connection peer, const FrameHeader *header, uint16_t status) except -1
