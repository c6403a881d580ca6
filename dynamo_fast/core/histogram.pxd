"""A latency histogram that C code fills without the GIL; what it promises stands in histogram.pyx."""

from libc.stdint cimport uint64_t

cdef enum:
    # Each octave is cut into 2**SUB_BITS buckets of equal width, so a bucket is at most 1/64 of its values wide.
    SUB_BITS = 6
    BUCKETS = (64 - SUB_BITS + 1) << SUB_BITS


cdef struct HistogramCounts:
    uint64_t count           # values recorded
    uint64_t sum             # of all values; nanoseconds fill it after 584 years
    uint64_t max             # the largest value, exact
    uint64_t buckets[BUCKETS]


cdef class Histogram:
    cdef HistogramCounts *counts  # owned: taken in __cinit__, freed in __dealloc__

    # Adds one value, of whatever unit the owner chose (ours are nanoseconds); a few instructions, never fails.
    cpdef void record(self, uint64_t value) noexcept nogil
