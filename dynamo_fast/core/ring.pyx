"""The ring: key -> position -> partition -> preference list.

`Ring` is what the store uses: Q equal partitions and a table (paper, section 6.2, strategy 3), so that a lookup is one MD5
and one load. Where the table comes from is the business of core/placement.py. `BasicRing` is the ring of random tokens
that the paper starts from (section 4.2), a pure structure to compare with.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from dynamo_fast.core.bytes cimport load_u64_be
from dynamo_fast.core.digest cimport MD5_LANES, key_position, md5, md5_several

cdef extern from "ring.h" nogil:
    enum: RING_PARTITIONS_MAX
    enum: RING_NODES_MAX
    uint32_t ring_partition(const uint8_t *position, unsigned int partition_bits)
    int ring_is_permutation(const uint16_t *order, uint32_t node_count, uint8_t *seen)
    void ring_sort_tokens(RingToken *tokens, size_t count)
    uint32_t ring_walk(const RingToken *tokens, size_t count, const uint8_t *position, uint32_t wanted, uint8_t *seen, uint16_t *out)

cdef enum:
    POSITION_BYTES = 16
    BUCKET_BYTES_MAX = 255


cdef int position_of(bytes key, bytes bucket, uint8_t *position) except -1:
    if PyBytes_GET_SIZE(bucket) == 0:
        md5(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), position)
        return 0
    if PyBytes_GET_SIZE(bucket) > BUCKET_BYTES_MAX:
        raise ValueError(f"a bucket's name has at most {BUCKET_BYTES_MAX} bytes, not {len(bucket)}")
    key_position(<const uint8_t *>PyBytes_AS_STRING(bucket), PyBytes_GET_SIZE(bucket),
                 <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), position)
    return 0


cdef tuple indices(const uint16_t *nodes, uint32_t count):
    return tuple([nodes[i] for i in range(count)])


@cython.final
cdef class Ring:
    """`Ring(partitions, replicas, preference_lists)`: for each partition, all nodes (as indices) in preference order.

    `partitions` is a power of two up to 65536 and the number of lists; every list holds 0..node_count-1 once each. The
    first `replicas` of a list are the homes of the partition's keys, the others its fallbacks; with fewer nodes than
    `replicas` all are homes. Raises ValueError for anything else. Immutable.
    """

    def __cinit__(self, partitions: int, replicas: int, preference_lists):
        if not 1 <= partitions <= RING_PARTITIONS_MAX or partitions & (partitions - 1):
            raise ValueError(f"partitions must be a power of two from 1 to {RING_PARTITIONS_MAX}, not {partitions}")
        if len(preference_lists) != partitions:
            raise ValueError(f"{partitions} partitions need as many preference lists, not {len(preference_lists)}")
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, not {replicas}")
        if not 1 <= len(preference_lists[0]) <= RING_NODES_MAX:
            raise ValueError(f"a ring has 1 to {RING_NODES_MAX} nodes, not {len(preference_lists[0])}")
        self.partitions = partitions
        self.partition_bits = partitions.bit_length() - 1
        self.node_count = len(preference_lists[0])
        self.replicas = min(replicas, self.node_count)
        self.table = <uint16_t *>malloc(<size_t>self.partitions * self.node_count * sizeof(uint16_t))
        if self.table == NULL:
            raise MemoryError
        self.fill(preference_lists)
        self.home_tuples = [indices(self.homes(p), self.replicas) for p in range(self.partitions)]

    def __dealloc__(self):
        free(self.table)

    cdef int fill(self, object preference_lists) except -1:
        cdef bytearray seen = bytearray(self.node_count)
        cdef uint32_t partition, node, i
        cdef uint16_t *row
        for partition in range(self.partitions):
            row = self.table + <size_t>partition * self.node_count
            nodes = preference_lists[partition]
            if len(nodes) != self.node_count:
                raise ValueError(f"partition {partition} lists {len(nodes)} nodes, the first one {self.node_count}")
            for i in range(self.node_count):
                node = nodes[i]
                row[i] = <uint16_t>min(node, 65535)
            memset(<void *><char *>seen, 0, self.node_count)
            if not ring_is_permutation(row, self.node_count, <uint8_t *><char *>seen):
                raise ValueError(f"partition {partition} must list every node from 0 to {self.node_count - 1} once")
        return 0

    cdef uint32_t partition_of(self, const uint8_t *position) noexcept nogil:
        return ring_partition(position, self.partition_bits)

    cdef const uint16_t *homes(self, uint32_t partition) noexcept nogil:
        return self.table + <size_t>partition * self.node_count

    cdef const uint16_t *order(self, uint32_t partition) noexcept nogil:
        return self.table + <size_t>partition * self.node_count

    cdef int check_partition(self, Py_ssize_t partition) except -1:
        if not 0 <= partition < self.partitions:
            raise IndexError(f"partition {partition} is not one of 0..{self.partitions - 1}")
        return 0

    def partition(self, bytes key not None, bytes bucket not None=b"") -> int:
        """The partition of a key: the top log2(partitions) bits of its position."""
        cdef uint8_t position[POSITION_BYTES]
        position_of(key, bucket, position)
        return ring_partition(position, self.partition_bits)

    def preference_list(self, bytes key not None, bytes bucket not None=b"") -> tuple[int, ...]:
        """The indices of a key's home replicas, in preference order (paper, section 4.3)."""
        cdef uint8_t position[POSITION_BYTES]
        position_of(key, bucket, position)
        return self.home_tuples[ring_partition(position, self.partition_bits)]

    def preference_lists(self, list keys not None) -> list[tuple[int, ...]]:
        """`preference_list` of every key (bytes, in the default bucket), hashed several at a time."""
        cdef Py_ssize_t first, i, several, count = len(keys)
        cdef const uint8_t *data[MD5_LANES]
        cdef size_t n[MD5_LANES]
        cdef uint8_t positions[MD5_LANES * POSITION_BYTES]
        cdef bytes key
        cdef list found = PyList_New(count)
        for first in range(0, count, MD5_LANES):
            several = min(count - first, MD5_LANES)
            for i in range(several):
                key = keys[first + i]
                if key is None:
                    raise TypeError("a key must be bytes, not None")
                data[i] = <const uint8_t *>PyBytes_AS_STRING(key)
                n[i] = PyBytes_GET_SIZE(key)
            md5_several(data, n, several, positions)
            for i in range(several):
                homes = self.home_tuples[ring_partition(positions + i * POSITION_BYTES, self.partition_bits)]
                Py_INCREF(homes)
                PyList_SET_ITEM(found, first + i, homes)
        return found

    def fallbacks(self, bytes key not None, bytes bucket not None=b"") -> tuple[int, ...]:
        """The nodes after the homes, in the order in which they stand in for homes that cannot be reached."""
        cdef uint8_t position[POSITION_BYTES]
        position_of(key, bucket, position)
        return indices(self.order(ring_partition(position, self.partition_bits)) + self.replicas, self.node_count - self.replicas)

    def homes_of(self, Py_ssize_t partition) -> tuple[int, ...]:
        """The homes of a partition, in preference order. IndexError when there is no such partition."""
        self.check_partition(partition)
        return self.home_tuples[partition]

    def order_of(self, Py_ssize_t partition) -> tuple[int, ...]:
        """All nodes in a partition's preference order: its homes, then its fallbacks."""
        self.check_partition(partition)
        return indices(self.order(<uint32_t>partition), self.node_count)


