/* Puts: one walk along the joined clock, with the local siblings and the context met on the way. */
#include "put.h"

#include <assert.h>

size_t object_put_bound(const PutArguments *a)
{
    const size_t local = a->local_n ? a->local_n : OBJECT_HEADER_BYTES;
    return local + CLOCK_ENTRY_BYTES * ((size_t)a->context_count + 1) + SIBLING_HEADER_BYTES + a->value_n +
           (a->dot ? CLOUD_DOT_BYTES : 0);
}

/* Never behind anything that the put has seen; 0 when there is no such timestamp left. */
static uint64_t put_timestamp(const PutArguments *a, const uint8_t *entries, uint32_t count)
{
    uint64_t highest = a->dot ? clock_timestamp(a->dot) : 0;
    for (uint32_t i = 0; i < count; i++)
        if (clock_timestamp(clock_entry(entries, i)) > highest)
            highest = clock_timestamp(clock_entry(entries, i));
    if (a->last_write_wins)
        highest++;
    const uint64_t timestamp = a->timestamp_ms > highest ? a->timestamp_ms : highest;
    return timestamp <= CLOCK_NUMBER_MAX ? timestamp : UINT64_MAX;
}

/* 1, or 0 when there is no room. */
static int write_new_sibling(ObjectWriter *writer, const PutArguments *a, uint32_t actor, const uint8_t *entry)
{
    if ((size_t)(writer->end - writer->at) < SIBLING_HEADER_BYTES + a->value_n)
        return 0;
    uint8_t *sibling = writer->at;
    store_u32(sibling, (uint32_t)a->value_n);
    store_u16(sibling + 4, (uint16_t)actor);
    sibling[6] = (uint8_t)((a->tombstone ? SIBLING_TOMBSTONE : 0) | (a->last_write_wins ? SIBLING_LAST_WRITE_WINS : 0));
    sibling[7] = 0;
    store_u64(sibling + 8, clock_counter(entry));
    store_u64(sibling + 16, clock_timestamp(entry));
    memcpy(sibling + 24, a->request_id, 16);
    if (a->value_n)
        memcpy(sibling + SIBLING_HEADER_BYTES, a->value, a->value_n);
    writer->at += SIBLING_HEADER_BYTES + a->value_n;
    writer->siblings++;
    writer->has_last_write_wins |= a->last_write_wins != 0;
    return 1;
}

/* Copies the local siblings that stay and adds the new one, whose dot is the entry at new_actor. */
static int write_siblings(ObjectWriter *writer, const PutArguments *a, const uint8_t *entries, uint32_t count,
                          uint32_t new_actor)
{
    const uint32_t local_count = a->local_n ? object_clock_count(a->local) : 0;
    SiblingCursor siblings = {NULL, 0};
    if (a->local_n && !a->overwrite && !a->last_write_wins)
        siblings = sibling_cursor(a->local);
    uint32_t i = 0, j = 0;
    for (uint32_t actor = 0; actor < count; actor++) {
        const uint8_t *entry = clock_entry(entries, actor);
        if (siblings.left > 0) {
            uint64_t seen = 0;
            if (j < a->context_count && clock_entry_compare(clock_entry(a->context, j), entry) == 0)
                seen = clock_counter(clock_entry(a->context, j++));
            const uint64_t dot = a->dot && clock_entry_compare(a->dot, entry) == 0 ? clock_counter(a->dot) : 0;
            if (i < local_count && clock_entry_compare(clock_entry(object_clock(a->local), i), entry) == 0) {
                for (; sibling_cursor_on(&siblings, i); sibling_cursor_next(&siblings))
                    if (sibling_counter(siblings.sibling) > seen && sibling_counter(siblings.sibling) != dot &&
                        !object_writer_copy(writer, siblings.sibling, actor))
                        return 0;
                i++;
            }
        }
        if (actor == new_actor && !write_new_sibling(writer, a, actor, entry))
            return 0;
    }
    return 1;
}

/* Adds the local cloud and the seen dot, but for what the new clock covers. */
static int write_cloud(ObjectWriter *writer, const PutArguments *a, uint8_t *out, size_t *out_n)
{
    const uint32_t count = a->local_n ? object_cloud_count(a->local) : 0;
    if (count == 0 && !a->dot)
        return OBJECT_OK;
    const uint8_t *dots = count ? object_cloud(a->local, a->local_n) : NULL;
    const uint32_t dots_max = count > PUT_CLOUD_MAX ? count : PUT_CLOUD_MAX; /* a merge may have left more */
    return object_writer_add_clouds(writer, out, dots, count, a->dot, a->dot != NULL, dots_max, out_n);
}

