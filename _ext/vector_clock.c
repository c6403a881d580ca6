/* Vector clocks: every function is one walk over two sorted arrays. */
#include "vector_clock.h"

int clock_check(const uint8_t *entries, uint32_t count)
{
    if (count > CLOCK_ENTRIES_MAX)
        return 0;
    for (uint32_t i = 0; i < count; i++, entries += CLOCK_ENTRY_BYTES) {
        if (clock_counter(entries) - 1 >= CLOCK_NUMBER_MAX || clock_timestamp(entries) > CLOCK_NUMBER_MAX)
            return 0;
        if (i > 0 && clock_entry_compare(entries - CLOCK_ENTRY_BYTES, entries) >= 0)
            return 0;
    }
    return 1;
}

const uint8_t *clock_find(const uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch)
{
    for (uint32_t i = 0; i < count; i++, entries += CLOCK_ENTRY_BYTES) {
        const int order = clock_actor_compare(node, epoch, entries);
        if (order == 0)
            return entries;
        if (order < 0)
            return NULL;
    }
    return NULL;
}

int clock_descends(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count)
{
    while (b_count > 0) {
        if (a_count < b_count)
            return 0;
        const int order = clock_entry_compare(a, b);
        if (order > 0)
            return 0;
        if (order == 0) {
            if (clock_counter(a) < clock_counter(b))
                return 0;
            b += CLOCK_ENTRY_BYTES;
            b_count--;
        }
        a += CLOCK_ENTRY_BYTES;
        a_count--;
    }
    return 1;
}

ClockOrder clock_order(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count)
{
    int a_has_more = 0, b_has_more = 0;
    while (a_count > 0 && b_count > 0) {
        const int order = clock_entry_compare(a, b);
        if (order == 0) {
            a_has_more |= clock_counter(a) > clock_counter(b);
            b_has_more |= clock_counter(a) < clock_counter(b);
        } else {
            a_has_more |= order < 0;
            b_has_more |= order > 0;
        }
        if (order <= 0) {
            a += CLOCK_ENTRY_BYTES;
            a_count--;
        }
        if (order >= 0) {
            b += CLOCK_ENTRY_BYTES;
            b_count--;
        }
    }
    a_has_more |= a_count > 0;
    b_has_more |= b_count > 0;
    if (a_has_more)
        return b_has_more ? CLOCK_CONCURRENT : CLOCK_AFTER;
    return b_has_more ? CLOCK_BEFORE : CLOCK_EQUAL;
}

int clock_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, uint8_t *out,
                uint32_t out_max)
{
    uint32_t count = 0;
    while (a_count > 0 || b_count > 0) {
        const int order = b_count == 0 ? -1 : a_count == 0 ? 1 : clock_entry_compare(a, b);
        const uint8_t *taken = order < 0 || (order == 0 && clock_entry_covers(a, b)) ? a : b;
        if (count == out_max)
            return -1;
        memcpy(out, taken, CLOCK_ENTRY_BYTES);
        out += CLOCK_ENTRY_BYTES;
        count++;
        if (order <= 0) {
            a += CLOCK_ENTRY_BYTES;
            a_count--;
        }
        if (order >= 0) {
            b += CLOCK_ENTRY_BYTES;
            b_count--;
        }
    }
    return (int)count;
}

int clock_advance(uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch, uint64_t timestamp_ms,
                  uint32_t *index)
{
    uint8_t *entry = entries, *end = entries + CLOCK_ENTRY_BYTES * (size_t)count;
    int order = 1;
    while (entry < end && (order = clock_actor_compare(node, epoch, entry)) > 0)
        entry += CLOCK_ENTRY_BYTES;
    *index = (uint32_t)(entry - entries) / CLOCK_ENTRY_BYTES;
    uint64_t counter = 0;
    if (entry < end && order == 0) {
        counter = clock_counter(entry);
        if (counter >= CLOCK_NUMBER_MAX)
            return -1;
    } else {
        memmove(entry + CLOCK_ENTRY_BYTES, entry, (size_t)(end - entry));
        memcpy(entry, node, 16);
        store_u64(entry + 16, epoch);
        count++;
    }
    store_u64(entry + 24, counter + 1);
    store_u64(entry + 32, timestamp_ms);
    return (int)count;
}

uint32_t clock_truncate(uint8_t *entries, uint32_t count, uint32_t count_max)
{
    for (; count > count_max; count--) {
        uint8_t *oldest = entries, *end = entries + CLOCK_ENTRY_BYTES * (size_t)count;
        for (uint8_t *entry = entries; entry < end; entry += CLOCK_ENTRY_BYTES)
            if (clock_timestamp(entry) < clock_timestamp(oldest))
                oldest = entry;
        memmove(oldest, oldest + CLOCK_ENTRY_BYTES, (size_t)(end - oldest) - CLOCK_ENTRY_BYTES);
    }
    return count;
}
