"""Coordinating a put; see put.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.core.put_ids cimport PutIds
from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.policy cimport Plan, Policy
from dynamo_fast.node.replica cimport Address, ObjectView
from dynamo_fast.node.requests cimport PutRequest, Request
from dynamo_fast.wire.connection cimport Connection
from dynamo_fast.wire.data_messages cimport PutMessage, ReplicateMessage
from dynamo_fast.wire.frame cimport FrameHeader

cdef enum:
    PUT_DEADLINE_AT = 12    # where the deadline stands in a PUT's body

cdef class PutCoordinator:
    cdef Desk desk
    cdef PutIds put_ids             # of puts with the usual deadline or less
    cdef PutIds patient_ids         # of puts with longer ones: few may use them up, and only for each other
    cdef int64_t usual_deadline_ms
    cdef size_t object_bytes_max    # of a whole object, siblings and all, that a put makes here
    cdef uint32_t siblings_max
    cdef int64_t hint_bytes_max     # of all that this node keeps for others
    cdef int64_t slow_since_ms      # since when storage has been behind, 0: it is not
    cdef list awaiting_sync         # tokens of this pass's puts that wait for our own disk
    cdef Histogram latency_us       # from a put's arrival to its answer
    cdef uint64_t applied, held

    cdef int begin(self, Connection client, const FrameHeader *header, const uint8_t *body) except -1
    cdef int apply(self, PutRequest request, Address *address, const PutMessage *message, Policy policy, Plan plan,
                   const FrameHeader *header, Connection client) except -1
    cdef bytes new_context(self, const Address *address, const PutMessage *message, const ObjectView *made, const uint8_t *context,
                           uint32_t entries)
    cdef int hold(self, PutRequest request) except -1
    cdef uint16_t owed_here(self, PutRequest request) noexcept
    cdef int send(self, PutRequest request, const Address *address, const ObjectView *made) except -1
    cdef int send_to(self, PutRequest request, int slot, ReplicateMessage *message) except -1
    cdef int keep_for_absent(self, PutRequest request, ReplicateMessage *message) except -1
    cdef int fail_over(self, PutRequest request, int slot, uint16_t reason, bint hopeless) except -1
    cdef int replicated(self, Connection peer, const FrameHeader *header) except -1
    cdef int durable_here(self, uint64_t token) except -1
    cdef int settle(self, PutRequest request) except -1
