/* Merging two objects: which siblings stay when two replicas' versions of one key meet (paper 4.4; object.h has the layout).
 *
 * Why dots: a vector per object alone loses or multiplies siblings when clients interleave at one coordinator. An object
 * *covers* the events of its clock and the dots of its cloud; its siblings are the covered events that nothing it knows has
 * superseded, and lie within the clock: the cloud is what was superseded before it arrived. A merge keeps a sibling that both
 * sides hold or that the other side does not cover, and nothing else; what it covers is the union of both. So it is
 * associative, commutative and idempotent, and hints, repair, retries and transfers may all simply merge.
 *
 * A dot goes from the cloud when the joined clock covers it: it is then superseded as every event is that the clock covers and
 * no sibling stands for. Until then each copy of the version that superseded it has it: an acknowledged put's cloud is on as
 * many nodes as the put itself, and contexts need not carry it (core/context.pyx).
 *
 * Last-write-wins is a flag of the sibling, not of the object: a flagged sibling yields to any newer event, by
 * (timestamp, dot), that its object's clock shows; an unflagged one yields only to a write that had seen it. What
 * survives is thus a function of the set of events seen, whatever the order of merges and even when a bucket's setting
 * changes in mid-life. It needs timestamps that do not go back along causality, which object_put (put.h) sees to. The cloud
 * takes no part: a put that puts a dot there is not older than the dot's event, and what has seen that put is not either.
 *
 * Pure: no memory of its own, no globals; out overlaps no argument. */
#ifndef DYNAMO_FAST_SIBLINGS_H
#define DYNAMO_FAST_SIBLINGS_H

#include "object.h"

/* Joins two versions of one key. 1: the result is a's bytes; 2: it is b's; 3: both are the same bytes; out is
 * untouched in these. 0: written to out (a_n + b_n bytes always suffice), *out_n its length. Below 0: OBJECT_CLOCK_FULL,
 * OBJECT_TOO_MANY_SIBLINGS or OBJECT_TOO_MANY_DOTS when the layout's 16 bits do not carry the number (puts stop at a 64th of it,
 * so that it takes a peer that lies, or dozens of nodes that each went to the end of it alone), or OBJECT_NO_ROOM. No bytes
 * (n = 0) are an absent version. Cost: one memcmp when equal, one walk over entries and siblings when one side knows it
 * all; with clouds also over their dots, and a binary search among them for each sibling. */
int object_merge(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, uint8_t *out, size_t out_max,
                 size_t *out_n);

#endif
