"""Coordinating a get; see get.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.policy cimport Plan, Policy
from dynamo_fast.node.replica cimport Address, ObjectView
from dynamo_fast.node.requests cimport GetRequest, Request
from dynamo_fast.wire.connection cimport Connection
from dynamo_fast.wire.frame cimport FrameHeader

cdef enum:
    GET_DEADLINE_AT = 8    # where the deadline stands in a GET's body

cdef class GetCoordinator:
    cdef Desk desk
    cdef int64_t grace_ms
    cdef Histogram latency_us       # from a get's arrival to its answer
    cdef uint64_t started, repairs, siblings_seen, hedged
    cdef uint32_t ask_all_every     # one get in so many asks all homes
    cdef double usual_us, spread_us  # of the latency of gets lately: mean, and mean distance from it

    cdef int begin(self, Connection client, const FrameHeader *header, const uint8_t *body) except -1
    cdef int take_own(self, GetRequest request, int status, const ObjectView *own) except -1
    cdef int ask_enough(self, GetRequest request, uint8_t wanted) except -1
    cdef bint hopeful(self, GetRequest request) noexcept
    cdef int ask_spared(self, GetRequest request) except -1
    cdef int hedge(self, GetRequest request) except -1
    cdef int ask(self, GetRequest request, int slot) except -1
    cdef int fail_over(self, GetRequest request, int slot, uint16_t reason, bint hopeless) except -1
    cdef bint convincing(self, GetRequest request) noexcept
    cdef int answered(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1
    cdef bint covers_session(self, GetRequest request) noexcept
    cdef int settle(self, GetRequest request) except -1
    cdef int finish(self, GetRequest request) except -1
