"""This node's copies, for other nodes and for tasks; see copies.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from dynamo_fast.net.reactor cimport PassHandler
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

cdef SyncWaiter waiter(Connection peer, uint64_t request_id)

cdef class Copies(PassHandler):
    cdef readonly Engine engine
    cdef Replica replica
    cdef Lookahead lookahead
    cdef ClusterView view           # None until this node knows a placement
    cdef object storage_failed
    cdef list pass_waiters          # SyncWaiters of this pass, position not known yet
    cdef object sync_queue          # deque of SyncWaiter, positions ascending
    cdef Py_ssize_t sync_queue_max  # beyond it nobody is told that his write is on disk
    cdef int64_t hint_bytes_max
    cdef readonly uint64_t replicates, reads, hints_taken, hints_refused

    cdef int set_up(self, Engine engine, bytes node_id, uint64_t nonce, random_bytes, limits, requests, storage_failed) except -1
    cdef int keep_apart(self, const Address *address, const ReplicateMessage *message) except -2
    cdef int replicate(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
    cdef int read(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
    cdef int reply(self, Connection peer, const FrameHeader *header, uint16_t status) except -1
    cdef Py_ssize_t locate_page(self, const uint8_t *at, const uint8_t *end, bytes after, bytes until, Address *addresses) except -1
    cdef bint is_home(self, bytes store_key) except -1
    cdef int end_task(self) except -1
