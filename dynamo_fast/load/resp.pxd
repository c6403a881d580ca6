"""RESP, as far as a load needs it; explained in resp.pyx."""

from libc.stdint cimport uint8_t, uint32_t

from dynamo_fast.load.protocol cimport Protocol, Reply

cdef class RespProtocol(Protocol):
    cdef readonly uint32_t wait_replicas      # 0, or each SET is followed by WAIT for so many replicas
    cdef readonly uint32_t wait_timeout_ms

    cdef ssize_t _parse_set(self, const uint8_t *data, size_t n, Reply *reply) noexcept nogil
    cdef ssize_t _parse_get(self, const uint8_t *data, size_t n, Reply *reply) noexcept nogil
