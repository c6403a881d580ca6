"""A log-linear histogram of latencies: fixed memory, a relative error of at most 1/64, and adding a value costs a few
instructions.

Averages hide what users feel, and keeping every sample costs memory without bound. So values are counted in buckets:
one per value below 64, and from there on 64 buckets of equal width per octave (the layout of HdrHistogram). All 64-bit
values fit; the 3,776 counters take 30 KiB, of which only the pages that are used become resident.

Not thread-safe: one writer, and readers on the writer's thread. Histograms of several writers are joined by merge().
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from *:
    int __builtin_clzll(unsigned long long) nogil


cdef inline size_t bucket_of(uint64_t value) noexcept nogil:
    cdef int shift
    if value < (1 << SUB_BITS):
        return value
    shift = 63 - __builtin_clzll(value) - SUB_BITS
    # The top SUB_BITS + 1 bits of the value, whose leading one moves the index into the octave's own row.
    return (<size_t>shift << SUB_BITS) + <size_t>(value >> shift)


cdef inline uint64_t bucket_top(size_t bucket) noexcept nogil:
    """The largest value that bucket_of puts into this bucket."""
    cdef size_t shift = bucket >> SUB_BITS
    if shift < 2:
        return bucket
    shift -= 1
    return ((((bucket & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS) + <uint64_t>1) << shift) - 1)


@cython.final
cdef class Histogram:
    """Counts values (unsigned 64-bit, of a unit the owner chooses; latencies here are in nanoseconds)."""

    def __cinit__(self):
        self.counts = <HistogramCounts *>calloc(1, sizeof(HistogramCounts))
        if self.counts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.counts)

    cpdef void record(self, uint64_t value) noexcept nogil:
        """Add one value. Raises OverflowError, from Python, for what is no unsigned 64-bit number."""
        cdef HistogramCounts *counts = self.counts
        counts.count += 1
        counts.sum += value
        if value > counts.max:
            counts.max = value
        counts.buckets[bucket_of(value)] += 1

    @property
    def count(self):
        """How many values were recorded."""
        return self.counts.count

    @property
    def mean(self):
        """The exact average, 0.0 when nothing was recorded."""
        return self.counts.sum / <double>self.counts.count if self.counts.count else 0.0

    @property
    def max(self):
        """The largest value, exact; 0 when nothing was recorded."""
        return self.counts.max

    def quantile(self, double q):
        """The smallest bucket top that at least the fraction `q` of the values do not exceed, and never more than max.

        So a quantile errs upwards only, by less than 1/64 of itself. 0 when nothing was recorded; ValueError when q is
        outside 0..1.
        """
        cdef uint64_t rank, seen = 0
        cdef size_t bucket
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies in 0..1, not {q}")
        rank = <uint64_t>(q * self.counts.count)
        if rank < q * self.counts.count or rank == 0:
            rank += 1
        for bucket in range(BUCKETS):
            seen += self.counts.buckets[bucket]
            if seen >= rank:
                return min(bucket_top(bucket), self.counts.max)
        return self.counts.max

    def merge(self, Histogram other not None):
        """Add all values of another histogram to this one."""
        cdef size_t bucket
        self.counts.count += other.counts.count
        self.counts.sum += other.counts.sum
        if other.counts.max > self.counts.max:
            self.counts.max = other.counts.max
        for bucket in range(BUCKETS):
            self.counts.buckets[bucket] += other.counts.buckets[bucket]

    def reset(self):
        """Forget everything recorded."""
        memset(self.counts, 0, sizeof(HistogramCounts))

    def buckets(self):
        """The buckets in use, ascending: a list of (largest value of the bucket, how many values it holds)."""
        cdef size_t bucket
        return [(bucket_top(bucket), self.counts.buckets[bucket])
                for bucket in range(BUCKETS) if self.counts.buckets[bucket]]

    def as_dict(self):
        """count, mean, p50, p90, p99, p999 and max, in the unit of the values, for reports and statistics."""
        return {"count": self.count, "mean": self.mean, "p50": self.quantile(0.5), "p90": self.quantile(0.9),
                "p99": self.quantile(0.99), "p999": self.quantile(0.999), "max": self.max}
