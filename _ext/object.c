/* Objects: checked, asked, and written; see object.h. */
#include "object.h"

/* <0, 0, >0 by (timestamp, actor's place in a clock, counter): what last-write-wins goes by. */
static inline int event_compare(uint64_t a_timestamp, uint32_t a_actor, uint64_t a_counter, uint64_t b_timestamp,
                                uint32_t b_actor, uint64_t b_counter)
{
    if (a_timestamp != b_timestamp)
        return a_timestamp < b_timestamp ? -1 : 1;
    if (a_actor != b_actor)
        return a_actor < b_actor ? -1 : 1;
    return a_counter < b_counter ? -1 : a_counter > b_counter;
}

/* 1 when no event that the clock shows is newer than the sibling. */
static int sibling_is_newest(const uint8_t *sibling, const uint8_t *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, entries += CLOCK_ENTRY_BYTES)
        if (event_compare(sibling_timestamp(sibling), sibling_actor(sibling), sibling_counter(sibling),
                          clock_timestamp(entries), i, clock_counter(entries)) < 0)
            return 0;
    return 1;
}

const char *object_error(int code)
{
    switch (code) {
    case OBJECT_OK: return "a valid object";
    case OBJECT_TOO_SHORT: return "object ends before what it announces";
    case OBJECT_UNKNOWN_FORMAT: return "object has an unknown format number or a reserved byte in use";
    case OBJECT_BAD_CLOCK: return "object's clock is unsorted, has an actor twice, or numbers out of range";
    case OBJECT_BAD_SIBLING: return "sibling has reserved bits in use, or is a tombstone with a value";
    case OBJECT_BAD_DOT: return "sibling's dot is outside the clock, unsorted or double";
    case OBJECT_TRAILING_BYTES: return "object has more bytes than it announces";
    case OBJECT_SUPERSEDED: return "a last-write-wins sibling stands beside a newer event";
    case OBJECT_CLOCK_FULL: return "clock is full";
    case OBJECT_TOO_MANY_SIBLINGS: return "too many siblings";
    case OBJECT_NO_ROOM: return "no room for the resulting object";
    case OBJECT_BAD_CLOUD: return "object's dot cloud is unsorted, has a dot twice, out of range, or one that the clock covers";
    case OBJECT_TOO_MANY_DOTS: return "too many superseded versions that have not arrived yet";
    case OBJECT_ACTOR_IN_CLOUD: return "the put's actor has made a dot that is not held here: it needs a new epoch";
    default: return "unknown error";
    }
}

static int sibling_check(const uint8_t *sibling, const uint8_t *entries, uint32_t count, const uint8_t *previous)
{
    if (sibling[7] != 0 || (sibling_flags(sibling) & ~(SIBLING_TOMBSTONE | SIBLING_LAST_WRITE_WINS)) != 0 ||
        sibling_timestamp(sibling) > CLOCK_NUMBER_MAX)
        return OBJECT_BAD_SIBLING;
    if ((sibling_flags(sibling) & SIBLING_TOMBSTONE) && sibling_value_bytes(sibling) != 0)
        return OBJECT_BAD_SIBLING;
    const uint32_t actor = sibling_actor(sibling);
    const uint64_t counter = sibling_counter(sibling);
    if (actor >= count || counter == 0 || counter > clock_counter(clock_entry(entries, actor)))
        return OBJECT_BAD_DOT;
    if (previous && (actor < sibling_actor(previous) ||
                     (actor == sibling_actor(previous) && counter <= sibling_counter(previous))))
        return OBJECT_BAD_DOT;
    return OBJECT_OK;
}

int object_check(const uint8_t *object, size_t n)
{
    if (n < OBJECT_HEADER_BYTES)
        return OBJECT_TOO_SHORT;
    if (object[0] != OBJECT_FORMAT || object[1] != 0)
        return OBJECT_UNKNOWN_FORMAT;
    const uint32_t count = object_clock_count(object);
    const uint8_t *entries = object_clock(object), *previous = NULL, *winner = NULL;
    size_t offset = object_siblings_offset(object);
    if (n < offset)
        return OBJECT_TOO_SHORT;
    if (!clock_check(entries, count))
        return OBJECT_BAD_CLOCK;
    for (uint32_t left = object_sibling_count(object); left > 0; left--) {
        const uint8_t *sibling = object + offset;
        if (n - offset < SIBLING_HEADER_BYTES || n - offset - SIBLING_HEADER_BYTES < sibling_value_bytes(sibling))
            return OBJECT_TOO_SHORT;
        const int code = sibling_check(sibling, entries, count, previous);
        if (code < 0)
            return code;
        if (sibling_flags(sibling) & SIBLING_LAST_WRITE_WINS) {
            if (winner || !sibling_is_newest(sibling, entries, count))
                return OBJECT_SUPERSEDED;
            winner = sibling;
        }
        previous = sibling;
        offset += sibling_bytes(sibling);
    }
    const size_t cloud_bytes = CLOUD_DOT_BYTES * (size_t)object_cloud_count(object);
    if (n - offset != cloud_bytes)
        return n - offset < cloud_bytes ? OBJECT_TOO_SHORT : OBJECT_TRAILING_BYTES;
    return cloud_check(object + offset, object_cloud_count(object), entries, count) ? OBJECT_OK : OBJECT_BAD_CLOUD;
}

uint64_t object_counter(const uint8_t *object, size_t n, const uint8_t *node, uint64_t epoch)
{
    if (n == 0)
        return 0;
    const uint8_t *entry = clock_find(object_clock(object), object_clock_count(object), node, epoch);
    return entry ? clock_counter(entry) : 0;
}

