/* Settling: the oldest events of a long clock are forgotten, once nobody anywhere holds a version that they supersede.
 *
 * Each start of a process gives it a new epoch, so a key that is written for years collects clock entries. An entry may go
 * when every replica holds these very bytes, on disk, and nothing older is on its way or kept as a hint: then no merge will
 * ever need it. When that is so is decided elsewhere (node/forgetting.py); here it is only done, the same everywhere, so that
 * replicas which agreed before agree after. */
#ifndef DYNAMO_FAST_SETTLE_H
#define DYNAMO_FAST_SETTLE_H

#include <stddef.h>
#include <stdint.h>

/* Drops clock entries with a timestamp below before_ms, oldest first (of equal ones the actor that sorts first), until
 * entries_max are left; never one whose actor made a version that the object still has, since it covers that version's
 * dot. The cloud stays as it is: its dots have no time. 1: there is nothing to drop, out is untouched; 0: written to out, which
 * has room for n bytes, *out_n its length. The object is checked before (object.h). Cost: one walk over the entries for each that goes. */
int object_settle(const uint8_t *object, size_t n, uint32_t entries_max, uint64_t before_ms, uint8_t *out, size_t *out_n);

#endif
