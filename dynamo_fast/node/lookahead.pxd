"""Addresses worked out ahead of their frames; see lookahead.pyx."""

from libc.stdint cimport uint8_t, uint32_t

from dynamo_fast.core.put_ids cimport PutIds
from dynamo_fast.node.replica cimport Address, Replica

cdef enum:
    LOOKAHEAD_MAX = 32              # frames; what they touch must still be in the first-level cache when they are handled

cdef class Lookahead:
    cdef Replica replica
    cdef PutIds put_ids             # in which the ids of puts will be looked for: set by whoever coordinates puts
    cdef Address addresses[33]      # the last place is never used
    cdef int count                  # addresses known
    cdef int used                   # of which already taken
    cdef const uint8_t *next        # the bytes of this receive that have not been looked at yet, and how many
    cdef size_t left

    cdef int foresee(self, const uint8_t *data, size_t n) noexcept
    cdef int look(self) noexcept
    cdef int locate(self, const uint8_t *bucket, size_t bucket_bytes, const uint8_t *key, size_t key_bytes, Address *address) noexcept
