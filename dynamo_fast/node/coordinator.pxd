"""Coordination of puts and gets; see coordinator.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.failure_detector cimport FailureDetector
from dynamo_fast.node.get cimport GetCoordinator
from dynamo_fast.node.lookahead cimport Lookahead
from dynamo_fast.node.put cimport PutCoordinator
from dynamo_fast.node.replica cimport Replica
from dynamo_fast.node.requests cimport ForwardRequest

cdef class Coordinator:
    cdef Desk desk
    cdef PutCoordinator puts
    cdef GetCoordinator gets
    cdef uint64_t expired

    cdef int set_buckets(self, settings, cluster_defaults) except -1
    cdef dict statistics(self)
    cdef int expire(self) except -1
    cdef int pass_failed(self) except -1
    cdef int peer_lost(self, object node_id) except -1
    cdef int peer_silent(self, object node_id) except -1
    cdef int go_on(self, ForwardRequest request, bint hopeless) except -1
    cdef int fail_over(self, object node_id, uint16_t reason, bint hopeless) except -1