int object_covers(const uint8_t *object, size_t n, const uint8_t *dot)
{
    return n != 0 && (object_counter(object, n, dot, clock_epoch(dot)) >= clock_counter(dot) ||
                      cloud_has(object_cloud(object, n), object_cloud_count(object), dot));
}

uint64_t object_reach(const uint8_t *object, size_t n, const uint8_t *node, uint64_t epoch)
{
    uint64_t reach = object_counter(object, n, node, epoch);
    const uint32_t count = n ? object_cloud_count(object) : 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *dot = cloud_dot(object_cloud(object, n), i);
        if (clock_actor_compare(node, epoch, dot) == 0 && clock_counter(dot) == reach + 1)
            reach++;
    }
    return reach;
}

int object_has_request(const uint8_t *object, size_t n, const uint8_t *request_id)
{
    if (n == 0 || (load_u64(request_id) | load_u64(request_id + 8)) == 0)
        return 0;
    for (SiblingCursor c = sibling_cursor(object); c.left > 0; sibling_cursor_next(&c))
        if (memcmp(sibling_request(c.sibling), request_id, 16) == 0)
            return 1;
    return 0;
}

int object_next(const uint8_t *object, size_t n, size_t *offset, SiblingView *view)
{
    if (n == 0)
        return 0;
    if (*offset == 0)
        *offset = object_siblings_offset(object);
    if (*offset >= object_siblings_end(object, n))
        return 0;
    const uint8_t *sibling = object + *offset;
    const uint8_t *entry = clock_entry(object_clock(object), sibling_actor(sibling));
    *view = (SiblingView){
        .node = entry,
        .epoch = clock_epoch(entry),
        .counter = sibling_counter(sibling),
        .timestamp_ms = sibling_timestamp(sibling),
        .request_id = sibling_request(sibling),
        .value = sibling_value(sibling),
        .value_n = sibling_value_bytes(sibling),
        .flags = sibling_flags(sibling),
    };
    *offset += sibling_bytes(sibling);
    return 1;
}

uint32_t object_entries_room(size_t out_max, uint32_t limit)
{
    if (out_max < OBJECT_HEADER_BYTES)
        return 0;
    const size_t room = (out_max - OBJECT_HEADER_BYTES) / CLOCK_ENTRY_BYTES;
    return room < limit ? (uint32_t)room : limit;
}

ObjectWriter object_writer(uint8_t *out, size_t out_max, uint32_t clock_count)
{
    store_u32(out, OBJECT_FORMAT | clock_count << 16);
    store_u32(out + 4, 0);
    return (ObjectWriter){out + object_siblings_offset(out), out + out_max, 0, 0};
}

int object_writer_copy(ObjectWriter *writer, const uint8_t *sibling, uint32_t actor)
{
    const size_t bytes = sibling_bytes(sibling);
    if ((size_t)(writer->end - writer->at) < bytes)
        return 0;
    memcpy(writer->at, sibling, bytes);
    store_u16(writer->at + 4, (uint16_t)actor);
    writer->at += bytes;
    writer->siblings++;
    writer->has_last_write_wins |= (sibling_flags(sibling) & SIBLING_LAST_WRITE_WINS) != 0;
    return 1;
}

/* Last-write-wins siblings that are not the newest event yield: closes the gaps they leave. */
static void writer_drop_superseded(ObjectWriter *writer, uint8_t *object)
{
    const uint8_t *entries = object_clock(object), *end = writer->at, *winner = NULL;
    const uint32_t count = object_clock_count(object);
    uint8_t *to = object + object_siblings_offset(object);
    for (const uint8_t *from = to; from < end; from += sibling_bytes(from))
        if ((sibling_flags(from) & SIBLING_LAST_WRITE_WINS) && sibling_is_newest(from, entries, count) &&
            (!winner || event_compare(sibling_timestamp(winner), sibling_actor(winner), sibling_counter(winner),
                                      sibling_timestamp(from), sibling_actor(from), sibling_counter(from)) < 0))
            winner = from;
    for (const uint8_t *from = to; from < end;) {
        const size_t bytes = sibling_bytes(from);
        if ((sibling_flags(from) & SIBLING_LAST_WRITE_WINS) && from != winner) {
            writer->siblings--;
        } else {
            memmove(to, from, bytes);
            to += bytes;
        }
        from += bytes;
    }
    writer->at = to;
}

int object_writer_finish(ObjectWriter *writer, uint8_t *out, uint32_t siblings_max, size_t *out_n)
{
    if (writer->has_last_write_wins)
        writer_drop_superseded(writer, out);
    if (writer->siblings > siblings_max)
        return OBJECT_TOO_MANY_SIBLINGS;
    store_u16(out + 4, (uint16_t)writer->siblings);
    *out_n = (size_t)(writer->at - out);
    return OBJECT_OK;
}

int object_writer_add_clouds(ObjectWriter *writer, uint8_t *out, const uint8_t *a, uint32_t a_count, const uint8_t *b,
                             uint32_t b_count, uint32_t dots_max, size_t *out_n)
{
    const size_t room = (size_t)(writer->end - writer->at) / CLOUD_DOT_BYTES;
    const int64_t count = cloud_merge(a, a_count, b, b_count, object_clock(out), object_clock_count(out), writer->at, room);
    if (count < 0)
        return OBJECT_NO_ROOM;
    if (count > dots_max)
        return OBJECT_TOO_MANY_DOTS;
    store_u16(out + 6, (uint16_t)count);
    writer->at += CLOUD_DOT_BYTES * (size_t)count;
    *out_n = (size_t)(writer->at - out);
    return OBJECT_OK;
}