@cython.final
cdef class BasicRing:
    """`BasicRing(tokens)`: the paper's first ring (section 4.2): tokens of (16-byte position, node), in any order.

    A key belongs to the first token after its position, clockwise, and its preference list is the distinct nodes met from
    there on. A node with several tokens has as many virtual nodes. Nodes are numbers below 65535; there is at least one
    token, and no two at one position (ValueError otherwise). Immutable.
    """

    def __cinit__(self, tokens):
        cdef Py_ssize_t i
        cdef const uint8_t *at
        cdef bytes position
        tokens = list(tokens)  # what is counted here is what is read below, whatever the caller's sequence does
        self.token_count = len(tokens)
        if self.token_count == 0:
            raise ValueError("a ring has at least one token")
        self.sorted_tokens = <RingToken *>malloc(self.token_count * sizeof(RingToken))
        if self.sorted_tokens == NULL:
            raise MemoryError
        for i, (position, node) in enumerate(tokens):
            if position is None or PyBytes_GET_SIZE(position) != POSITION_BYTES:
                raise ValueError(f"a position has {POSITION_BYTES} bytes")
            if not 0 <= node < RING_NODES_MAX:
                raise ValueError(f"a node is a number from 0 to {RING_NODES_MAX - 1}, not {node}")
            at = <const uint8_t *>PyBytes_AS_STRING(position)
            self.sorted_tokens[i].high = load_u64_be(at)
            self.sorted_tokens[i].low = load_u64_be(at + 8)
            self.sorted_tokens[i].node = node
            self.node_count = max(self.node_count, self.sorted_tokens[i].node + 1)
        ring_sort_tokens(self.sorted_tokens, self.token_count)
        for i in range(1, self.token_count):
            if (self.sorted_tokens[i].high == self.sorted_tokens[i - 1].high
                    and self.sorted_tokens[i].low == self.sorted_tokens[i - 1].low):
                raise ValueError("two tokens have the same position")
        self.seen = <uint8_t *>calloc(self.node_count, 1)
        self.found = <uint16_t *>calloc(self.node_count, sizeof(uint16_t))
        if self.seen == NULL or self.found == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.sorted_tokens)
        free(self.seen)
        free(self.found)

    @staticmethod
    def random(token_counts, random_bytes) -> BasicRing:
        """A ring on which node i has token_counts[i] tokens at random positions: in proportion to its weight, as the paper
        gives a machine virtual nodes by its capacity. `random_bytes(n)` gives n random bytes."""
        return BasicRing([(random_bytes(POSITION_BYTES), node) for node, count in enumerate(token_counts) for _ in range(count)])

    def tokens(self) -> list[tuple[bytes, int]]:
        """All tokens as (position, node), in the order of their positions."""
        cdef size_t i
        return [((<object>self.sorted_tokens[i].high << 64 | self.sorted_tokens[i].low).to_bytes(POSITION_BYTES, "big"),
                 self.sorted_tokens[i].node) for i in range(self.token_count)]

    def preference_list(self, bytes key not None, uint32_t count, bytes bucket not None=b"") -> tuple[int, ...]:
        """The first `count` distinct nodes clockwise from a key; fewer when the ring has fewer."""
        cdef uint8_t position[POSITION_BYTES]
        position_of(key, bucket, position)
        return self.walk(position, count)

    def preference_list_at(self, bytes position not None, uint32_t count) -> tuple[int, ...]:
        """The first `count` distinct nodes clockwise from a 16-byte position."""
        if PyBytes_GET_SIZE(position) != POSITION_BYTES:
            raise ValueError(f"a position has {POSITION_BYTES} bytes, not {len(position)}")
        return self.walk(<const uint8_t *>PyBytes_AS_STRING(position), count)

    cdef tuple walk(self, const uint8_t *position, uint32_t count):
        cdef uint32_t found = ring_walk(self.sorted_tokens, self.token_count, position, min(count, self.node_count),
                                        self.seen, self.found)
        return indices(self.found, found)
