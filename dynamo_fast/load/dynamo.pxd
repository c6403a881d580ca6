"""Our own protocol, as far as a load needs it; explained in dynamo.pyx."""

from libc.stdint cimport uint8_t, uint64_t

from dynamo_fast.load.protocol cimport Protocol, Reply
from dynamo_fast.wire.data_messages cimport GetMessage, PutMessage
from dynamo_fast.wire.frame cimport FrameHeader

cdef class DynamoProtocol(Protocol):
    cdef readonly bytes bucket
    cdef PutMessage put        # what every put has in common
    cdef GetMessage get
    cdef uint64_t random       # state of the put ids

    cdef int _parse_get_reply(self, const FrameHeader *header, const uint8_t *body, Reply *reply) noexcept nogil
