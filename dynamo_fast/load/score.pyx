"""What a run has measured: latencies, throughput second by second, and everything that went wrong.

A latency belongs to the window when its request began in it, however late the answer came, so that a stall at the end
is not forgotten; throughput counts the answers that came inside the window, so that it owes nothing to what came after.
"""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.load.protocol cimport GET, Reply

cdef enum:
    SECONDS_MAX = 86400        # of a window: what per_second has room for


@cython.final
cdef class Score:
    """Filled by a Generator, read when its run has ended."""

    def __cinit__(self):
        self.puts, self.gets = Histogram(), Histogram()
        self.per_second = <uint64_t *>calloc(SECONDS_MAX, sizeof(uint64_t))
        if self.per_second == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.per_second)

    cdef void answered(self, uint8_t operation, uint64_t begin_ns, uint64_t now_ns) noexcept nogil:
        cdef uint64_t second
        cdef uint64_t latency_ns = now_ns - begin_ns if now_ns > begin_ns else 0
        self.answers += 1
        if begin_ns >= self.start_ns:
            if operation == GET:
                self.gets.record(latency_ns)
            else:
                self.puts.record(latency_ns)
        if self.start_ns <= now_ns < self.end_ns:
            self.completed += 1
            self.last_ns = now_ns
            second = (now_ns - self.start_ns) // 1_000_000_000
            if second < SECONDS_MAX:
                self.per_second[second] += 1

    cdef void failed(self, const Reply *reply) noexcept nogil:
        self.statuses[reply.status] += 1
        if not self.text[0] and reply.text != NULL:
            memcpy(self.text, reply.text, min(reply.text_bytes, <size_t>200))

    @property
    def seconds(self):
        """The length of the window; when it had no end set, up to its last answer."""
        return (self.last_ns - self.start_ns if self.end_ns == <uint64_t>-1 else self.end_ns - self.start_ns) / 1e9

    @property
    def statuses(self):
        """Replies that say the request failed, by status: {status number: replies}."""
        return {status: self.statuses[status] for status in range(256) if self.statuses[status]}

    @property
    def error_text(self):
        """What the first failed reply said, up to 200 bytes of it; empty when none did."""
        return (<bytes>self.text).decode(errors="replace")

    def completed_per_second(self):
        """Answers in each whole second of the window."""
        cdef size_t second
        return [self.per_second[second] for second in range(min(<size_t>self.seconds, <size_t>SECONDS_MAX))]
