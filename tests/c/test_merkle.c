/* Trees updated entry by entry against trees loaded whole, in every size from one leaf up. */
#include "merkle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

static uint64_t state = 1;

static uint64_t next_number(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return state ^ state >> 29;
}

static uint64_t *new_tree(uint32_t leaves)
{
    uint64_t *tree = calloc(merkle_tree_words(leaves), sizeof *tree);
    assert(tree != NULL);
    return tree;
}

static void same_nodes(const uint64_t *left, const uint64_t *right, uint32_t leaves)
{
    assert(memcmp(left + 1, right + 1, (2 * (size_t)leaves - 1) * sizeof *left) == 0);
}

static void check_updates(uint32_t leaves)
{
    uint64_t *tree = new_tree(leaves), *whole = new_tree(leaves), *sums = calloc(leaves, sizeof *sums);
    assert(sums != NULL);
    assert(merkle_root(tree, leaves) == 0);
    for (int turn = 0; turn < 300; turn++) {
        uint32_t leaf = (uint32_t)(next_number() % leaves);
        uint64_t old_hash = next_number(), new_hash = turn % 5 ? next_number() : 0;
        merkle_update(tree, leaves, leaf, old_hash, new_hash);
        sums[leaf] += new_hash - old_hash;
        if (turn % 3 == 0) {
            merkle_load(whole, leaves, (const uint8_t *)sums);
            assert(merkle_root(tree, leaves) == merkle_root(whole, leaves));
            same_nodes(tree, whole, leaves);
        }
    }
    for (uint32_t leaf = 0; leaf < leaves; leaf++)
        merkle_update(tree, leaves, leaf, sums[leaf], 0);
    assert(merkle_root(tree, leaves) == 0);
    merkle_add(tree, leaves, (const uint8_t *)sums);
    merkle_add(tree, leaves, (const uint8_t *)sums);
    for (uint32_t leaf = 0; leaf < leaves; leaf++)
        assert(tree[leaves + leaf] == 2 * sums[leaf]);
    free(tree);
    free(whole);
    free(sums);
}

static void check_diff(uint32_t leaves)
{
    uint64_t *left = new_tree(leaves), *right = new_tree(leaves);
    uint32_t *found = malloc(leaves * sizeof *found), *expected = malloc(leaves * sizeof *expected);
    assert(found != NULL && expected != NULL);
    for (int turn = 0; turn < 40; turn++) {
        uint32_t count = 0, leaf = (uint32_t)(next_number() % leaves);
        uint64_t hash = next_number();
        merkle_update(left, leaves, leaf, 0, hash);
        if (turn % 3)
            merkle_update(right, leaves, leaf, 0, hash);
        for (uint32_t i = 0; i < leaves; i++)
            if (left[leaves + i] != right[leaves + i])
                expected[count++] = i;
        assert(merkle_diff(left, right, leaves, found) == count);
        assert(memcmp(found, expected, count * sizeof *found) == 0);
    }
    /* All leaves at once: the walk must end at the last one. */
    for (uint32_t i = 0; i < leaves; i++)
        merkle_update(left, leaves, i, 0, 1 + right[leaves + i] - left[leaves + i]);
    assert(merkle_diff(left, right, leaves, found) == leaves);
    free(left);
    free(right);
    free(found);
    free(expected);
}

static void check_descendants(uint32_t leaves)
{
    uint64_t *tree = new_tree(leaves);
    uint8_t *hashes = malloc(8 * (size_t)leaves);
    unsigned levels = 0;
    assert(hashes != NULL);
    while (1u << levels < leaves)
        levels++;
    for (uint32_t i = 0; i < leaves; i++)
        merkle_update(tree, leaves, i, 0, next_number());
    for (unsigned level = 0; level <= levels; level++)
        for (unsigned depth = 0; level + depth <= levels; depth++)
            for (uint32_t index = 0; index < 1u << level; index++) {
                merkle_descendants(tree, leaves, level, index, depth, hashes);
                for (uint32_t i = 0; i < 1u << depth; i++)
                    assert(load_u64(hashes + 8 * i) == tree[(1u << (level + depth)) + (index << depth) + i]);
            }
    free(tree);
    free(hashes);
}

int main(void)
{
    for (uint32_t leaves = 1; leaves <= 512; leaves *= 2) {
        check_updates(leaves);
        check_diff(leaves);
        check_descendants(leaves);
    }
    puts("merkle: updates, loads, diffs and descendants agree");
    return 0;
}
