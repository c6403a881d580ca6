/* Two rings: the table of equal partitions that the store uses (paper, section 6.2, strategy 3), and the basic ring of
 * random tokens that it is compared with (section 4.2).
 *
 * Positions are MD5's sixteen bytes, read as one big-endian number, so that they sort as bytes. Nothing here takes or
 * frees memory: the caller owns every array. */
#ifndef DYNAMO_FAST_RING_H
#define DYNAMO_FAST_RING_H

#include <stddef.h>
#include <stdint.h>

enum { RING_PARTITIONS_MAX = 65536, RING_NODES_MAX = 65535 };

/* The partition of a position: its top `partition_bits` bits (0..16). */
uint32_t ring_partition(const uint8_t *position, unsigned partition_bits);

/* 1 when the node_count entries at `order` are 0..node_count-1 in some order, else 0. `seen` is scratch of node_count
 * bytes that the caller has set to 0; it is left in any state. */
int ring_is_permutation(const uint16_t *order, uint32_t node_count, uint8_t *seen);

/* A place of one node on the basic ring: what a virtual node is in the paper. */
struct ring_token {
    uint64_t high, low; /* the position's first and last eight bytes as big-endian numbers */
    uint32_t node;      /* index below the ring's node_count */
};

/* Sorts by position, equal positions by node. O(n log n). */
void ring_sort_tokens(struct ring_token *tokens, size_t count);

/* Index of the first token after `position`, clockwise; past the last one comes the first. count > 0. */
size_t ring_successor(const struct ring_token *tokens, size_t count, const uint8_t *position);

/* Walks clockwise from `position` and writes the first `wanted` distinct nodes to `out`; returns how many there were
 * (fewer when the whole ring holds fewer). `seen` is scratch of one byte per node, all 0; it is all 0 again after. */
uint32_t ring_walk(const struct ring_token *tokens, size_t count, const uint8_t *position, uint32_t wanted, uint8_t *seen,
                   uint16_t *out);

#endif
