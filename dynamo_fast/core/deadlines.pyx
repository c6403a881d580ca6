"""A timer wheel: every request has a deadline, nearly none reaches it, so adding must cost nothing and removing must not exist.

Tokens go into the slot of their deadline and stay there; whoever gets a token back asks whether it still means anything (a
request's token carries a generation, so that of a finished request does not). A turn is exact to SLOT_MS milliseconds and
never early. Deadlines beyond the wheel's horizon (about 4 s) go around again.

Memory: one Timer per request of the last `deadline` milliseconds; a slot keeps its capacity up to a page.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

cdef enum:
    KEEP = 256  # timers whose memory an emptied slot keeps


cdef int push(WheelSlot *slot, int64_t deadline_ms, uint64_t token) except -1:
    cdef uint32_t capacity
    cdef Timer *grown
    if slot.count == slot.capacity:
        capacity = max(16, slot.capacity * 2)
        grown = <Timer *>realloc(slot.timers, capacity * sizeof(Timer))
        if grown == NULL:
            raise MemoryError
        slot.timers = grown
        slot.capacity = capacity
    slot.timers[slot.count].deadline_ms = deadline_ms
    slot.timers[slot.count].token = token
    slot.count += 1
    return 0


cdef class DeadlineWheel:
    """DeadlineWheel(now_ms): `add(deadline_ms, token)`, then `turn(now_ms)` finds what is due."""

    def __cinit__(self, int64_t now_ms=0):
        memset(self.slots, 0, sizeof(self.slots))
        memset(&self.due, 0, sizeof(self.due))
        self.cursor = now_ms // SLOT_MS

    def __dealloc__(self):
        cdef int i
        for i in range(WHEEL_SLOTS):
            free(self.slots[i].timers)
        free(self.due.timers)

    cdef int add(self, int64_t deadline_ms, uint64_t token) except -1:
        # Rounded up, so that a turn is never early; a deadline already past comes out at the next turn.
        cdef int64_t place = max((deadline_ms + SLOT_MS - 1) // SLOT_MS, self.cursor)
        place = min(place, self.cursor + WHEEL_SLOTS - 1)
        push(&self.slots[place % WHEEL_SLOTS], deadline_ms, token)
        self.count += 1
        return 0

    cdef Py_ssize_t turn(self, int64_t now_ms) except -1:
        """Move to `now_ms`; the tokens due stand in self.due until the next turn. Returns how many."""
        cdef int64_t until = now_ms // SLOT_MS
        cdef int64_t steps = min(until - self.cursor + 1, WHEEL_SLOTS)
        cdef WheelSlot *slot
        cdef WheelSlot taken
        cdef uint32_t i
        self.due.count = 0
        if steps <= 0:
            return 0
        # The cursor moves first, so that timers put back land ahead of it.
        cdef int64_t first = until - steps + 1
        self.cursor = until + 1
        for place in range(first, until + 1):
            slot = &self.slots[place % WHEEL_SLOTS]
            if slot.count == 0:
                continue
            taken = slot[0]
            memset(slot, 0, sizeof(WheelSlot))
            self.count -= taken.count
            for i in range(taken.count):
                if taken.timers[i].deadline_ms <= now_ms:
                    push(&self.due, taken.timers[i].deadline_ms, taken.timers[i].token)
                else:
                    self.add(taken.timers[i].deadline_ms, taken.timers[i].token)
            if slot.count == 0 and slot.timers == NULL and taken.capacity <= KEEP:
                taken.count = 0
                slot[0] = taken
            else:
                free(taken.timers)
        return self.due.count

    def schedule(self, int64_t deadline_ms, uint64_t token):
        """Python's `add`: `token` comes back from the first `expired` at or after `deadline_ms`."""
        self.add(deadline_ms, token)

    def expired(self, int64_t now_ms):
        """All tokens whose deadline is at or before `now_ms`, each once, in no particular order."""
        self.turn(now_ms)
        return [self.due.timers[i].token for i in range(self.due.count)]
