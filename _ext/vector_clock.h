/* Vector clocks (paper 4.4) as packed, sorted entries that are compared and joined where they lie.
 *
 * An entry is 40 bytes, little-endian:
 *     0 node[16] | 16 u64 epoch | 24 u64 counter | 32 u64 timestamp_ms
 * and says: of the actor (node, epoch) the events 1..counter are covered, the last of them made at timestamp_ms.
 * A clock is entries sorted by actor (node as bytes, then epoch as a number), each actor once: equal clocks are equal
 * bytes. Causality looks at counters only; timestamps are for truncation and for last-write-wins.
 *
 * All functions are pure: no memory of their own, no globals, arguments never overlap the result. Their cost is one
 * step per entry, 2-3 ns, unless said otherwise. "entries, count" is a valid clock everywhere but in clock_check. */
#ifndef DYNAMO_FAST_VECTOR_CLOCK_H
#define DYNAMO_FAST_VECTOR_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum {
    CLOCK_ENTRY_BYTES = 40,
    CLOCK_ENTRIES_MAX = 65535, /* what the count's 16 bits carry in an object; puts stop earlier (put.h) */
};

/* Counters and timestamps stay at or under this, so that one more always fits. */
#define CLOCK_NUMBER_MAX ((uint64_t)INT64_MAX)

static inline uint64_t clock_epoch(const uint8_t *entry) { return load_u64(entry + 16); }
static inline uint64_t clock_counter(const uint8_t *entry) { return load_u64(entry + 24); }
static inline uint64_t clock_timestamp(const uint8_t *entry) { return load_u64(entry + 32); }

static inline const uint8_t *clock_entry(const uint8_t *entries, uint32_t index)
{
    return entries + CLOCK_ENTRY_BYTES * (size_t)index;
}

/* <0, 0 or >0 as the actor (node, epoch) comes before, is the same as, or comes after the entry's. */
static inline int clock_actor_compare(const uint8_t *node, uint64_t epoch, const uint8_t *entry)
{
    const uint64_t high = load_u64(node), entry_high = load_u64(entry);
    const uint64_t low = load_u64(node + 8), entry_low = load_u64(entry + 8);
    if (high != entry_high)
        return __builtin_bswap64(high) < __builtin_bswap64(entry_high) ? -1 : 1;
    if (low != entry_low)
        return __builtin_bswap64(low) < __builtin_bswap64(entry_low) ? -1 : 1;
    const uint64_t entry_epoch = clock_epoch(entry);
    return epoch < entry_epoch ? -1 : epoch > entry_epoch;
}

static inline int clock_entry_compare(const uint8_t *a, const uint8_t *b)
{
    return clock_actor_compare(a, clock_epoch(a), b);
}

/* For two entries of one actor: 1 when a's (counter, timestamp) is at least b's. */
static inline int clock_entry_covers(const uint8_t *a, const uint8_t *b)
{
    const uint64_t a_counter = clock_counter(a), b_counter = clock_counter(b);
    return a_counter != b_counter ? a_counter > b_counter : clock_timestamp(a) >= clock_timestamp(b);
}

typedef enum { CLOCK_EQUAL = 0, CLOCK_BEFORE = 1, CLOCK_AFTER = 2, CLOCK_CONCURRENT = 3 } ClockOrder;

/* 1 when these 40 * count bytes, from anybody, are a valid clock: count within the limit, sorted, each actor once,
 * counters 1..2^63-1, timestamps at most 2^63-1. */
int clock_check(const uint8_t *entries, uint32_t count);

/* The entry of the actor, or NULL. */
const uint8_t *clock_find(const uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch);

/* 1 when a covers every event that b covers (a >= b). */
int clock_descends(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count);

/* How a stands to b, in one walk: CLOCK_BEFORE when b covers all of a and more. */
ClockOrder clock_order(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count);

/* Writes the join of both to out, which has room for out_max entries; of one actor the larger (counter, timestamp)
 * stays. The number of entries, or -1 when there is no room. */
int clock_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, uint8_t *out,
                uint32_t out_max);

/* Adds one more event of the actor, made at timestamp_ms, to the clock in place; there is room for count + 1 entries.
 * The number of entries now; *index is where the actor stands. -1 when its counter is at the limit. */
int clock_advance(uint8_t *entries, uint32_t count, const uint8_t *node, uint64_t epoch, uint64_t timestamp_ms,
                  uint32_t *index);

/* The paper's truncation, in place: keeps the count_max entries with the newest timestamps (of equal ones the actor
 * that sorts first goes first) and returns how many there are. Loses causality by design; puts never call it.
 * Cost: one walk per entry dropped. */
uint32_t clock_truncate(uint8_t *entries, uint32_t count, uint32_t count_max);

#endif
