"""Vector clocks (paper 4.4, Figure 3): compare, descend, merge, advance, truncate, as pure functions over packed entries.

The store works on the packed bytes (siblings.pyx); the class `VectorClock` is the same thing for Python.
"""

import enum
from typing import NamedTuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dynamo_fast.core.bytes cimport store_u64

cdef extern from "vector_clock.h" nogil:
    ctypedef enum ClockOrder:
        pass
    int c_clock_check "clock_check"(const uint8_t *entries, uint32_t count)
    const uint8_t *c_clock_find "clock_find"(const uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch)
    int c_clock_descends "clock_descends"(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count)
    ClockOrder c_clock_order "clock_order"(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count)
    int c_clock_merge "clock_merge"(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count,
                                    uint8_t *out, uint32_t out_max)
    int c_clock_advance "clock_advance"(uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch,
                                        uint64_t timestamp_ms, uint32_t *index)
    uint32_t c_clock_truncate "clock_truncate"(uint8_t *entries, uint32_t count, uint32_t count_max)


cdef int clock_check(const uint8_t *entries, uint32_t count) noexcept nogil:
    return c_clock_check(entries, count)


cdef const uint8_t *clock_find(const uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch) noexcept nogil:
    return c_clock_find(entries, count, node, epoch)


cdef int clock_descends(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count) noexcept nogil:
    return c_clock_descends(a, a_count, b, b_count)


cdef int clock_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, uint8_t *out,
                     uint32_t out_max) noexcept nogil:
    return c_clock_merge(a, a_count, b, b_count, out, out_max)


class Order(enum.Enum):
    """How one clock stands to another: all the same events, some of them, more of them, or some that the other lacks each."""

    EQUAL = 0
    BEFORE = 1
    AFTER = 2
    CONCURRENT = 3


class ClockEntry(NamedTuple):
    """Of the actor (node, epoch) the events 1..counter are covered, the last of them made at timestamp_ms."""

    node: bytes
    epoch: int
    counter: int
    timestamp_ms: int


cdef tuple ORDERS = tuple(Order)  # by ClockOrder's numbers


