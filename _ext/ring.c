/* The lookups of both rings; see ring.h. */
#include "ring.h"

#include <assert.h>
#include <stdlib.h>

#include "bytes.h"

uint32_t ring_partition(const uint8_t *position, unsigned partition_bits)
{
    assert(partition_bits <= 16);
    /* Through 64 bits, since shifting 32 bits by 32 is not defined in C. */
    return (uint32_t)((uint64_t)load_u32_be(position) >> (32 - partition_bits));
}

int ring_is_permutation(const uint16_t *order, uint32_t node_count, uint8_t *seen)
{
    for (uint32_t i = 0; i < node_count; i++) {
        if (order[i] >= node_count || seen[order[i]])
            return 0;
        seen[order[i]] = 1;
    }
    return 1;
}

static int token_compare(const void *left, const void *right)
{
    const struct ring_token *a = left, *b = right;
    if (a->high != b->high)
        return a->high < b->high ? -1 : 1;
    if (a->low != b->low)
        return a->low < b->low ? -1 : 1;
    return (a->node > b->node) - (a->node < b->node);
}

void ring_sort_tokens(struct ring_token *tokens, size_t count)
{
    if (count > 0)
        qsort(tokens, count, sizeof *tokens, token_compare);
}

size_t ring_successor(const struct ring_token *tokens, size_t count, const uint8_t *position)
{
    uint64_t high = load_u64_be(position), low = load_u64_be(position + 8);
    size_t first = 0, end = count;
    assert(count > 0);
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        const struct ring_token *token = &tokens[middle];
        if (token->high > high || (token->high == high && token->low > low))
            end = middle;
        else
            first = middle + 1;
    }
    return first == count ? 0 : first;
}

uint32_t ring_walk(const struct ring_token *tokens, size_t count, const uint8_t *position, uint32_t wanted, uint8_t *seen,
                   uint16_t *out)
{
    uint32_t found = 0;
    size_t at = count > 0 ? ring_successor(tokens, count, position) : 0;
    for (size_t steps = 0; steps < count && found < wanted; steps++) {
        uint32_t node = tokens[at].node;
        if (!seen[node]) {
            seen[node] = 1;
            out[found++] = (uint16_t)node;
        }
        at = at + 1 == count ? 0 : at + 1;
    }
    for (uint32_t i = 0; i < found; i++)
        seen[out[i]] = 0;
    return found;
}
