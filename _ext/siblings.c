/* Merging: one walk along two sorted clocks, with the siblings of each actor met as the walk passes it. */
#include "siblings.h"

/* Of two siblings with one dot, which no honest pair of nodes can hold with different contents: a total order of the
 * contents all the same, so that even then all replicas end with the same bytes. */
static int content_compare(const uint8_t *a, const uint8_t *b)
{
    if (sibling_timestamp(a) != sibling_timestamp(b))
        return sibling_timestamp(a) < sibling_timestamp(b) ? -1 : 1;
    if (sibling_flags(a) != sibling_flags(b))
        return sibling_flags(a) < sibling_flags(b) ? -1 : 1;
    if (sibling_value_bytes(a) != sibling_value_bytes(b))
        return sibling_value_bytes(a) < sibling_value_bytes(b) ? -1 : 1;
    return memcmp(a + 24, b + 24, 16 + (size_t)sibling_value_bytes(a));
}

/* 1 when the dot of a sibling, whose object has this clock, is among the dots of another object's cloud. */
static int cloud_has_sibling(const uint8_t *dots, uint32_t count, const uint8_t *entries, const uint8_t *sibling)
{
    uint8_t dot[CLOUD_DOT_BYTES];
    if (count == 0)
        return 0;
    memcpy(dot, clock_entry(entries, sibling_actor(sibling)), CLOUD_DOT_BYTES - 8);
    store_u64(dot + CLOUD_DOT_BYTES - 8, sibling_counter(sibling));
    return cloud_has(dots, count, dot);
}

/* Passes the siblings of one actor (a_actor, b_actor in the two clocks, whose counters are a_counter >= b_counter). 1
 * when a holds already what a merge would leave of them. */
static int actor_dominates(SiblingCursor *a, uint32_t a_actor, SiblingCursor *b, uint32_t b_actor, uint64_t b_counter)
{
    for (; sibling_cursor_on(a, a_actor); sibling_cursor_next(a)) {
        const uint64_t counter = sibling_counter(a->sibling);
        while (sibling_cursor_on(b, b_actor) && sibling_counter(b->sibling) < counter)
            sibling_cursor_next(b);
        if (sibling_cursor_on(b, b_actor) && sibling_counter(b->sibling) == counter) {
            if (content_compare(a->sibling, b->sibling) < 0)
                return 0;
            sibling_cursor_next(b);
        } else if (counter <= b_counter) {
            return 0; /* b has seen it superseded */
        }
    }
    while (sibling_cursor_on(b, b_actor))
        sibling_cursor_next(b);
    return 1;
}

/* 1 when a covers what b's cloud does and has no sibling among it; a's clock covers b's. */
static int cloud_dominates(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n)
{
    const uint32_t a_count = object_cloud_count(a), b_count = object_cloud_count(b);
    const uint8_t *a_dots = object_cloud(a, a_n), *b_dots = object_cloud(b, b_n);
    ClockWalk clock = {object_clock(a), object_clock_count(a)};
    for (uint32_t i = 0; i < b_count; i++)
        if (!clock_walk_covers(&clock, cloud_dot(b_dots, i)) && !cloud_has(a_dots, a_count, cloud_dot(b_dots, i)))
            return 0;
    for (SiblingCursor c = sibling_cursor(a); c.left > 0; sibling_cursor_next(&c))
        if (cloud_has_sibling(b_dots, b_count, object_clock(a), c.sibling))
            return 0;
    return 1;
}

/* 1 when a merge of both would be a's bytes: what replication meets nearly always. */
static int object_dominates(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n)
{
    const uint32_t a_count = object_clock_count(a), b_count = object_clock_count(b);
    if (a_count < b_count)
        return 0;
    const uint8_t *a_entry = object_clock(a), *b_entry = object_clock(b);
    SiblingCursor a_siblings = sibling_cursor(a), b_siblings = sibling_cursor(b);
    uint32_t j = 0;
    for (uint32_t i = 0; i < a_count; i++, a_entry += CLOCK_ENTRY_BYTES) {
        const int order = j < b_count ? clock_entry_compare(a_entry, b_entry) : -1;
        if (order > 0)
            return 0;
        if (order < 0) {
            while (sibling_cursor_on(&a_siblings, i))
                sibling_cursor_next(&a_siblings);
            continue;
        }
        if (!clock_entry_covers(a_entry, b_entry) ||
            !actor_dominates(&a_siblings, i, &b_siblings, j, clock_counter(b_entry)))
            return 0;
        b_entry += CLOCK_ENTRY_BYTES;
        j++;
    }
    return j == b_count && (object_cloud_count(b) == 0 || cloud_dominates(a, a_n, b, b_n));
}

