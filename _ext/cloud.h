/* Dot clouds: single events that an object knows to be superseded though its clock does not cover them (a "version vector
 * with exceptions"; the dot cloud of Almeida, Shoker and Baquero, "Delta state replicated data types", 2018).
 *
 * A writer whose put left siblings knows of its own version the dot alone (mac.h). When it writes on through a coordinator
 * that has not got that version yet, the dot can go into no clock there: the clock would cover all events of that actor
 * before it, which nobody has shown the writer. So it goes into the cloud, until a clock covers it that came with the version.
 *
 * A dot is 32 bytes, little-endian: 0 node[16] | 16 u64 epoch | 24 u64 counter. A cloud is dots sorted by actor (as a clock's
 * entries are) and counter, each once, none covered by the clock beside it: equal clouds are equal bytes.
 *
 * All functions are pure: no memory of their own, no globals, arguments never overlap the result. */
#ifndef DYNAMO_FAST_CLOUD_H
#define DYNAMO_FAST_CLOUD_H

#include <stddef.h>
#include <stdint.h>

#include "vector_clock.h"

enum {
    CLOUD_DOT_BYTES = 32,
    CLOUD_DOTS_MAX = 65535, /* what the count's 16 bits carry; puts stop earlier (put.h) */
};

static inline const uint8_t *cloud_dot(const uint8_t *dots, uint32_t index)
{
    return dots + CLOUD_DOT_BYTES * (size_t)index;
}

/* <0, 0, >0 by (actor, counter). A clock's entry begins as a dot does, and may stand for one. */
static inline int cloud_dot_compare(const uint8_t *a, const uint8_t *b)
{
    const int order = clock_entry_compare(a, b);
    if (order != 0)
        return order;
    const uint64_t a_counter = clock_counter(a), b_counter = clock_counter(b);
    return a_counter < b_counter ? -1 : a_counter > b_counter;
}

/* A walk along a clock that asks of dots, in their order, whether it covers them. */
typedef struct {
    const uint8_t *entry;
    uint32_t left;
} ClockWalk;

static inline int clock_walk_covers(ClockWalk *walk, const uint8_t *dot)
{
    while (walk->left > 0 && clock_entry_compare(walk->entry, dot) < 0) {
        walk->entry += CLOCK_ENTRY_BYTES;
        walk->left--;
    }
    return walk->left > 0 && clock_entry_compare(walk->entry, dot) == 0 && clock_counter(walk->entry) >= clock_counter(dot);
}

/* 1 when these 32 * count bytes, from anybody, are a valid cloud beside this valid clock. One step per dot and entry. */
int cloud_check(const uint8_t *dots, uint32_t count, const uint8_t *entries, uint32_t entries_count);

/* 1 when the dot is among them. Cost: a binary search. */
int cloud_has(const uint8_t *dots, uint32_t count, const uint8_t *dot);

/* The highest counter among the actor's dots, 0 if it has none. Cost: one step per dot. */
uint64_t cloud_highest(const uint8_t *dots, uint32_t count, const uint8_t *node, uint64_t epoch);

/* Writes the union of both, without what the clock covers, to out, which has room for out_max dots. The number of dots, or -1
 * when there is no room. One step per dot and entry. */
int64_t cloud_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, const uint8_t *entries,
                    uint32_t entries_count, uint8_t *out, size_t out_max);

#endif
