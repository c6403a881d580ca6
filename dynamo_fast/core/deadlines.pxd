"""A timer wheel of request deadlines; see deadlines.pyx."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    WHEEL_SLOTS = 1024
    SLOT_MS = 4

cdef struct Timer:
    int64_t deadline_ms
    uint64_t token

cdef struct WheelSlot:
    Timer *timers
    uint32_t count
    uint32_t capacity

cdef class DeadlineWheel:
    cdef WheelSlot slots[WHEEL_SLOTS]
    cdef int64_t cursor            # the wheel stands before this slot number (milliseconds / SLOT_MS)
    cdef readonly Py_ssize_t count  # timers in the wheel, stale ones included
    cdef WheelSlot due              # what the last turn found

    cdef int add(self, int64_t deadline_ms, uint64_t token) except -1
    cdef Py_ssize_t turn(self, int64_t now_ms) except -1