cdef VectorClock clock_from_bytes(bytes packed):
    cdef VectorClock clock = VectorClock.__new__(VectorClock)
    clock.packed = packed
    clock.entries = <const uint8_t *>PyBytes_AS_STRING(packed)
    clock.count = <uint32_t>(PyBytes_GET_SIZE(packed) // CLOCK_ENTRY_BYTES)
    return clock


cdef VectorClock clock_from_entries(const uint8_t *entries, uint32_t count):
    return clock_from_bytes(PyBytes_FromStringAndSize(<const char *>entries, <Py_ssize_t>count * CLOCK_ENTRY_BYTES))


cdef const uint8_t *pack_dot(dot, uint8_t *out) except? NULL:
    if dot is None:
        return NULL
    node, epoch, counter, timestamp_ms = dot
    memcpy(out, node_bytes(node), 16)
    store_u64(out + 16, epoch)
    store_u64(out + 24, counter)
    store_u64(out + 32, timestamp_ms)
    if not c_clock_check(out, 1):
        raise ValueError("a dot has a counter of 1 to 2**63 - 1 and a timestamp_ms of 0 to 2**63 - 1")
    return out


@cython.final
@cython.freelist(64)
cdef class VectorClock:
    """An immutable vector clock: entries (node, epoch, counter, timestamp_ms), sorted by (node, epoch), each actor once.

    ``node`` is 16 bytes, ``epoch`` a 64-bit number; ``counter`` is 1 to 2**63 - 1, ``timestamp_ms`` 0 to 2**63 - 1. At most
    65535 entries. Causality (`compare`, `descends`) looks at counters only; equality, hash and bytes also at timestamps.
    """

    def __cinit__(self):
        self.packed = b""
        self.entries = <const uint8_t *>PyBytes_AS_STRING(self.packed)
        self.count = 0

    def __init__(self, entries=()):
        """A clock of (node, epoch, counter, timestamp_ms) tuples in any order; ValueError when they do not form one."""
        ordered = sorted(ClockEntry(*entry) for entry in entries)
        if not ordered:
            return
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, CLOCK_ENTRY_BYTES * len(ordered))
        cdef uint8_t *at = <uint8_t *>PyBytes_AS_STRING(packed)
        for node, epoch, counter, timestamp_ms in ordered:
            memcpy(at, node_bytes(node), 16)
            store_u64(at + 16, epoch)
            store_u64(at + 24, counter)
            store_u64(at + 32, timestamp_ms)
            at += CLOCK_ENTRY_BYTES
        take_checked(self, packed)

    @staticmethod
    def from_bytes(bytes packed not None):
        """The clock that `packed` gave; ValueError for bytes that are not a clock in canonical form."""
        cdef VectorClock clock = VectorClock.__new__(VectorClock)
        take_checked(clock, packed)
        return clock

    def compare(self, VectorClock other not None):
        """How this clock stands to the other: `Order.AFTER` when it covers all of the other and more."""
        return ORDERS[<int>c_clock_order(self.entries, self.count, other.entries, other.count)]

    def descends(self, VectorClock other not None):
        """Whether this clock covers every event that the other covers (a clock descends from itself)."""
        return c_clock_descends(self.entries, self.count, other.entries, other.count) != 0

    def merge(self, VectorClock other not None):
        """The smallest clock that covers both; of one actor the larger (counter, timestamp) stays."""
        # Nearly always the longer one's actors are all there are; when not, there is room for both.
        cdef VectorClock merged = merge_within(self, other, max(self.count, other.count))
        return merged if merged is not None else merge_within(self, other, self.count + other.count)

    def advance(self, node, uint64_t epoch=0, uint64_t timestamp_ms=0):
        """This clock with one more event of the actor (node, epoch), made at ``timestamp_ms``.

        OverflowError when the clock is full or the counter at its limit.
        """
        cdef const uint8_t *actor = node_bytes(node)
        if self.count == CLOCK_ENTRIES_MAX and c_clock_find(self.entries, self.count, actor, epoch) == NULL:
            raise OverflowError(f"a clock of more than {CLOCK_ENTRIES_MAX} entries")
        if timestamp_ms > CLOCK_NUMBER_MAX:
            raise OverflowError("a timestamp over 2**63 - 1 ms")
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, (<Py_ssize_t>self.count + 1) * CLOCK_ENTRY_BYTES)
        cdef uint8_t *entries = <uint8_t *>PyBytes_AS_STRING(packed)
        memcpy(entries, self.entries, self.count * CLOCK_ENTRY_BYTES)
        cdef uint32_t index
        cdef int count = c_clock_advance(entries, self.count, actor, epoch, timestamp_ms, &index)
        if count < 0:
            raise OverflowError("a counter over 2**63 - 1")
        return clock_from_bytes(packed if <uint32_t>count > self.count else packed[:-CLOCK_ENTRY_BYTES])

    def truncate(self, uint32_t entries_max=10):
        """The paper's truncation: this clock without its oldest entries, so that at most ``entries_max`` are left.

        Loses causality by design: a truncated clock no longer descends from what it forgot. The store never does this
        in a put.
        """
        if self.count <= entries_max:
            return self
        cdef bytes packed = PyBytes_FromStringAndSize(<const char *>self.entries, <Py_ssize_t>self.count * CLOCK_ENTRY_BYTES)
        cdef uint32_t count = c_clock_truncate(<uint8_t *>PyBytes_AS_STRING(packed), self.count, entries_max)
        return clock_from_bytes(packed[:<Py_ssize_t>count * CLOCK_ENTRY_BYTES])

    def counter(self, node, uint64_t epoch=0):
        """The highest event of the actor that is covered, 0 if none is."""
        cdef const uint8_t *entry = c_clock_find(self.entries, self.count, node_bytes(node), epoch)
        return clock_counter(entry) if entry != NULL else 0

    def __iter__(self):
        cdef const uint8_t *entry
        cdef uint32_t i
        result = []
        for i in range(self.count):
            entry = self.entries + i * CLOCK_ENTRY_BYTES
            result.append(ClockEntry((<const char *>entry)[:16], clock_epoch(entry), clock_counter(entry), clock_timestamp(entry)))
        return iter(result)

    def __len__(self):
        return self.count

    def __bytes__(self):
        return self.packed

    def __eq__(self, other):
        return self.packed == (<VectorClock>other).packed if isinstance(other, VectorClock) else NotImplemented

    def __hash__(self):
        return hash(self.packed)

    def __reduce__(self):
        return VectorClock.from_bytes, (self.packed,)

    def __repr__(self):
        inside = ", ".join(f"{node.hex()[:8]}/{epoch:x}:{counter}" for node, epoch, counter, _ in self)
        return f"<VectorClock {inside or 'empty'}>"


cdef VectorClock merge_within(VectorClock a, VectorClock b, uint32_t count_max):
    # The join if it has at most count_max entries, else None.
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count_max * CLOCK_ENTRY_BYTES)
    cdef int count = c_clock_merge(a.entries, a.count, b.entries, b.count, <uint8_t *>PyBytes_AS_STRING(packed),
                                   min(count_max, <uint32_t>CLOCK_ENTRIES_MAX))
    if <uint32_t>count == count_max:
        return clock_from_bytes(packed)
    if count >= 0:
        return clock_from_bytes(packed[:count * CLOCK_ENTRY_BYTES])
    if count_max >= CLOCK_ENTRIES_MAX:
        raise OverflowError(f"a clock of more than {CLOCK_ENTRIES_MAX} entries")
    return None


cdef const uint8_t *node_bytes(node) except NULL:
    # Into the object itself, which the caller keeps alive.
    if not isinstance(node, bytes) or PyBytes_GET_SIZE(node) != 16:
        raise ValueError("a node id is 16 bytes")
    return <const uint8_t *>PyBytes_AS_STRING(node)


cdef int take_checked(VectorClock clock, bytes packed) except -1:
    cdef Py_ssize_t n = PyBytes_GET_SIZE(packed)
    cdef const uint8_t *entries = <const uint8_t *>PyBytes_AS_STRING(packed)
    if n % CLOCK_ENTRY_BYTES != 0 or n > CLOCK_ENTRIES_MAX * CLOCK_ENTRY_BYTES or \
            not c_clock_check(entries, <uint32_t>(n // CLOCK_ENTRY_BYTES)):
        raise ValueError("not a vector clock: at most 65535 entries of 40 bytes, sorted, each actor once, counters from 1")
    clock.packed = packed
    clock.entries = entries
    clock.count = <uint32_t>(n // CLOCK_ENTRY_BYTES)
    return 0
