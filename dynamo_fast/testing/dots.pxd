"""The registry of dots; see dots.pyx."""

from libc.stdint cimport uint8_t


cdef class DotRegistry:
    cdef dict named                 # store key and dot (24 + 32 bytes) -> the bytes of the version that it names
    cdef dict of_put                # put id -> its dots in order of appearance, each as (store key, dot, moment)
    cdef public double now_s        # told by whoever knows the time
    cdef readonly list violations   # sentences

    cdef int note(self, bytes store_key, const uint8_t *record, size_t n) except -1
