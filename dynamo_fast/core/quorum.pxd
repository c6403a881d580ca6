"""Counting of answers towards R, W and DW; see quorum.pyx."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    HOMES_MAX = 16          # of a partition in one placement
    SLOTS_MAX = 32          # of a request: between two placements it asks the homes in both

cdef struct Quorum:
    uint8_t homes           # slots: how many homes are asked, 1..SLOTS_MAX
    uint8_t wanted          # answers wanted of the first: R, or max(W, DW)
    uint8_t wanted_durable  # of which fsynced: DW, or 0 for a read; from distinct hosts like the others
    uint8_t hosts           # distinct hosts among the homes in the first
    uint8_t second_wanted, second_wanted_durable, second_hosts  # the same of the second
    uint32_t first          # bit i: an answer in slot i counts in the first placement; all of them when there is no second
    uint32_t second         # the same of the second; 0: there is only one
    uint32_t covered        # bit i: somebody who counted in the other placement alone counts for slot i too
    uint32_t acked          # bit i: home i has answered
    uint32_t durable        # bit i: home i holds the write on disk; a subset of acked
    uint32_t failed         # bit i: home i refused, is unreachable or lost its connection; disjoint from acked
    uint8_t host[SLOTS_MAX]  # host group of each home: equal numbers are one machine

cdef void quorum_begin(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t wanted, uint8_t wanted_durable) noexcept nogil
cdef void quorum_begin_both(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t first, uint32_t second, uint8_t wanted,
                            uint8_t wanted_durable) noexcept nogil
cdef void quorum_group(Quorum *quorum, const uint16_t *hosts) noexcept nogil
cdef void quorum_cover(Quorum *quorum, int slot) noexcept nogil
cdef bint quorum_reached(const Quorum *quorum) noexcept nogil
cdef bint quorum_possible(const Quorum *quorum) noexcept nogil
