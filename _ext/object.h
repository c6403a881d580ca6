/* Objects: the concurrent versions of one key, packed, with one clock that covers all they have seen (paper 4.4).
 *
 * An object goes from socket to disk as these bytes, little-endian, and is never decoded on the way:
 *     0 u8 format = 1 | 1 u8 zero | 2 u16 clock_count | 4 u16 sibling_count | 6 u16 cloud_count
 *     8 clock entries, 40 bytes each (vector_clock.h)
 *     then the siblings, sorted by dot, each:
 *         0 u32 value_bytes | 4 u16 actor (index in the clock) | 6 u8 flags | 7 u8 zero
 *         8 u64 counter | 16 u64 timestamp_ms | 24 request_id[16] | 40 value
 *     then the cloud's dots, 32 bytes each (cloud.h)
 * A sibling's dot (actor, counter) names the one event that made it. Equal contents are equal bytes.
 *
 * An object *covers* the events of its clock and the dots of its cloud. Its siblings lie within the clock: the cloud is what was
 * superseded before it arrived. What a merge makes of two objects, and why, is in siblings.h; how a put makes one in put.h.
 *
 * All functions are pure: no memory of their own, no globals; out overlaps no argument. */
#ifndef DYNAMO_FAST_OBJECT_H
#define DYNAMO_FAST_OBJECT_H

#include <stddef.h>
#include <stdint.h>

#include "cloud.h"
#include "vector_clock.h"

enum {
    OBJECT_FORMAT = 1,
    OBJECT_HEADER_BYTES = 8,
    SIBLING_HEADER_BYTES = 40,
    OBJECT_SIBLINGS_MAX = 65535, /* what the count's 16 bits carry; puts stop earlier (put.h) */
};

enum { SIBLING_TOMBSTONE = 1, SIBLING_LAST_WRITE_WINS = 2 };

enum {
    OBJECT_OK = 0,
    OBJECT_TOO_SHORT = -1,         /* the bytes end before what they announce */
    OBJECT_UNKNOWN_FORMAT = -2,    /* format number or reserved byte is not ours */
    OBJECT_BAD_CLOCK = -3,         /* unsorted, double or out-of-range entries */
    OBJECT_BAD_SIBLING = -4,       /* reserved bits, or a tombstone with a value */
    OBJECT_BAD_DOT = -5,           /* outside the clock, unsorted or double */
    OBJECT_TRAILING_BYTES = -6,    /* more bytes than announced */
    OBJECT_SUPERSEDED = -7,        /* a last-write-wins sibling that should have yielded */
    OBJECT_CLOCK_FULL = -8,        /* more entries, or a higher counter or timestamp, than the limit */
    OBJECT_TOO_MANY_SIBLINGS = -9, /* more than the limit */
    OBJECT_NO_ROOM = -10,          /* out is too small */
    OBJECT_BAD_CLOUD = -11,        /* unsorted, double or out-of-range dots, or one that the clock covers */
    OBJECT_TOO_MANY_DOTS = -12,    /* a larger cloud than the limit */
    OBJECT_ACTOR_IN_CLOUD = -13,   /* the actor of a put has made dots that its coordinator does not hold */
};

/* What a code says, as a sentence without a full stop. */
const char *object_error(int code);

static inline uint32_t object_clock_count(const uint8_t *object) { return load_u16(object + 2); }
static inline uint32_t object_sibling_count(const uint8_t *object) { return load_u16(object + 4); }
static inline uint32_t object_cloud_count(const uint8_t *object) { return load_u16(object + 6); }
static inline const uint8_t *object_clock(const uint8_t *object) { return object + OBJECT_HEADER_BYTES; }
/* Of an object of n bytes, not 0. */
static inline size_t object_siblings_end(const uint8_t *object, size_t n)
{
    return n - CLOUD_DOT_BYTES * (size_t)object_cloud_count(object);
}
static inline const uint8_t *object_cloud(const uint8_t *object, size_t n) { return object + object_siblings_end(object, n); }
static inline size_t object_siblings_offset(const uint8_t *object)
{
    return OBJECT_HEADER_BYTES + CLOCK_ENTRY_BYTES * (size_t)object_clock_count(object);
}

