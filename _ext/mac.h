/* SipHash-2-4, and the context that it seals.
 *
 * A context is what a get hands out and a put hands back: the clock of everything the client has seen of one key. Used
 * on another key, or altered, it would silently cover writes that nobody has seen, so it names its cluster and its
 * key's position and ends in a 64-bit MAC under the cluster's secret. SipHash: Aumasson and Bernstein, 2012.
 *
 * Layout, little-endian:
 *     0 u8 format = 1 | 1 u8 flags (1 = a dot follows the clock) | 2 u16 count | 4 u32 zero | 8 cluster_id[16]
 *     24 position[16] | 40 clock entries, 40 bytes each (vector_clock.h) | the dot, laid out as an entry
 *     u64 SipHash-2-4 of all before it
 *
 * The dot is one event beyond the clock, without those before it: a writer whose put left siblings it has not seen knows
 * its own new version and must not be taken to have seen the others, though their dots may have lower counters. Its
 * timestamp is there because a coordinator that lacks the version must not write an older one in its place (put.h). */
#ifndef DYNAMO_FAST_MAC_H
#define DYNAMO_FAST_MAC_H

#include <stddef.h>
#include <stdint.h>

enum {
    CONTEXT_HEADER_BYTES = 40,
    CONTEXT_MAC_BYTES = 8,
    CONTEXT_ENTRY_BYTES = 40,
    CONTEXT_DOT_BYTES = 40,
    CONTEXT_ENTRIES_MAX = 1637, /* the dot is one: as many as fit the 16 bits that messages have for a context's length */
};

/* SipHash-2-4 of n bytes under a key of 16; the number whose little-endian bytes the reference prints.
 * Cost: about 20 ns and 1.3 ns per 8 bytes. */
uint64_t mac_siphash(const uint8_t *key, const uint8_t *data, size_t n);

/* Bytes of a context with count clock entries, and a dot or not. */
size_t context_bytes(uint32_t count, int with_dot);

/* Writes context_bytes(count, dot != NULL) bytes to out. mac_key, cluster_id and position are 16 bytes each; entries are
 * a valid clock of count <= CONTEXT_ENTRIES_MAX entries, one less with a dot; dot is 40 bytes or NULL. An object's clock may
 * have more after merges. */
void context_seal(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *entries,
                  uint32_t count, const uint8_t *dot, uint8_t *out);

/* 0 when these n bytes were sealed with this key for this cluster and position: *entries then points at the clock
 * inside them, *count is its length and *dot its dot or NULL. -1 for anything else, with all three untouched. The MAC
 * vouches for the clock's order and limits, so they are not looked at again. */
int context_open(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *context,
                 size_t n, const uint8_t **entries, uint32_t *count, const uint8_t **dot);

#endif
