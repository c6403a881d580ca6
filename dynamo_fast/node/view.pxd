"""The cluster as one request sees it; see view.pyx."""

from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.core.ring cimport Ring

cdef class HomeTable:
    cdef readonly Ring ring             # of the placement, or of the first of two; its order has the fallbacks
    cdef readonly int replicas          # homes of a partition in one placement, the larger number of two
    cdef uint32_t width                 # slots of a row, of which a partition uses the first `counts`
    cdef uint16_t *nodes                # partitions x width: node index of each home
    cdef uint16_t *hosts                # partitions x width: its machine
    cdef uint8_t *counts                # by partition: how many are asked
    cdef uint32_t *seconds              # by partition, bit i: slot i is a home in the second placement; NULL: there is only one
    cdef int8_t *own                    # by partition: this node's slot, -1 when it is no home

    cdef int fill(self, Ring first, Ring second, const uint16_t *host_of, int own_index) except -1

cdef class ClusterView:
    cdef readonly HomeTable reads       # whom a get asks
    cdef readonly HomeTable writes      # whom a put asks; the same object unless two placements are written to
    cdef readonly uint64_t placement    # name that this node's requests to others carry
    cdef uint64_t other_name            # another one that is accepted, or the same again
    cdef readonly int own_index         # this node's place in node_ids, -1 when it owns nothing
    cdef readonly list peers            # by node index: the Peer that can be written to, or None
    cdef readonly list labels           # by node index: how messages name the node
    cdef readonly dict index_of         # node id -> node index
    cdef uint16_t *host_of              # by node index: its machine; equal numbers are one machine
    cdef uint8_t *at_home               # by partition: 1 when this node is a home in any placement

    cdef bint accepts(self, uint64_t placement) noexcept nogil
