"""The cluster as one request sees it: who owns the key, who of them can be asked now, and who shares a machine.

A node has one view at a time and puts a new one in its place with every step of a change of members (change.py); requests under way
keep the one they began with, and learn through it of peers that are lost. Nodes are numbered by their place in the sorted list of the
ids that the placements in force have together.

Each home of a partition that a request asks has a *slot*. In one placement that is its place in the preference list. A write between
two asks the homes of both: first those in the placement that comes, in its order, so that their slots are the ones in which hints
count, then those that are homes in the other one alone. A home in both has one slot.
"""

from libc.stdlib cimport calloc, free, malloc

from dynamo_fast.core.quorum cimport HOMES_MAX


cdef class HomeTable:
    """HomeTable(): the homes of every partition, filled by the view it belongs to."""

    def __dealloc__(self):
        free(self.nodes)
        free(self.hosts)
        free(self.counts)
        free(self.seconds)
        free(self.own)

    cdef int fill(self, Ring first, Ring second, const uint16_t *host_of, int own_index) except -1:
        """From the preference lists of one placement, or of two when `second` is not None."""
        cdef uint32_t partition, slot, at
        cdef const uint16_t *homes
        cdef uint16_t *row
        self.ring = first
        self.replicas = first.replicas if second is None else max(first.replicas, second.replicas)
        self.width = first.replicas + (0 if second is None else second.replicas)
        self.nodes = <uint16_t *>malloc(<size_t>first.partitions * self.width * sizeof(uint16_t))
        self.hosts = <uint16_t *>malloc(<size_t>first.partitions * self.width * sizeof(uint16_t))
        self.counts = <uint8_t *>malloc(first.partitions)
        self.own = <int8_t *>malloc(first.partitions)
        self.seconds = NULL if second is None else <uint32_t *>calloc(first.partitions, sizeof(uint32_t))
        if (self.nodes == NULL or self.hosts == NULL or self.counts == NULL or self.own == NULL
                or (second is not None and self.seconds == NULL)):
            raise MemoryError
        for partition in range(first.partitions):
            row = self.nodes + partition * self.width
            homes = first.homes(partition)
            for slot in range(first.replicas):
                row[slot] = homes[slot]
            self.counts[partition] = <uint8_t>first.replicas
            if second is not None:
                homes = second.homes(partition)
                for at in range(second.replicas):
                    for slot in range(self.counts[partition]):
                        if row[slot] == homes[at]:
                            break
                    else:
                        slot = self.counts[partition]
                        row[slot] = homes[at]
                        self.counts[partition] += 1
                    self.seconds[partition] |= <uint32_t>1 << slot
            self.own[partition] = -1
            for slot in range(self.counts[partition]):
                self.hosts[partition * self.width + slot] = host_of[row[slot]]
                if row[slot] == own_index:
                    self.own[partition] = <int8_t>slot
        return 0


cdef class ClusterView:
    """ClusterView(in_force, hosts, labels, own_id).

    `in_force` is an InForce; `hosts` and `labels` go with its `node_ids`. A node that is not among those has own_index -1. Raises
    ValueError when the lengths disagree.
    """

    def __cinit__(self, in_force, hosts, labels, bytes own_id not None):
        cdef Ring ring, reads = in_force.reads
        cdef uint32_t partition, slot
        node_ids, writes, names = in_force.node_ids, in_force.writes, in_force.accepted
        rings = {reads, *writes, *in_force.homes}
        if not len(node_ids) == len(hosts) == len(labels):
            raise ValueError("a placement, hosts and labels must tell of the same nodes")
        for ring in rings:
            if ring.node_count != <uint32_t>len(node_ids) or ring.partitions != reads.partitions:
                raise ValueError("a placement and its rings must tell of the same nodes and partitions")
            if ring.replicas > HOMES_MAX:
                raise ValueError(f"a key has at most {HOMES_MAX} homes, not {ring.replicas}")
        if not 1 <= len(writes) <= 2 or not 1 <= len(names) <= 2 or in_force.name not in names:
            raise ValueError("a node works by one placement or between two, and by what it says")
        self.placement = in_force.name
        self.other_name = names[0] if names[0] != in_force.name else names[len(names) - 1]
        self.index_of = {bytes(node_id): index for index, node_id in enumerate(node_ids)}
        self.own_index = self.index_of.get(own_id, -1)
        self.peers = [None] * len(node_ids)
        self.labels = list(labels)
        self.host_of = <uint16_t *>malloc(<size_t>reads.node_count * sizeof(uint16_t))
        self.at_home = <uint8_t *>calloc(reads.partitions, 1)
        if self.host_of == NULL or self.at_home == NULL:
            raise MemoryError
        groups = {}
        for index, host in enumerate(hosts):
            self.host_of[<Py_ssize_t>index] = groups.setdefault(host, len(groups))
        self.reads = self.writes = HomeTable()
        self.reads.fill(reads, None, self.host_of, self.own_index)
        if writes != (reads,):
            self.writes = HomeTable()
            self.writes.fill(writes[0], writes[1] if len(writes) == 2 else None, self.host_of, self.own_index)
        for ring in rings:
            for partition in range(ring.partitions):
                for slot in range(ring.replicas):
                    if ring.homes(partition)[slot] == self.own_index:
                        self.at_home[partition] = 1

    def __dealloc__(self):
        free(self.host_of)
        free(self.at_home)

    cdef bint accepts(self, uint64_t placement) noexcept nogil:
        """Is that the name of a placement by which others may work?"""
        return placement == self.placement or placement == self.other_name
