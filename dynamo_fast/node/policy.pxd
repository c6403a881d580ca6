"""What a request gets, worked out once per kind of request; see policy.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef class Plan:
    cdef readonly uint8_t r
    cdef readonly uint8_t w
    cdef readonly uint8_t dw
    cdef readonly bint strict
    cdef readonly int64_t deadline_ms

cdef class Policy:
    cdef object settings
    cdef object cluster
    cdef readonly bint last_write_wins
    cdef dict plans

    cdef Plan plan(self, uint8_t r, uint8_t w, int dw, int strict, uint32_t deadline_ms, uint8_t replicas)
