/* Merkle trees in flat arrays; see merkle.h. */
#include "merkle.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"

/* The words of "out of date" bits after the nodes; bit i is node i's. */
static size_t stale_words(uint32_t leaves) { return ((size_t)leaves + 63) / 64; }

static uint64_t *stale_bits(uint64_t *tree, uint32_t leaves) { return tree + 2 * (size_t)leaves; }

static unsigned level_count(uint32_t leaves) { return (unsigned)__builtin_ctz(leaves); }

size_t merkle_tree_words(uint32_t leaves)
{
    assert(leaves > 0 && leaves <= MERKLE_LEAVES_MAX && (leaves & (leaves - 1)) == 0);
    return 2 * (size_t)leaves + stale_words(leaves);
}

/* A bijection of 64 bits that spreads every bit over all (the finaliser of MurmurHash3, whose constants these are). */
static uint64_t spread(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
    hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return hash ^ hash >> 33;
}

/* Not symmetric: swapped children are a difference too. */
static uint64_t mix(uint64_t left, uint64_t right) { return spread(spread(left) * 3 + right); }

void merkle_update(uint64_t *tree, uint32_t leaves, uint32_t leaf, uint64_t old_hash, uint64_t new_hash)
{
    uint64_t *stale = stale_bits(tree, leaves);
    assert(leaf < leaves);
    tree[leaves + leaf] += new_hash - old_hash;
    /* Above a node that is out of date all are: whoever set its bit went on to the root. */
    for (uint32_t node = (leaves + leaf) / 2; node > 0; node /= 2) {
        uint64_t bit = 1ULL << node % 64;
        if (stale[node / 64] & bit)
            return;
        stale[node / 64] |= bit;
    }
}

void merkle_settle(uint64_t *tree, uint32_t leaves)
{
    uint64_t *stale = stale_bits(tree, leaves);
    if (leaves == 1 || !(stale[0] & 2))
        return;
    /* From the highest number down, children come before their parents. */
    for (size_t word = stale_words(leaves); word-- > 0;) {
        while (stale[word] != 0) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(stale[word]);
            size_t node = word * 64 + bit;
            tree[node] = mix(tree[2 * node], tree[2 * node + 1]);
            stale[word] ^= 1ULL << bit;
        }
    }
}

uint64_t merkle_root(uint64_t *tree, uint32_t leaves)
{
    merkle_settle(tree, leaves);
    return tree[1];
}

void merkle_descendants(uint64_t *tree, uint32_t leaves, unsigned level, uint32_t index, unsigned depth, uint8_t *out)
{
    assert(level + depth <= level_count(leaves) && index < 1u << level);
    merkle_settle(tree, leaves);
    /* Descendants of one node are neighbours on their level. */
    memcpy(out, tree + ((((size_t)1 << level) + index) << depth), (size_t)8 << depth);
}

uint32_t merkle_diff(uint64_t *left, uint64_t *right, uint32_t leaves, uint32_t *out)
{
    uint32_t found = 0;
    uint32_t node = 1;
    merkle_settle(left, leaves);
    merkle_settle(right, leaves);
    /* Depth first, left before right, without a stack: the number of a node says where it stands. */
    for (;;) {
        if (left[node] != right[node]) {
            if (node < leaves) {
                node *= 2;
                continue;
            }
            out[found++] = node - leaves;
        }
        while (node & 1)
            node /= 2;
        if (node == 0)
            return found;
        node++;
    }
}

/* After this every inner node will be computed anew. */
static void mark_all_stale(uint64_t *tree, uint32_t leaves)
{
    uint64_t *stale = stale_bits(tree, leaves);
    if (leaves == 1)
        return;
    memset(stale, 0xff, stale_words(leaves) * 8);
    stale[0] ^= 1; /* there is no node 0 */
    if (leaves < 64)
        stale[0] &= (1ULL << leaves) - 1;
}

void merkle_load(uint64_t *tree, uint32_t leaves, const uint8_t *bytes)
{
    memcpy(tree + leaves, bytes, 8 * (size_t)leaves);
    mark_all_stale(tree, leaves);
}

void merkle_add(uint64_t *tree, uint32_t leaves, const uint8_t *bytes)
{
    for (uint32_t leaf = 0; leaf < leaves; leaf++)
        tree[leaves + leaf] += load_u64(bytes + 8 * (size_t)leaf);
    mark_all_stale(tree, leaves);
}
