/* Vector clocks against the plainest statement of each operation, on random clocks in memory of exactly their size. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "vector_clock.h"

enum { ACTORS = 7, ROUNDS = 20000 };

static uint64_t drawn = 2007; /* the seed */

static uint64_t draw(uint64_t below)
{
    uint64_t z = (drawn += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (z ^ (z >> 31)) % below;
}

/* A clock as a table: one row per actor, counter 0 for none. Rows stand in the order of the actors. */
typedef struct {
    uint64_t counter[ACTORS], timestamp[ACTORS];
} Table;

static void actor(int row, uint8_t node[16], uint64_t *epoch)
{
    static const uint8_t places[ACTORS] = {0, 15, 15, 8, 7, 0, 0}; /* the byte in which nodes differ */
    static const uint8_t bytes[ACTORS] = {0, 1, 1, 1, 1, 0x7F, 0x80};
    memset(node, 0, 16);
    node[places[row]] = bytes[row];
    *epoch = row == 2 ? UINT64_MAX : row == 1 ? 255 : 256;
}

static Table random_table(void)
{
    Table table = {{0}, {0}};
    for (int row = 0; row < ACTORS; row++)
        if (draw(2)) {
            table.counter[row] = 1 + draw(3);
            table.timestamp[row] = draw(3);
        }
    return table;
}

/* Packed, in memory of exactly that size. */
static uint8_t *pack(const Table *table, uint32_t *count)
{
    *count = 0;
    for (int row = 0; row < ACTORS; row++)
        *count += table->counter[row] != 0;
    uint8_t *entries = malloc(CLOCK_ENTRY_BYTES * (size_t)*count), *at = entries;
    for (int row = 0; row < ACTORS; row++) {
        if (table->counter[row] == 0)
            continue;
        uint64_t epoch;
        actor(row, at, &epoch);
        store_u64(at + 16, epoch);
        store_u64(at + 24, table->counter[row]);
        store_u64(at + 32, table->timestamp[row]);
        at += CLOCK_ENTRY_BYTES;
    }
    assert(clock_check(entries, *count));
    return entries;
}

static void same(const uint8_t *entries, uint32_t count, const Table *expected)
{
    uint32_t expected_count;
    uint8_t *packed = pack(expected, &expected_count);
    assert(count == expected_count);
    assert(count == 0 || memcmp(entries, packed, CLOCK_ENTRY_BYTES * (size_t)count) == 0);
    free(packed);
}

static void compare_and_merge(void)
{
    const Table a = random_table(), b = random_table();
    uint32_t a_count, b_count;
    uint8_t *x = pack(&a, &a_count), *y = pack(&b, &b_count);
    Table joined = a;
    int a_more = 0, b_more = 0;
    for (int row = 0; row < ACTORS; row++) {
        a_more |= a.counter[row] > b.counter[row];
        b_more |= a.counter[row] < b.counter[row];
        if (b.counter[row] > a.counter[row] ||
            (b.counter[row] == a.counter[row] && b.timestamp[row] > a.timestamp[row])) {
            joined.counter[row] = b.counter[row];
            joined.timestamp[row] = b.timestamp[row];
        }
    }
    assert(clock_descends(x, a_count, y, b_count) == !b_more);
    assert(clock_descends(y, b_count, x, a_count) == !a_more);
    assert(clock_order(x, a_count, y, b_count) == (ClockOrder)(2 * a_more + b_more));

    uint32_t joined_count;
    free(pack(&joined, &joined_count));
    uint8_t *out = malloc(CLOCK_ENTRY_BYTES * (size_t)joined_count);
    assert(clock_merge(x, a_count, y, b_count, out, joined_count) == (int)joined_count);
    same(out, joined_count, &joined);
    assert(clock_merge(y, b_count, x, a_count, out, joined_count) == (int)joined_count);
    same(out, joined_count, &joined);
    if (joined_count > 0)
        assert(clock_merge(x, a_count, y, b_count, out, joined_count - 1) == -1);
    free(x);
    free(y);
    free(out);
}

static void find_and_advance(void)
{
    Table table = random_table();
    const int row = (int)draw(ACTORS);
    uint32_t count, index;
    uint8_t *entries = pack(&table, &count), node[16];
    uint64_t epoch;
    actor(row, node, &epoch);
    const uint8_t *found = clock_find(entries, count, node, epoch);
    assert((found ? clock_counter(found) : 0) == table.counter[row]);
    entries = realloc(entries, CLOCK_ENTRY_BYTES * (size_t)(count + (found == NULL)));
    const int after = clock_advance(entries, count, node, epoch, 9, &index);
    table.counter[row]++;
    table.timestamp[row] = 9;
    assert(after == (int)count + (found == NULL));
    assert(clock_find(entries, (uint32_t)after, node, epoch) == clock_entry(entries, index));
    same(entries, (uint32_t)after, &table);
    free(entries);
}

static void truncate_clock(void)
{
    Table table = random_table();
    uint32_t count;
    uint8_t *entries = pack(&table, &count);
    const uint32_t count_max = (uint32_t)draw(ACTORS);
    for (uint32_t left = count; left > count_max; left--) {
        int oldest = -1;
        for (int row = 0; row < ACTORS; row++)
            if (table.counter[row] && (oldest < 0 || table.timestamp[row] < table.timestamp[oldest]))
                oldest = row;
        table.counter[oldest] = table.timestamp[oldest] = 0;
    }
    same(entries, clock_truncate(entries, count, count_max), &table);
    free(entries);
}

static void refused(void)
{
    Table table = {{1, 0, 2}, {0, 0, 3}};
    uint32_t count;
    uint8_t *entries = pack(&table, &count);
    const uint64_t limit = CLOCK_NUMBER_MAX;
    store_u64(entries + 24, 0);
    assert(!clock_check(entries, count));
    store_u64(entries + 24, limit + 1);
    assert(!clock_check(entries, count));
    store_u64(entries + 24, limit);
    assert(clock_check(entries, count));
    store_u64(entries + 32, limit + 1);
    assert(!clock_check(entries, count));
    store_u64(entries + 32, limit);
    assert(clock_check(entries, count));
    uint32_t index;
    assert(clock_advance(entries, count, entries, clock_epoch(entries), 0, &index) == -1);
    memcpy(entries + 40, entries, 24);
    assert(!clock_check(entries, count)); /* an actor twice */
    entries[0] = 1;
    assert(!clock_check(entries, count)); /* unsorted */
    assert(clock_check(entries, 1) && clock_check(entries, 0));
    assert(!clock_check(entries, CLOCK_ENTRIES_MAX + 1)); /* refused before it is read */
    free(entries);
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        compare_and_merge();
        find_and_advance();
        truncate_clock();
    }
    refused();
    printf("vector_clock: all passed, %d rounds\n", ROUNDS);
    return 0;
}