/* Fields of one packed sibling. */
static inline uint32_t sibling_value_bytes(const uint8_t *sibling) { return load_u32(sibling); }
static inline uint32_t sibling_actor(const uint8_t *sibling) { return load_u16(sibling + 4); }
static inline uint8_t sibling_flags(const uint8_t *sibling) { return sibling[6]; }
static inline uint64_t sibling_counter(const uint8_t *sibling) { return load_u64(sibling + 8); }
static inline uint64_t sibling_timestamp(const uint8_t *sibling) { return load_u64(sibling + 16); }
static inline const uint8_t *sibling_request(const uint8_t *sibling) { return sibling + 24; }
static inline const uint8_t *sibling_value(const uint8_t *sibling) { return sibling + SIBLING_HEADER_BYTES; }
static inline size_t sibling_bytes(const uint8_t *sibling)
{
    return SIBLING_HEADER_BYTES + (size_t)sibling_value_bytes(sibling);
}

/* A walk over an object's siblings in the order of their dots. */
typedef struct {
    const uint8_t *sibling; /* the next one */
    uint32_t left;
} SiblingCursor;

static inline SiblingCursor sibling_cursor(const uint8_t *object)
{
    return (SiblingCursor){object + object_siblings_offset(object), object_sibling_count(object)};
}

/* 1 when the walk stands on a sibling of this actor (an index in the object's own clock). */
static inline int sibling_cursor_on(const SiblingCursor *cursor, uint32_t actor)
{
    return cursor->left > 0 && sibling_actor(cursor->sibling) == actor;
}

static inline void sibling_cursor_next(SiblingCursor *cursor)
{
    cursor->sibling += sibling_bytes(cursor->sibling);
    cursor->left--;
}

/* An object being written: its clock stands already, siblings are added in the order of their dots, then the cloud. */
typedef struct {
    uint8_t *at;
    const uint8_t *end;
    uint32_t siblings;
    int has_last_write_wins;
} ObjectWriter;

/* Writes header and clock length into out, in which count entries stand already; siblings may follow. */
ObjectWriter object_writer(uint8_t *out, size_t out_max, uint32_t clock_count);

/* Adds a copy of a sibling under another actor index. 1, or 0 when there is no room. */
int object_writer_copy(ObjectWriter *writer, const uint8_t *sibling, uint32_t actor);

/* Lets last-write-wins siblings yield, completes the header: 0 and *out_n, or OBJECT_TOO_MANY_SIBLINGS. */
int object_writer_finish(ObjectWriter *writer, uint8_t *out, uint32_t siblings_max, size_t *out_n);

/* After finish: adds the union of two clouds, but for what the object's clock covers. 0 and a larger *out_n,
 * OBJECT_TOO_MANY_DOTS when there are more than dots_max, or OBJECT_NO_ROOM. */
int object_writer_add_clouds(ObjectWriter *writer, uint8_t *out, const uint8_t *a, uint32_t a_count, const uint8_t *b,
                             uint32_t b_count, uint32_t dots_max, size_t *out_n);

/* How many clock entries fit an object of out_max bytes, at most limit. */
uint32_t object_entries_room(size_t out_max, uint32_t limit);

/* 0 when these bytes, from anybody, are a valid object in its one canonical form, else the code of what is wrong.
 * Looks at every byte that is not a node, an epoch, a request id or a value; allocates nothing. All other functions
 * take checked objects only. Cost: one step per entry, sibling and dot of the cloud. */
int object_check(const uint8_t *object, size_t n);

/* The actor's counter in the object's clock, 0 if it has none. n = 0 is an absent version, here and below. */
uint64_t object_counter(const uint8_t *object, size_t n, const uint8_t *node, uint64_t epoch);

/* 1 when the object covers this one event (node[16], u64 epoch, u64 counter): by its clock, or as a dot of its cloud. */
int object_covers(const uint8_t *object, size_t n, const uint8_t *dot);

/* Up to which counter the object covers all events of the actor: its clock's, and on along adjoining dots of the cloud. */
uint64_t object_reach(const uint8_t *object, size_t n, const uint8_t *node, uint64_t epoch);

/* 1 when a sibling was made by this request (16 bytes, not all zero). */
int object_has_request(const uint8_t *object, size_t n, const uint8_t *request_id);

/* One sibling, pointing into its object. */
typedef struct {
    const uint8_t *node;       /* 16 bytes; node, epoch and counter are the dot */
    uint64_t epoch;
    uint64_t counter;
    uint64_t timestamp_ms;
    const uint8_t *request_id; /* 16 bytes */
    const uint8_t *value;
    uint32_t value_n;
    uint8_t flags;             /* SIBLING_* */
} SiblingView;

/* The next sibling: start with *offset = 0; 1 = *view is filled, 0 = there are no more. */
int object_next(const uint8_t *object, size_t n, size_t *offset, SiblingView *view);

#endif
