/* Settling: see settle.h. The object is copied, then entries are taken out of the copy one by one. */
#include "settle.h"

#include <string.h>

#include "object.h"

/* 1 when the object has a version that this actor made. */
static int has_sibling_of(const uint8_t *object, uint32_t actor)
{
    for (SiblingCursor c = sibling_cursor(object); c.left > 0; sibling_cursor_next(&c))
        if (sibling_actor(c.sibling) == actor)
            return 1;
    return 0;
}

/* The entry that goes first, or count when none may. */
static uint32_t oldest_entry(const uint8_t *object, uint64_t before_ms)
{
    const uint32_t count = object_clock_count(object);
    uint32_t oldest = count;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t timestamp = clock_timestamp(clock_entry(object_clock(object), i));
        if (timestamp >= before_ms || has_sibling_of(object, i))
            continue;
        if (oldest == count || timestamp < clock_timestamp(clock_entry(object_clock(object), oldest)))
            oldest = i;
    }
    return oldest;
}

/* Takes one entry out; siblings of the actors behind it are renumbered. The bytes that are left. */
static size_t drop_entry(uint8_t *object, size_t n, uint32_t index)
{
    uint8_t *entry = object + OBJECT_HEADER_BYTES + CLOCK_ENTRY_BYTES * (size_t)index;
    memmove(entry, entry + CLOCK_ENTRY_BYTES, (size_t)(object + n - entry) - CLOCK_ENTRY_BYTES);
    store_u16(object + 2, (uint16_t)(object_clock_count(object) - 1));
    uint8_t *sibling = object + object_siblings_offset(object);
    for (uint32_t left = object_sibling_count(object); left > 0; left--) {
        if (sibling_actor(sibling) > index)
            store_u16(sibling + 4, (uint16_t)(sibling_actor(sibling) - 1));
        sibling += sibling_bytes(sibling);
    }
    return n - CLOCK_ENTRY_BYTES;
}

int object_settle(const uint8_t *object, size_t n, uint32_t entries_max, uint64_t before_ms, uint8_t *out, size_t *out_n)
{
    if (object_clock_count(object) <= entries_max || oldest_entry(object, before_ms) == object_clock_count(object))
        return 1;
    memcpy(out, object, n);
    while (object_clock_count(out) > entries_max) {
        const uint32_t index = oldest_entry(out, before_ms);
        if (index == object_clock_count(out))
            break;
        n = drop_entry(out, n, index);
    }
    *out_n = n;
    return 0;
}
