/* Partitions of positions, and walks over tokens against a walk that looks at every token. */
#include "ring.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"

static uint64_t state = 1;

static uint64_t next_number(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return state >> 33;
}

static void check_partitions(void)
{
    uint8_t position[16] = {0xab, 0xcd, 0xef, 0x01};
    assert(ring_partition(position, 0) == 0);
    assert(ring_partition(position, 1) == 1);
    assert(ring_partition(position, 10) == 0xabcd >> 6);
    assert(ring_partition(position, 16) == 0xabcd);
    memset(position, 0xff, sizeof position);
    assert(ring_partition(position, 16) == 65535);
}

static void check_permutations(void)
{
    const uint16_t right[] = {2, 0, 1}, twice[] = {0, 1, 1}, beyond[] = {0, 1, 3};
    uint8_t seen[3] = {0};
    assert(ring_is_permutation(right, 3, seen));
    memset(seen, 0, sizeof seen);
    assert(!ring_is_permutation(twice, 3, seen));
    memset(seen, 0, sizeof seen);
    assert(!ring_is_permutation(beyond, 3, seen));
    assert(ring_is_permutation(beyond, 0, seen));
}

/* Positions from a few values only, so that tokens and keys meet exactly. */
static void random_position(uint8_t position[16])
{
    memset(position, 0, 16);
    position[0] = (uint8_t)(next_number() % 4);
    position[15] = (uint8_t)(next_number() % 8);
}

static void check_walk(size_t count, uint32_t nodes)
{
    struct ring_token tokens[40];
    uint8_t position[16], seen[8] = {0};
    uint16_t found[8];
    uint32_t met = 0, expected_nodes[8];

    for (size_t i = 0; i < count; i++) {
        random_position(position);
        tokens[i] = (struct ring_token){load_u64_be(position), load_u64_be(position + 8), (uint32_t)(next_number() % nodes)};
    }
    ring_sort_tokens(tokens, count);
    for (size_t i = 1; i < count; i++)
        assert(tokens[i - 1].high < tokens[i].high || (tokens[i - 1].high == tokens[i].high && tokens[i - 1].low <= tokens[i].low));

    random_position(position);
    /* First those after the position, then, once round, the others. */
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            int after = tokens[i].high > load_u64_be(position)
                || (tokens[i].high == load_u64_be(position) && tokens[i].low > load_u64_be(position + 8));
            uint32_t known = 0;
            while (known < met && expected_nodes[known] != tokens[i].node)
                known++;
            if (after == (round == 0) && known == met)
                expected_nodes[met++] = tokens[i].node;
        }
    }
    for (uint32_t wanted = 0; wanted <= nodes; wanted++) {
        uint32_t got = ring_walk(tokens, count, position, wanted, seen, found);
        assert(got == (wanted < met ? wanted : met));
        for (uint32_t i = 0; i < got; i++)
            assert(found[i] == expected_nodes[i]);
        for (uint32_t node = 0; node < nodes; node++)
            assert(seen[node] == 0);
    }
}

int main(void)
{
    check_partitions();
    check_permutations();
    for (int turn = 0; turn < 20000; turn++)
        check_walk(next_number() % 41, 1 + (uint32_t)(next_number() % 8));
    puts("ring: partitions, permutations and walks agree");
    return 0;
}
