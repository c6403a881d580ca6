"""Whether a peer is believed to be alive; see suspicion.pyx."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:                      # what a look finds
    SUSPICION_NONE = 0          # nothing new
    SUSPICION_RAISED = 1        # from now on it is suspected
    SUSPICION_FINAL = 2         # it has been silent for so long that its connection is of no use

cdef struct Suspicion:
    uint64_t asked              # answers that would have come on this connection by now if all questions had been answered
    uint64_t heard              # frames of any kind that had come when it was last looked at
    int64_t silent_ms           # of our own running time, for which it has owed answers and said nothing: from look to look
    int64_t probe_at_ms         # when the next sign of life may be asked for
    int64_t backoff_ms          # until the one after
    bint suspected
    bint owing                  # it owed an answer when it was last looked at, and has said nothing since

cdef void suspicion_begin(Suspicion *suspicion, uint64_t frames, uint64_t answers) noexcept nogil
cdef int suspicion_look(Suspicion *suspicion, uint64_t frames, uint64_t answers, int64_t step_ms, int64_t suspect_ms,
                        int64_t final_ms) noexcept nogil
cdef void suspicion_forgive(Suspicion *suspicion, uint64_t answers) noexcept nogil
cdef bint suspicion_trusts(Suspicion *suspicion, uint64_t frames) noexcept nogil
cdef bint suspicion_probes(Suspicion *suspicion, int64_t now_ms) noexcept nogil
