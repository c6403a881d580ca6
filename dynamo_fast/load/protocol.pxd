"""The face that the generator sees of a protocol; explained in protocol.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum Operation:
    PUT = 0
    GET = 1

cdef enum ReplyStatus:
    REPLY_OK = 0
    REPLY_NOT_FOUND = 1
    REPLY_STATUS_OTHER = 253       # ours: a status above 252
    REPLY_TOO_FEW_REPLICAS = 254   # RESP: WAIT counted fewer replicas than asked for
    REPLY_ERROR = 255              # RESP: an error reply


cdef struct Reply:
    uint64_t id                # the request's id; of no meaning when the protocol answers in order
    const uint8_t *value       # a get's first value; NULL with none. All pointers point into the bytes parsed
    size_t value_bytes
    const uint8_t *context     # the key's new context; NULL with none
    size_t context_bytes
    const uint8_t *text        # what a reply that is neither OK nor NOT_FOUND says of itself; NULL with none
    size_t text_bytes
    uint32_t siblings          # versions in a get's answer
    uint8_t status             # 0 OK, 1 not found, else the protocol's number of what went wrong
    uint8_t unknown            # 1 when a failed put may have been applied


cdef class Protocol:
    cdef readonly bint in_order             # replies come in the order of the requests, without ids

    # An upper bound of what write_put and write_get write.
    cdef size_t request_bytes_max(self, size_t value_bytes, size_t context_bytes) noexcept nogil
    # Write one request and return its length; context_bytes is 0 when the generator holds none for the key.
    cdef size_t write_put(self, uint8_t *out, uint64_t id, const uint8_t *name, const uint8_t *value,
                          size_t value_bytes, const uint8_t *context, size_t context_bytes) noexcept nogil
    cdef size_t write_get(self, uint8_t *out, uint64_t id, const uint8_t *name) noexcept nogil
    # Cuts one reply: its length when it is complete, 0 when more bytes are needed, -1 when these bytes are no reply.
    # `oldest` is the operation of the oldest request in flight.
    cdef ssize_t parse(self, const uint8_t *data, size_t n, Operation oldest, Reply *reply) noexcept nogil
