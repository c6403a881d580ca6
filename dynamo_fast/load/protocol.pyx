"""What a protocol must do for the generator: write a put and a get, and cut one reply from bytes. No sockets here.

Both sides of a comparison run through one loop, so the protocols differ only in these four methods.
"""

from libc.stdint cimport uint8_t, uint64_t


cdef class Protocol:
    """The base of DynamoProtocol and RespProtocol; of no use by itself."""

    cdef size_t request_bytes_max(self, size_t value_bytes, size_t context_bytes) noexcept nogil:
        return 0

    cdef size_t write_put(self, uint8_t *out, uint64_t id, const uint8_t *name, const uint8_t *value,
                          size_t value_bytes, const uint8_t *context, size_t context_bytes) noexcept nogil:
        return 0

    cdef size_t write_get(self, uint8_t *out, uint64_t id, const uint8_t *name) noexcept nogil:
        return 0

    cdef ssize_t parse(self, const uint8_t *data, size_t n, Operation oldest, Reply *reply) noexcept nogil:
        return -1
