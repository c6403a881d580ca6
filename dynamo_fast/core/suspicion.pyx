"""Is a peer alive? A local decision, from what it owes us and what it says (paper 4.8.3), pure: the time is an argument.

A peer is suspected once it has owed an answer and said nothing at all, on any matter, for `suspect_ms`. Whatever it says ends
the suspicion at once. While it lasts, and only while somebody wants something of that peer, a sign of life is asked for,
with growing pauses; after `final_ms` of silence the connection is of no use to anybody.

INVARIANT: only our own running time counts. Whoever calls says with each look for how long it has itself been running since the
last one, and looks only after it has read what had arrived. So a stall of our own loop convicts nobody. And of that time only what passed
between two looks at both of which an answer was owed: what was asked just before a look has not been waited for since the one before.
"""

cimport cython

cdef enum:
    BACKOFF_FIRST_MS = 100
    BACKOFF_MAX_MS = 2000


cdef void suspicion_begin(Suspicion *suspicion, uint64_t frames, uint64_t answers) noexcept nogil:
    """On this connection `frames` frames have come so far, `answers` of them answers; nothing is owed."""
    suspicion.asked = answers
    suspicion.heard = frames
    suspicion.silent_ms = suspicion.probe_at_ms = 0
    suspicion.backoff_ms = BACKOFF_FIRST_MS
    suspicion.suspected = suspicion.owing = False


cdef int suspicion_look(Suspicion *suspicion, uint64_t frames, uint64_t answers, int64_t step_ms, int64_t suspect_ms,
                        int64_t final_ms) noexcept nogil:
    """We have been running for `step_ms` since the last look; `frames` frames have come by now, `answers` of them answers."""
    cdef bint owed = suspicion.owing
    suspicion.owing = suspicion.asked > answers
    if frames != suspicion.heard:
        suspicion.heard = frames
        suspicion.silent_ms = 0
        suspicion.suspected = False
        return SUSPICION_NONE
    if suspicion.asked <= answers:
        suspicion.silent_ms = 0
        return SUSPICION_NONE
    if not owed:
        return SUSPICION_NONE
    suspicion.silent_ms += step_ms
    if suspicion.suspected:
        return SUSPICION_FINAL if suspicion.silent_ms >= final_ms else SUSPICION_NONE
    if suspicion.silent_ms < suspect_ms:
        return SUSPICION_NONE
    suspicion.suspected = True
    suspicion.probe_at_ms = 0
    suspicion.backoff_ms = BACKOFF_FIRST_MS
    return SUSPICION_RAISED


cdef void suspicion_forgive(Suspicion *suspicion, uint64_t answers) noexcept nogil:
    """What was asked and has not been answered never will be: of all that is owed from now on nothing has been waited for yet."""
    suspicion.asked = answers
    suspicion.silent_ms = 0
    suspicion.owing = False


cdef bint suspicion_trusts(Suspicion *suspicion, uint64_t frames) noexcept nogil:
    """May the peer be asked for something? A suspect that has been heard of since the last look is none any more."""
    if suspicion.suspected and frames != suspicion.heard:
        suspicion.heard = frames
        suspicion.silent_ms = 0
        suspicion.suspected = suspicion.owing = False
    return not suspicion.suspected


cdef bint suspicion_probes(Suspicion *suspicion, int64_t now_ms) noexcept nogil:
    """Something is wanted of a suspect: is it time to ask it for a sign of life?"""
    if now_ms < suspicion.probe_at_ms:
        return False
    suspicion.probe_at_ms = now_ms + suspicion.backoff_ms
    suspicion.backoff_ms = min(2 * suspicion.backoff_ms, BACKOFF_MAX_MS)
    return True


@cython.final
cdef class Watch:
    """The same for Python: tests, and code that is not on the hot path. Watch(suspect_ms, final_ms), milliseconds of silence."""

    cdef Suspicion suspicion
    cdef int64_t suspect_ms, final_ms
    cdef readonly uint64_t frames
    cdef uint64_t answers

    def __init__(self, int64_t suspect_ms, int64_t final_ms):
        if not 0 < suspect_ms < final_ms:
            raise ValueError(f"a suspicion is raised before it is final, and both after some time: not {suspect_ms} and {final_ms} ms")
        self.suspect_ms, self.final_ms = suspect_ms, final_ms
        suspicion_begin(&self.suspicion, 0, 0)

    def ask(self):
        """A question went out."""
        self.suspicion.asked += 1

    def hear(self, *, bint answer=False):
        """A frame came; an answer to a question, or anything else."""
        self.frames += 1
        self.answers += answer

    def look(self, int64_t step_ms):
        """We ran for so long. 'raised', 'final', or None: nothing new."""
        return {SUSPICION_RAISED: "raised", SUSPICION_FINAL: "final"}.get(
            suspicion_look(&self.suspicion, self.frames, self.answers, step_ms, self.suspect_ms, self.final_ms))

    def probes(self, int64_t now_ms):
        """Whether to ask it for a sign of life now."""
        return suspicion_probes(&self.suspicion, now_ms)

    @property
    def trusted(self):
        return suspicion_trusts(&self.suspicion, self.frames)