/* 1 when the actor of the new dot has made events that this clock does not cover. */
static int actor_in_cloud(const PutArguments *a, const uint8_t *entries, uint32_t count)
{
    uint64_t highest = 0;
    if (a->local_n && object_cloud_count(a->local))
        highest = cloud_highest(object_cloud(a->local, a->local_n), object_cloud_count(a->local), a->node, a->epoch);
    if (a->dot && clock_actor_compare(a->node, a->epoch, a->dot) == 0 && clock_counter(a->dot) > highest)
        highest = clock_counter(a->dot);
    if (highest == 0)
        return 0;
    const uint8_t *entry = clock_find(entries, count, a->node, a->epoch);
    return highest > (entry ? clock_counter(entry) : 0);
}

int object_put(const PutArguments *a, uint8_t *out, size_t out_max, size_t *out_n)
{
    assert(a->value_n <= UINT32_MAX && !(a->tombstone && a->value_n));
    const uint8_t *local_clock = a->local_n ? object_clock(a->local) : NULL;
    const uint32_t local_count = a->local_n ? object_clock_count(a->local) : 0;
    uint8_t *entries = out + OBJECT_HEADER_BYTES;
    const uint32_t room = object_entries_room(out_max, PUT_CLOCK_MAX + 1);
    int count = clock_merge(local_clock, local_count, a->context, a->context_count, entries, room);
    if (count < 0 || (uint32_t)count == room)
        return room > PUT_CLOCK_MAX ? OBJECT_CLOCK_FULL : OBJECT_NO_ROOM;
    if (actor_in_cloud(a, entries, (uint32_t)count))
        return OBJECT_ACTOR_IN_CLOUD;
    const uint64_t timestamp_ms = put_timestamp(a, entries, (uint32_t)count);
    uint32_t new_actor = 0;
    count = clock_advance(entries, (uint32_t)count, a->node, a->epoch, timestamp_ms, &new_actor);
    if (count < 0 || count > PUT_CLOCK_MAX || timestamp_ms > CLOCK_NUMBER_MAX)
        return OBJECT_CLOCK_FULL;
    ObjectWriter writer = object_writer(out, out_max, (uint32_t)count);
    if (!write_siblings(&writer, a, entries, (uint32_t)count, new_actor))
        return OBJECT_NO_ROOM;
    const int code = object_writer_finish(&writer, out, PUT_SIBLINGS_MAX, out_n);
    return code < 0 ? code : write_cloud(&writer, a, out, out_n);
}

/* The highest counter that clock and cloud show for the actor. */
static uint64_t object_highest(const uint8_t *object, size_t n, const uint8_t *node, uint64_t epoch)
{
    const uint64_t counter = object_counter(object, n, node, epoch);
    const uint32_t count = n ? object_cloud_count(object) : 0;
    const uint64_t lone = count ? cloud_highest(object_cloud(object, n), count, node, epoch) : 0;
    return lone > counter ? lone : counter;
}

uint64_t epoch_choose(const uint8_t *local, size_t local_n, uint64_t mark_nonce, uint64_t mark_epoch,
                      uint64_t process_nonce, const uint8_t *context, uint32_t context_count, const uint8_t *dot,
                      const uint8_t *node, uint64_t fresh_epoch, int *alarm)
{
    *alarm = 0;
    const uint64_t counter = object_counter(local, local_n, node, mark_epoch);
    if (mark_nonce != process_nonce || counter == 0)
        return fresh_epoch;
    const uint8_t *seen = clock_find(context, context_count, node, mark_epoch);
    const int dot_is_own = dot && clock_actor_compare(node, mark_epoch, dot) == 0;
    if ((seen && clock_counter(seen) > counter) || (dot_is_own && clock_counter(dot) > counter) ||
        object_highest(local, local_n, node, mark_epoch) > counter) {
        *alarm = 1;
        return fresh_epoch;
    }
    return mark_epoch;
}

int epoch_survives_merge(const uint8_t *local, size_t local_n, const uint8_t *incoming, size_t incoming_n,
                         const uint8_t *node, uint64_t mark_epoch)
{
    return object_highest(incoming, incoming_n, node, mark_epoch) <= object_highest(local, local_n, node, mark_epoch);
}
