"""The cluster as one request sees it: who owns the key, who of them can be asked now, and who shares a machine.

A node has one view at a time and puts a new one in its place when the placement changes; requests under way keep the one
they began with. Nodes are numbered by their place in the placement's sorted list of ids.
"""

from libc.stdlib cimport free, malloc

from dynamo_fast.core.quorum cimport HOMES_MAX


cdef class ClusterView:
    """ClusterView(placement, ring, node_ids, hosts, labels, own_id).

    `placement` is the 64-bit name that replica requests carry, `ring` its preference lists over indices into `node_ids`;
    `hosts` and `labels` go with `node_ids`. A node that is not in the placement has own_index -1. Raises ValueError when the
    lengths disagree.
    """

    def __cinit__(self, uint64_t placement, Ring ring not None, node_ids, hosts, labels, bytes own_id not None):
        if not len(node_ids) == len(hosts) == len(labels) == ring.node_count:
            raise ValueError("a placement, its ring, hosts and labels must tell of the same nodes")
        if ring.replicas > HOMES_MAX:
            raise ValueError(f"a key has at most {HOMES_MAX} homes, not {ring.replicas}")
        self.placement = placement
        self.ring = ring
        self.index_of = {bytes(node_id): index for index, node_id in enumerate(node_ids)}
        self.own_index = self.index_of.get(own_id, -1)
        self.peers = [None] * len(node_ids)
        self.labels = list(labels)
        self.hosts = <uint16_t *>malloc(<size_t>ring.partitions * ring.replicas * sizeof(uint16_t))
        self.host_of = <uint16_t *>malloc(<size_t>ring.node_count * sizeof(uint16_t))
        if self.hosts == NULL or self.host_of == NULL:
            raise MemoryError
        groups = {}
        for index, host in enumerate(hosts):
            self.host_of[<Py_ssize_t>index] = groups.setdefault(host, len(groups))
        for partition in range(ring.partitions):
            for slot in range(ring.replicas):
                self.hosts[partition * ring.replicas + slot] = self.host_of[ring.homes(partition)[slot]]

    def __dealloc__(self):
        free(self.hosts)
        free(self.host_of)

    cdef int slot_of(self, uint32_t partition, int index) noexcept nogil:
        """The place of node `index` among the partition's homes, -1 if it is none of them."""
        cdef const uint16_t *homes = self.ring.homes(partition)
        cdef int slot
        for slot in range(self.ring.replicas):
            if homes[slot] == index:
                return slot
        return -1

    cdef const uint16_t *hosts_of(self, uint32_t partition) noexcept nogil:
        """The machine of each of the partition's homes: equal numbers are one machine."""
        return self.hosts + partition * self.ring.replicas
