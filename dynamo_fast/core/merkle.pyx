"""A forest of Merkle trees, one per partition, kept up to date inside every write (paper, section 4.7).

Replicas that agree find that out by comparing one root each. Replicas that do not walk down: one side sends the hashes
some levels below the nodes that differ (`descendants`), the other says which of those differ from its own (`differing`),
until the leaves are reached. Who asks for few nodes at a time gets short messages: 8 bytes for each hash.

Trees know neither keys nor objects: they hold the sums of their entries' hashes, so that two forests can be added.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from dynamo_fast.core.bytes cimport load_u64, load_u64_be

from xxhash import xxh3_64_intdigest

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) noexcept nogil

cdef extern from "entry_hash.h" nogil:
    enum: ENTRY_HASH_BYTES_MIN, ENTRY_HASH_BYTES_MAX
    uint64_t entry_hash_xxh3(const uint8_t *data, size_t n)

cdef extern from "merkle.h" nogil:
    enum: MERKLE_LEAVES_MAX
    size_t merkle_tree_words(uint32_t leaves)
    void merkle_update(uint64_t *tree, uint32_t leaves, uint32_t leaf, uint64_t old_hash, uint64_t new_hash)
    uint64_t merkle_root(uint64_t *tree, uint32_t leaves)
    void merkle_descendants(uint64_t *tree, uint32_t leaves, unsigned int level, uint32_t index, unsigned int depth, uint8_t *out)
    uint32_t merkle_diff(uint64_t *left, uint64_t *right, uint32_t leaves, uint32_t *out)
    void merkle_load(uint64_t *tree, uint32_t leaves, const uint8_t *bytes)
    void merkle_add(uint64_t *tree, uint32_t leaves, const uint8_t *bytes)

cdef enum:
    POSITION_BYTES = 16
    PARTITIONS_MAX = 65536


def entry_hash(bytes position not None, bytes packed not None) -> int:
    """What an entry adds to its leaf: XXH3_64 of its 16-byte position followed by its packed object."""
    if PyBytes_GET_SIZE(position) != POSITION_BYTES:
        raise ValueError(f"a position has {POSITION_BYTES} bytes, not {len(position)}")
    cdef bytes entry = position + packed
    return entry_hash_at(<const uint8_t *>PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry))


cdef uint64_t entry_hash_at(const uint8_t *entry, size_t n) except? 0:
    if n >= ENTRY_HASH_BYTES_MIN and n <= ENTRY_HASH_BYTES_MAX:
        return entry_hash_xxh3(entry, n)
    return xxh3_64_intdigest(PyMemoryView_FromMemory(<char *>entry, n, PyBUF_READ))


cdef unsigned int bits_of(object number, str name, long number_max) except? 99:
    """log2 of a power of two in 1..number_max."""
    if not 1 <= number <= number_max or number & (number - 1):
        raise ValueError(f"{name} must be a power of two from 1 to {number_max}, not {number}")
    return number.bit_length() - 1


@cython.final
cdef class Forest:
    """`Forest(partitions, leaves)`: one tree of `leaves` leaves for each partition; both powers of two, up to 65536.

    Takes 16 bytes per leaf, as zero pages that the system hands out when first touched. Not to be used from two threads
    at once. A partition that does not exist raises IndexError.
    """

    def __cinit__(self, partitions: int, leaves: int = 256):
        self.partition_bits = bits_of(partitions, "partitions", PARTITIONS_MAX)
        self.leaf_bits = bits_of(leaves, "leaves", MERKLE_LEAVES_MAX)
        self.partitions = partitions
        self.leaf_count = leaves
        self.tree_words = merkle_tree_words(self.leaf_count)
        self.trees = <uint64_t *>calloc(self.partitions * self.tree_words, sizeof(uint64_t))
        if self.trees == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.trees)

    cdef uint64_t *tree(self, uint32_t partition) noexcept nogil:
        return self.trees + partition * self.tree_words

    cdef uint32_t partition_of(self, const uint8_t *position) noexcept nogil:
        # In two steps: a shift by all 64 bits is not defined in C.
        return <uint32_t>(load_u64_be(position) >> 1 >> (63 - self.partition_bits))

    cdef uint32_t leaf_of(self, const uint8_t *position) noexcept nogil:
        return <uint32_t>(load_u64_be(position) >> 1 >> (63 - self.partition_bits - self.leaf_bits)) & (self.leaf_count - 1)

    cdef void update(self, uint32_t partition, uint32_t leaf, uint64_t old_hash, uint64_t new_hash) noexcept nogil:
        merkle_update(self.tree(partition), self.leaf_count, leaf, old_hash, new_hash)

    cdef void fetch_ahead(self, const uint8_t *position) noexcept nogil:
        cdef uint64_t *tree = self.tree(self.partition_of(position))
        prefetch(tree + self.leaf_count + self.leaf_of(position))
        prefetch(tree + 2 * self.leaf_count)  # the bits of nodes that are out of date

    cdef uint64_t root_of(self, uint32_t partition) noexcept nogil:
        return merkle_root(self.tree(partition), self.leaf_count)

    cdef const uint64_t *leaves_of(self, uint32_t partition) noexcept nogil:
        return self.tree(partition) + self.leaf_count

    cdef void load_leaves(self, uint32_t partition, const uint8_t *leaves) noexcept nogil:
        merkle_load(self.tree(partition), self.leaf_count, leaves)

    cdef void add_leaves(self, uint32_t partition, const uint8_t *leaves) noexcept nogil:
        merkle_add(self.tree(partition), self.leaf_count, leaves)

    cdef uint32_t diff_leaves(self, Forest other, uint32_t partition, uint32_t *out) noexcept nogil:
        return merkle_diff(self.tree(partition), other.tree(partition), self.leaf_count, out)

    cdef int check_partition(self, Py_ssize_t partition) except -1:
        if not 0 <= partition < self.partitions:
            raise IndexError(f"partition {partition} is not one of 0..{self.partitions - 1}")
        return 0

    cdef const uint8_t *leaf_bytes(self, bytes leaves) except NULL:
        if leaves is None or PyBytes_GET_SIZE(leaves) != 8 * <Py_ssize_t>self.leaf_count:
            raise ValueError(f"the leaves of a partition are {8 * self.leaf_count} bytes")
        return <const uint8_t *>PyBytes_AS_STRING(leaves)

    def place(self, bytes position not None) -> tuple[int, int]:
        """(partition, leaf) of a 16-byte position: its top bits and the bits after them."""
        if PyBytes_GET_SIZE(position) != POSITION_BYTES:
            raise ValueError(f"a position has {POSITION_BYTES} bytes, not {len(position)}")
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(position)
        return self.partition_of(at), self.leaf_of(at)

    def replace(self, bytes position not None, uint64_t old_hash, uint64_t new_hash) -> None:
        """Takes an entry's old hash out and puts its new one in (see `entry_hash`); 0 stands for "no entry"."""
        if PyBytes_GET_SIZE(position) != POSITION_BYTES:
            raise ValueError(f"a position has {POSITION_BYTES} bytes, not {len(position)}")
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(position)
        self.update(self.partition_of(at), self.leaf_of(at), old_hash, new_hash)

    def root(self, Py_ssize_t partition) -> int:
        """The hash of the whole partition, 0 when it is empty. Equal roots: equal leaves, but for one chance in 2^64."""
        self.check_partition(partition)
        return self.root_of(<uint32_t>partition)

    def leaves(self, Py_ssize_t partition) -> bytes:
        """All leaves of a partition, to be kept: 8 little-endian bytes each."""
        self.check_partition(partition)
        return PyBytes_FromStringAndSize(<const char *>self.leaves_of(<uint32_t>partition), 8 * <Py_ssize_t>self.leaf_count)

    def load(self, Py_ssize_t partition, bytes leaves) -> None:
        """Takes what `leaves` gave in place of what is there. ValueError when the length is not a partition's."""
        self.check_partition(partition)
        self.load_leaves(<uint32_t>partition, self.leaf_bytes(leaves))

    def add(self, Py_ssize_t partition, bytes leaves) -> None:
        """Adds what `leaves` gave, leaf by leaf modulo 2^64: the tree of both sets of entries, if they are disjoint."""
        self.check_partition(partition)
        self.add_leaves(<uint32_t>partition, self.leaf_bytes(leaves))

    def nodes(self, Py_ssize_t partition, unsigned int level) -> tuple[int, ...]:
        """The 2^level hashes of a level, left to right; level 0 is the root, level log2(leaves) the leaves."""
        self.check_partition(partition)
        cdef bytes hashes = self.descendants(0, [partition], level)
        return tuple([load_u64(<const uint8_t *>PyBytes_AS_STRING(hashes) + 8 * i) for i in range(1 << level)])

    def descendants(self, unsigned int level, list nodes not None, unsigned int depth) -> bytes:
        """For every node, the hashes of its 2^depth descendants `depth` levels below it, whichever partition it is of.

        The nodes of a level are counted through all trees: those of partition p are numbered from p * 2^level on, so that
        at level 0 a node has the number of its partition. 8 little-endian bytes a hash, in the order of `nodes`:
        len(nodes) * 2^depth * 8 bytes. Raises IndexError when a level or a node does not exist.
        """
        self.check_levels(level, depth)
        cdef Py_ssize_t width = <Py_ssize_t>8 << depth
        cdef bytes out = PyBytes_FromStringAndSize(NULL, len(nodes) * width)
        cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
        cdef Py_ssize_t node
        for node in nodes:
            self.check_node(level, node)
            merkle_descendants(self.tree(<uint32_t>(node >> level)), self.leaf_count, level,
                               <uint32_t>(node & ((<Py_ssize_t>1 << level) - 1)), depth, to)
            to += width
        return out

    def differing(self, unsigned int level, list nodes not None, unsigned int depth, bytes theirs not None) -> list[int]:
        """Which of the descendants that another replica sent differ from ours: nodes of level + depth, in order.

        `theirs` is what its `descendants` gave for the same arguments. Raises ValueError when its length does not fit.
        """
        cdef bytes ours = self.descendants(level, nodes, depth)
        if PyBytes_GET_SIZE(theirs) != PyBytes_GET_SIZE(ours):
            raise ValueError(f"{len(nodes)} nodes have {len(ours)} bytes of hashes {depth} levels below, not {len(theirs)}")
        cdef const uint8_t *a = <const uint8_t *>PyBytes_AS_STRING(ours)
        cdef const uint8_t *b = <const uint8_t *>PyBytes_AS_STRING(theirs)
        cdef Py_ssize_t node, i, at = 0
        cdef list differing = []
        for node in nodes:
            for i in range(<Py_ssize_t>1 << depth):
                if load_u64(a + at) != load_u64(b + at):
                    differing.append((node << depth) + i)
                at += 8
        return differing

    def diff(self, Forest other not None, Py_ssize_t partition) -> list[int]:
        """The leaves in which this forest's tree of a partition differs from another's of the same shape, ascending."""
        self.check_partition(partition)
        if other.partitions != self.partitions or other.leaf_count != self.leaf_count:
            raise ValueError("only forests of one shape can be compared")
        cdef uint32_t *found = <uint32_t *>malloc(self.leaf_count * sizeof(uint32_t))
        if found == NULL:
            raise MemoryError
        try:
            return [found[i] for i in range(self.diff_leaves(other, <uint32_t>partition, found))]
        finally:
            free(found)

    def clear(self, Py_ssize_t partition) -> None:
        """Makes a partition's tree the empty one again."""
        self.check_partition(partition)
        memset(self.tree(<uint32_t>partition), 0, self.tree_words * sizeof(uint64_t))

    cdef int check_levels(self, unsigned int level, unsigned int depth) except -1:
        if level > self.leaf_bits or depth > self.leaf_bits - level:
            raise IndexError(f"{depth} levels below level {level} is past the leaves, at level {self.leaf_bits}")
        return 0

    cdef int check_node(self, unsigned int level, Py_ssize_t node) except -1:
        if not 0 <= node < (<Py_ssize_t>self.partitions << level):
            raise IndexError(f"level {level} of {self.partitions} trees has no node {node}")
        return 0