/* One of the two sides of a merge. */
typedef struct {
    const uint8_t *entries;
    const uint8_t *dots; /* of the cloud */
    uint32_t entries_count;
    uint32_t dots_count;
    SiblingCursor siblings;
} MergeSide;

static MergeSide merge_side(const uint8_t *object, size_t n)
{
    return (MergeSide){object_clock(object), object_cloud(object, n), object_clock_count(object), object_cloud_count(object),
                       sibling_cursor(object)};
}

/* Merges the siblings of one actor: each side's cursor stands on its first one of that actor, or elsewhere if it has
 * none; a counter is 0 where the clock has no such actor. */
static int merge_actor(ObjectWriter *out, uint32_t actor, MergeSide *a_side, uint32_t a_actor, uint64_t a_counter,
                       MergeSide *b_side, uint32_t b_actor, uint64_t b_counter)
{
    SiblingCursor *a = &a_side->siblings, *b = &b_side->siblings;
    for (;;) {
        const int a_on = a_counter && sibling_cursor_on(a, a_actor), b_on = b_counter && sibling_cursor_on(b, b_actor);
        if (!a_on && !b_on)
            return 1;
        const uint64_t at_a = a_on ? sibling_counter(a->sibling) : UINT64_MAX;
        const uint64_t at_b = b_on ? sibling_counter(b->sibling) : UINT64_MAX;
        const uint8_t *kept = NULL;
        if (at_a == at_b)
            kept = content_compare(a->sibling, b->sibling) < 0 ? b->sibling : a->sibling;
        else if (at_a < at_b)
            kept = at_a > b_counter && !cloud_has_sibling(b_side->dots, b_side->dots_count, a_side->entries, a->sibling)
                       ? a->sibling : NULL;
        else
            kept = at_b > a_counter && !cloud_has_sibling(a_side->dots, a_side->dots_count, b_side->entries, b->sibling)
                       ? b->sibling : NULL;
        if (kept && !object_writer_copy(out, kept, actor))
            return 0;
        if (at_a <= at_b)
            sibling_cursor_next(a);
        if (at_b <= at_a)
            sibling_cursor_next(b);
    }
}

static int merge_slowly(MergeSide a, MergeSide b, uint8_t *out, size_t out_max, size_t *out_n)
{
    const uint32_t room = object_entries_room(out_max, CLOCK_ENTRIES_MAX);
    const int count = clock_merge(a.entries, a.entries_count, b.entries, b.entries_count, out + OBJECT_HEADER_BYTES, room);
    if (count < 0)
        return room == CLOCK_ENTRIES_MAX ? OBJECT_CLOCK_FULL : OBJECT_NO_ROOM;
    ObjectWriter writer = object_writer(out, out_max, (uint32_t)count);
    uint32_t i = 0, j = 0;
    for (uint32_t actor = 0; actor < (uint32_t)count; actor++) {
        const uint8_t *entry = clock_entry(object_clock(out), actor);
        const uint8_t *in_a = i < a.entries_count ? clock_entry(a.entries, i) : NULL;
        const uint8_t *in_b = j < b.entries_count ? clock_entry(b.entries, j) : NULL;
        const uint64_t a_counter = in_a && clock_entry_compare(in_a, entry) == 0 ? clock_counter(in_a) : 0;
        const uint64_t b_counter = in_b && clock_entry_compare(in_b, entry) == 0 ? clock_counter(in_b) : 0;
        if (!merge_actor(&writer, actor, &a, i, a_counter, &b, j, b_counter))
            return OBJECT_NO_ROOM;
        i += a_counter != 0;
        j += b_counter != 0;
    }
    const int code = object_writer_finish(&writer, out, OBJECT_SIBLINGS_MAX, out_n);
    if (code < 0 || (a.dots_count | b.dots_count) == 0)
        return code;
    return object_writer_add_clouds(&writer, out, a.dots, a.dots_count, b.dots, b.dots_count, CLOUD_DOTS_MAX, out_n);
}

int object_merge(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, uint8_t *out, size_t out_max,
                 size_t *out_n)
{
    if (a_n == b_n && (a_n == 0 || memcmp(a, b, a_n) == 0))
        return 3;
    if (b_n == 0)
        return 1;
    if (a_n == 0)
        return 2;
    if (object_dominates(a, a_n, b, b_n))
        return 1;
    if (object_dominates(b, b_n, a, a_n))
        return 2;
    return merge_slowly(merge_side(a, a_n), merge_side(b, b_n), out, out_max, out_n);
}
