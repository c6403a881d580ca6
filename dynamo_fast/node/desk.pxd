"""What puts and gets have in common; see desk.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.core.deadlines cimport DeadlineWheel
from dynamo_fast.node.failure_detector cimport FailureDetector, Peer
from dynamo_fast.node.lookahead cimport Lookahead
from dynamo_fast.node.policy cimport Policy
from dynamo_fast.node.replica cimport Replica
from dynamo_fast.node.requests cimport ForwardRequest, Request, RequestTable
from dynamo_fast.node.view cimport ClusterView, HomeTable
from dynamo_fast.wire.connection cimport Connection
from dynamo_fast.wire.frame cimport FrameHeader

cdef class Desk:
    cdef Replica replica
    cdef Lookahead lookahead
    cdef RequestTable requests
    cdef DeadlineWheel deadlines
    cdef FailureDetector detector
    cdef ClusterView view           # None until this node knows a placement
    cdef dict policies              # bucket name -> Policy
    cdef uint8_t cluster_id[16]
    cdef uint32_t value_bytes_max, key_bytes_max
    cdef int64_t now_us, now_ms, wall_ms   # of this pass
    cdef bint doubt                 # the request at hand was forwarded before, and whether it was done is unknown
    cdef uint64_t forwards, refused, failed, given_up, substitutions

    cdef int no(self, Connection client, const FrameHeader *header, uint16_t status, str text) except -1
    cdef bint overloaded(self) except -1
    cdef Policy policy_of(self, const uint8_t *bucket, size_t bucket_bytes)
    cdef int start(self, Request request, Connection client, const FrameHeader *header, int64_t deadline_ms) except -1
    cdef bint coordinates(self, const FrameHeader *header, HomeTable table, uint32_t partition, bint strict) except -1
    cdef Peer reachable(self, ClusterView view, int index)
    cdef Peer reachable_home(self, uint32_t partition)
    cdef int slot_of_answer(self, Request request, Connection peer) except -2
    cdef int forward(self, Connection client, const FrameHeader *header, const uint8_t *body, uint32_t partition, int64_t deadline_ms,
                     size_t deadline_at) except -1
    cdef bint dishonest(self, bint doubt, uint8_t reply_type, uint16_t status) noexcept
    cdef int forwarded(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
