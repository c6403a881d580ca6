"""Vector clocks for the other Cython modules; _ext/vector_clock.h has the layout and every contract in full."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "vector_clock.h" nogil:
    enum:
        CLOCK_ENTRY_BYTES  # 40
        CLOCK_ENTRIES_MAX  # 65535
    const uint64_t CLOCK_NUMBER_MAX  # 2**63 - 1, of counters and timestamps
    uint64_t clock_epoch(const uint8_t *entry)
    uint64_t clock_counter(const uint8_t *entry)
    uint64_t clock_timestamp(const uint8_t *entry)


# 1 when these entries, from anybody, are a valid clock.
cdef int clock_check(const uint8_t *entries, uint32_t count) noexcept nogil

# The actor's entry or NULL.
cdef const uint8_t *clock_find(const uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch) noexcept nogil

# 1 when a covers every event that b covers.
cdef int clock_descends(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count) noexcept nogil

# Writes the join to out, room for out_max entries: the number of entries, or -1 when there is no room.
cdef int clock_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, uint8_t *out,
                     uint32_t out_max) noexcept nogil


# The paper's clock as an immutable value. `packed` is the entries' bytes, sorted, 40 each.
cdef class VectorClock:
    cdef readonly bytes packed
    cdef const uint8_t *entries  # into packed
    cdef uint32_t count


# A clock of entries known to be valid; an actual copy.
cdef VectorClock clock_from_entries(const uint8_t *entries, uint32_t count)

# One event, given by Python as (node, epoch, counter, timestamp_ms), packed as an entry into out, which is returned; NULL for None.
cdef const uint8_t *pack_dot(dot, uint8_t *out) except? NULL
