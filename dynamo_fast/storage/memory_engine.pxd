"""The engine without a disk."""

from libc.stdint cimport uint64_t

from dynamo_fast.storage.engine cimport Engine
from dynamo_fast.storage.write_buffer cimport WriteBuffer


cdef class MemoryEngine(Engine):
    cdef WriteBuffer buffer
    cdef uint64_t bytes_max
    cdef uint64_t puts
    cdef uint64_t removals
    cdef uint64_t position_bytes    # as if there were a log: what was stored
