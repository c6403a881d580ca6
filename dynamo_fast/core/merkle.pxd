"""Merkle trees for other Cython modules; contracts in _ext/merkle.h."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# What an entry adds to its leaf: XXH3_64 of its 16-byte position and its packed object, which stand there one behind the other.
cdef uint64_t entry_hash_at(const uint8_t *entry, size_t n) except? 0


cdef class Forest:
    cdef uint64_t *trees                # partitions * tree_words words
    cdef size_t tree_words
    cdef unsigned int leaf_bits         # log2(leaf_count)
    cdef unsigned int partition_bits    # log2(partitions)
    cdef readonly uint32_t partitions   # a power of two
    cdef readonly uint32_t leaf_count   # leaves of every partition, a power of two

    # The top bits of a 16-byte position, and the bits after them.
    cdef uint32_t partition_of(self, const uint8_t *position) noexcept nogil
    cdef uint32_t leaf_of(self, const uint8_t *position) noexcept nogil
    # An entry's old hash out, its new one in; 0 is "no entry".
    cdef void update(self, uint32_t partition, uint32_t leaf, uint64_t old_hash, uint64_t new_hash) noexcept nogil
    cdef void fetch_ahead(self, const uint8_t *position) noexcept nogil   # have the leaf's memory fetched; changes nothing
    cdef uint64_t root_of(self, uint32_t partition) noexcept nogil
    # leaf_count sums; the memory is the forest's.
    cdef const uint64_t *leaves_of(self, uint32_t partition) noexcept nogil
    # From 8 * leaf_count little-endian bytes: instead of what was there, or on top of it.
    cdef void load_leaves(self, uint32_t partition, const uint8_t *leaves) noexcept nogil
    cdef void add_leaves(self, uint32_t partition, const uint8_t *leaves) noexcept nogil
    # Leaves in which two forests' trees of a partition differ, into leaf_count cells at out; how many.
    cdef uint32_t diff_leaves(self, Forest other, uint32_t partition, uint32_t *out) noexcept nogil

    cdef uint64_t *tree(self, uint32_t partition) noexcept nogil
    cdef int check_partition(self, Py_ssize_t partition) except -1
    cdef int check_levels(self, unsigned int level, unsigned int depth) except -1
    cdef int check_node(self, unsigned int level, Py_ssize_t node) except -1
    cdef const uint8_t *leaf_bytes(self, bytes leaves) except NULL
