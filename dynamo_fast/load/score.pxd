"""What a run has measured so far; explained in score.pyx."""

from libc.stdint cimport uint8_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.load.protocol cimport Reply


cdef class Score:
    cdef readonly Histogram puts, gets      # latencies in ns of the requests that began in the window
    cdef readonly uint64_t siblings         # answers of gets that showed more than one version
    cdef readonly uint64_t values_wrong     # answers of gets that were not what the last put wrote
    cdef readonly uint64_t answers          # requests answered at all, warm-up included
    cdef readonly uint64_t completed        # requests answered inside the window
    cdef readonly uint64_t unanswered       # requests still without an answer when the run was given up
    cdef uint64_t start_ns, end_ns          # the window, on the monotonic clock
    cdef uint64_t last_ns                   # when the last answer inside the window came
    cdef uint64_t statuses[256]             # failed replies by status
    cdef uint64_t *per_second               # owned; completions by second of the window
    cdef char text[201]                     # what the first failed reply said, with a NUL

    # Counts the answer to a request that began (in open loop: was due) at begin_ns; an operation of protocol.pxd.
    cdef void answered(self, uint8_t operation, uint64_t begin_ns, uint64_t now_ns) noexcept nogil
    cdef void failed(self, const Reply *reply) noexcept nogil
