/* Merkle trees that are kept up to date inside every write (paper, section 4.7).
 *
 * A tree is merkle_tree_words(leaves) 64-bit words that the caller owns; all zero is the empty tree. Word i < 2 * leaves
 * is node i of a binary heap: 1 is the root, the children of i are 2i and 2i + 1, the leaves are the last `leaves`. After
 * the nodes stands one bit per inner node: "a leaf below me changed since I was computed". `leaves` is a power of two.
 *
 * A leaf is the sum, modulo 2^64, of the hashes of its entries, so that an entry goes in and out without its
 * neighbours, in any order. An inner node mixes its two children; two children of 0 make 0. For fixed one of them the
 * mix is a bijection of the other: a difference below one child alone always reaches the root. */
#ifndef DYNAMO_FAST_MERKLE_H
#define DYNAMO_FAST_MERKLE_H

#include <stddef.h>
#include <stdint.h>

enum { MERKLE_LEAVES_MAX = 65536 };

size_t merkle_tree_words(uint32_t leaves);

/* One entry's old hash out of a leaf, its new one in; 0 is "no entry". Two additions and, as long as nobody looks at the
 * tree in between, one test. */
void merkle_update(uint64_t *tree, uint32_t leaves, uint32_t leaf, uint64_t old_hash, uint64_t new_hash);

/* Computes the inner nodes that are out of date; O(those). The readers below call it themselves. */
void merkle_settle(uint64_t *tree, uint32_t leaves);
uint64_t merkle_root(uint64_t *tree, uint32_t leaves);

/* The hashes of the 2^depth descendants, `depth` levels below, of node `index` of `level` (0 is the root), in order, as
 * little-endian bytes at `out`. level + depth is at most log2(leaves), index below 2^level. */
void merkle_descendants(uint64_t *tree, uint32_t leaves, unsigned level, uint32_t index, unsigned depth, uint8_t *out);

/* The leaves in which two trees of one size differ, ascending, at most `leaves` of them at `out`; returns how many.
 * Visits only nodes whose parents differ. */
uint32_t merkle_diff(uint64_t *left, uint64_t *right, uint32_t leaves, uint32_t *out);

/* Leaves from 8 * leaves little-endian bytes: in place of what was there, or added to it leaf by leaf. */
void merkle_load(uint64_t *tree, uint32_t leaves, const uint8_t *bytes);
void merkle_add(uint64_t *tree, uint32_t leaves, const uint8_t *bytes);

#endif
