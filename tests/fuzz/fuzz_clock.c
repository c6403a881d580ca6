/* Vector clocks: the first byte says how many entries the first of two clocks has, the rest are entries of 40 bytes.
 * Mutations are mended so that most inputs are two valid clocks. */
#include "fuzz.h"
#include "vector_clock.h"

static void check_pair(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count)
{
    uint32_t room = a_count + b_count;
    uint8_t *ab = malloc((size_t)room * CLOCK_ENTRY_BYTES + 1), *ba = malloc((size_t)room * CLOCK_ENTRY_BYTES + 1);
    CHECK(ab != NULL && ba != NULL);
    int ab_count = clock_merge(a, a_count, b, b_count, ab, room);
    int ba_count = clock_merge(b, b_count, a, a_count, ba, room);
    CHECK(ab_count >= 0 && ab_count == ba_count && memcmp(ab, ba, (size_t)ab_count * CLOCK_ENTRY_BYTES) == 0);
    CHECK(clock_check(ab, (uint32_t)ab_count));
    CHECK(clock_descends(ab, (uint32_t)ab_count, a, a_count) && clock_descends(ab, (uint32_t)ab_count, b, b_count));
    CHECK(ab_count == 0 || clock_merge(a, a_count, b, b_count, ba, (uint32_t)ab_count - 1) == -1);
    ClockOrder order = clock_order(a, a_count, b, b_count);
    CHECK(clock_descends(a, a_count, b, b_count) == (order == CLOCK_EQUAL || order == CLOCK_AFTER));
    CHECK(clock_descends(b, b_count, a, a_count) == (order == CLOCK_EQUAL || order == CLOCK_BEFORE));
    for (uint32_t i = 0; i < b_count; i++) {
        const uint8_t *entry = clock_entry(b, i);
        CHECK(clock_find(ab, (uint32_t)ab_count, entry, clock_epoch(entry)) != NULL);
    }
    free(ab);
    free(ba);
}

/* Advancing makes a later clock, truncating keeps the newest; both leave a valid one. */
static void check_changes(const uint8_t *entries, uint32_t count, const uint8_t *node)
{
    size_t n = (size_t)count * CLOCK_ENTRY_BYTES;
    uint8_t *changed = malloc(n + CLOCK_ENTRY_BYTES);
    CHECK(changed != NULL);
    if (n)
        memcpy(changed, entries, n);
    uint32_t index = 0;
    int advanced = clock_advance(changed, count, node, 1, 1000, &index);
    if (advanced >= 0 && advanced <= CLOCK_ENTRIES_MAX) {
        CHECK(clock_check(changed, (uint32_t)advanced) && index < (uint32_t)advanced);
        CHECK(clock_order(changed, (uint32_t)advanced, entries, count) == CLOCK_AFTER);
        CHECK(clock_find(changed, (uint32_t)advanced, node, 1) == clock_entry(changed, index));
        uint32_t kept = clock_truncate(changed, (uint32_t)advanced, count / 2);
        CHECK(kept == count / 2 && clock_check(changed, kept));
    }
    free(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    uint32_t count = (uint32_t)((n - 1) / CLOCK_ENTRY_BYTES), a_count = data[0] < count ? data[0] : count;
    size_t a_n = (size_t)a_count * CLOCK_ENTRY_BYTES, b_n = (size_t)(count - a_count) * CLOCK_ENTRY_BYTES;
    uint8_t *a = exact_copy(data + 1, a_n), *b = exact_copy(data + 1 + a_n, b_n);
    if (clock_check(a, a_count) && clock_check(b, count - a_count)) {
        check_pair(a, a_count, b, count - a_count);
        check_changes(a, a_count, count > a_count ? b : (const uint8_t *)"nobody seen here");
    }
    free(a);
    free(b);
    return 0;
}

static int compare(const void *a, const void *b) { return clock_entry_compare(a, b); }

static void mend(uint8_t *entries, uint32_t count)
{
    if (count)
        qsort(entries, count, CLOCK_ENTRY_BYTES, compare);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = entries + (size_t)i * CLOCK_ENTRY_BYTES;
        store_u64(entry + 24, (load_u64(entry + 24) & (CLOCK_NUMBER_MAX >> 1)) + 1);
        store_u64(entry + 32, load_u64(entry + 32) & CLOCK_NUMBER_MAX);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t n_max, unsigned int seed)
{
    n = LLVMFuzzerMutate(data, n, n_max);
    if (n == 0 || seed % 4 == 0)
        return n;
    uint32_t count = (uint32_t)((n - 1) / CLOCK_ENTRY_BYTES), a_count = data[0] < count ? data[0] : count;
    mend(data + 1, a_count);
    mend(data + 1 + (size_t)a_count * CLOCK_ENTRY_BYTES, count - a_count);
    return n;
}
