"""Counting of answers towards R, W and DW; see quorum.pyx."""

from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    HOMES_MAX = 16

cdef struct Quorum:
    uint8_t homes           # how many replicas the partition has, 1..HOMES_MAX
    uint8_t wanted          # answers wanted: R, or max(W, DW)
    uint8_t wanted_durable  # of which fsynced: DW, or 0 for a read; from distinct hosts like the others
    uint8_t hosts           # distinct hosts among the homes
    uint16_t acked          # bit i: home i has answered
    uint16_t durable        # bit i: home i holds the write on disk; a subset of acked
    uint16_t failed         # bit i: home i refused, is unreachable or lost its connection; disjoint from acked
    uint8_t host[HOMES_MAX]  # host group of each home: equal numbers are one machine

cdef void quorum_begin(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t wanted, uint8_t wanted_durable) noexcept nogil
cdef void quorum_group(Quorum *quorum, const uint16_t *hosts) noexcept nogil
cdef bint quorum_reached(const Quorum *quorum) noexcept nogil
cdef bint quorum_possible(const Quorum *quorum) noexcept nogil
