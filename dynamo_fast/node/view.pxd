"""The cluster as one request sees it; see view.pyx."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from dynamo_fast.core.ring cimport Ring

cdef class ClusterView:
    cdef readonly Ring ring
    cdef readonly uint64_t placement    # name of the placement that `ring` is
    cdef readonly int own_index         # this node's place in the placement, -1 when it owns nothing
    cdef readonly list peers            # by node index: the Peer that can be written to, or None
    cdef readonly list labels           # by node index: how messages name the node
    cdef readonly dict index_of         # node id -> node index
    cdef uint16_t *host_of              # by node index: its machine; equal numbers are one machine
    cdef uint16_t *hosts                # partitions x replicas: the machine of each home

    cdef int slot_of(self, uint32_t partition, int index) noexcept nogil
    cdef const uint16_t *hosts_of(self, uint32_t partition) noexcept nogil
