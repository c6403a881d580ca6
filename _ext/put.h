/* Puts: how a coordinator makes a new version, and which dot it may give it (paper 4.4; object.h has the layout).
 *
 * The promise: a dot is never issued twice, and never claims what its maker has not seen. The actor of a dot is (node,
 * epoch). Beside each record, outside the bytes that are replicated, a node keeps a mark (nonce, epoch): the epoch that
 * this process, told by its random nonce, used when it last stored a put of its own there. A node that restarted, lost
 * a record, restored a backup or runs on a copied directory has no mark that fits, and starts a new epoch at counter 1
 * rather than go on from a counter which may be behind what it once issued.
 *
 * All functions are pure: no memory of their own, no globals; out overlaps no argument. */
#ifndef DYNAMO_FAST_PUT_H
#define DYNAMO_FAST_PUT_H

#include <stddef.h>
#include <stdint.h>

#include "object.h"

enum {
    PUT_CLOCK_MAX = 1024,    /* a put may not leave more entries; merges may, so that they are never refused */
    PUT_SIBLINGS_MAX = 1024, /* likewise; configuration usually says less */
    PUT_CLOUD_MAX = 1024,    /* a put may not add a dot to a cloud of this size */
};

/* One put at its coordinator. */
typedef struct {
    const uint8_t *local;      /* the version held here, or NULL with local_n = 0 */
    size_t local_n;
    const uint8_t *context;    /* clock entries that the client has seen, or NULL with context_count = 0 */
    uint32_t context_count;
    const uint8_t *dot;        /* one event more that the client has seen, as a clock entry, without those before it; or NULL */
    int overwrite;             /* supersede all that is held here, seen or not */
    const uint8_t *node;       /* 16 bytes; with epoch the actor of the new dot: what epoch_choose said */
    uint64_t epoch;
    uint64_t timestamp_ms;     /* wall clock; the version's is never behind what it has seen */
    const uint8_t *request_id; /* 16 bytes */
    int tombstone;             /* a delete: value_n must be 0 */
    int last_write_wins;       /* implies overwrite, and a timestamp above all that this put has seen */
    const uint8_t *value;
    size_t value_n;            /* at most 2^32 - 1 */
} PutArguments;

/* Room that object_put surely needs. */
size_t object_put_bound(const PutArguments *arguments);

/* Writes the object after the put: siblings that context or dot cover go, a new dot comes (counter = 1 + the highest that
 * local clock and context show for the actor), the clock is the join of local clock, context and new dot (not of the seen
 * dot: in a clock it would stand for all before it, which the client may not have seen). A seen dot that this clock does not
 * cover goes into the cloud: its version has not arrived here yet, and is superseded when it does; so it is for puts of every
 * kind, since a writer's own knowledge stands beside what overwrite and last-write-wins add to it. The new version's timestamp
 * is not behind the seen dot's, so that no last-write-wins version which has seen this put ever yields to the dot's event,
 * which nobody might be left of then. 0, or below 0 with out undefined: OBJECT_CLOCK_FULL, OBJECT_TOO_MANY_SIBLINGS,
 * OBJECT_TOO_MANY_DOTS, OBJECT_NO_ROOM, and OBJECT_ACTOR_IN_CLOUD for an actor that epoch_choose would not choose: its next
 * counter might be that of a dot in the cloud. Never truncates the clock. */
int object_put(const PutArguments *arguments, uint8_t *out, size_t out_max, size_t *out_n);

/* Which epoch this put's dot gets, so that no dot is ever issued twice. mark_epoch goes on only if this very process
 * (mark_nonce == process_nonce) stored the local version in a put of its own, the local clock still shows the actor
 * (node, mark_epoch), and neither context nor the local cloud shows a higher counter for it: that would be a dot which somebody
 * issued and this node does not know of (dot, which may be NULL, is part of the context); *alarm is then 1, else 0. For the
 * cloud this is no stricter than for a clock: whoever writes on from a dot was given it by the node that issued it, and that
 * node has held the version since, or lost its mark with it. In all other cases
 * fresh_epoch, which the caller draws at random for this very call: one per process would be used again for a record that
 * was lost. */
uint64_t epoch_choose(const uint8_t *local, size_t local_n, uint64_t mark_nonce, uint64_t mark_epoch,
                      uint64_t process_nonce, const uint8_t *context, uint32_t context_count, const uint8_t *dot,
                      const uint8_t *node, uint64_t fresh_epoch, int *alarm);

/* 1 when a mark may stay beside the record after `incoming` is merged into `local`; 0 when incoming shows, in its clock or
 * its cloud, a higher counter for one's own epoch than local's do: the mark must go (nonce 0), with an alarm. */
int epoch_survives_merge(const uint8_t *local, size_t local_n, const uint8_t *incoming, size_t incoming_n,
                         const uint8_t *node, uint64_t mark_epoch);

#endif
