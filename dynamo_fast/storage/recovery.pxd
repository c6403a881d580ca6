"""Replay of the log; nothing for other modules but the class itself."""

from libc.stdint cimport uint8_t, uint64_t

from dynamo_fast.core.merkle cimport Forest
from dynamo_fast.storage.engine cimport ReplayVisitor
from dynamo_fast.storage.log cimport LogHeader
from dynamo_fast.storage.write_buffer cimport WriteBuffer


cdef class Replay:
    cdef object disk
    cdef WriteBuffer buffer
    cdef Forest forest
    cdef uint64_t moved_to[256]         # by the first byte of a store key: older records are in LMDB
    cdef uint64_t moved_max             # the log was on disk to here for certain
    cdef ReplayVisitor visitor
    cdef uint64_t visit_from            # position of the first record to show the visitor
    cdef uint64_t horizon               # what is bad below here is rot, at or above it a torn tail
    cdef readonly set rot_partitions
    cdef readonly uint64_t records
    cdef readonly uint64_t skipped
    cdef readonly uint64_t rot_records
    cdef readonly list rot_places       # (log position, partition or None: all) of the first of them
    cdef readonly uint64_t log_bytes
    cdef readonly uint64_t torn_bytes
    cdef readonly list segments         # of Segment: those that are kept, oldest first
    cdef readonly object end            # of the log
    cdef readonly uint64_t durable      # on disk for certain, by what the records say

    cdef void look_ahead(self, const uint8_t *data, size_t n, size_t offset) noexcept
    cdef int apply(self, const LogHeader *header, const uint8_t *record) except -1
    cdef int rot(self, const uint8_t *store_key, uint64_t position) except -1
    cdef bytearray memory               # the segment at hand: n bytes at data
    cdef const uint8_t *data
    cdef size_t n

    cdef int read(self, path) except -1
    cdef size_t used_bytes(self) noexcept
    cdef object start_of_data(self)
    cdef tuple walk(self, uint64_t start)
    cdef int cut_tail(self, segment) except -1
