/* SipHash-2-4 and the sealing of contexts. */
#include "mac.h"

#include <assert.h>

#include "bytes.h"
#include "vector_clock.h"

_Static_assert((int)CONTEXT_ENTRY_BYTES == (int)CLOCK_ENTRY_BYTES, "a context holds a clock as it stands in an object");

static inline uint64_t rotate(uint64_t value, int bits)
{
    return (value << bits) | (value >> (64 - bits));
}

typedef struct {
    uint64_t v0, v1, v2, v3;
} SipState;

static inline void sip_round(SipState *s)
{
    s->v0 += s->v1; s->v1 = rotate(s->v1, 13) ^ s->v0; s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3; s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3; s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1; s->v1 = rotate(s->v1, 17) ^ s->v2; s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(SipState *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    sip_round(s);
    s->v0 ^= word;
}

uint64_t mac_siphash(const uint8_t *key, const uint8_t *data, size_t n)
{
    const uint64_t k0 = load_u64(key), k1 = load_u64(key + 8);
    SipState s = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
    uint64_t last = (uint64_t)n << 56;
    for (; n >= 8; data += 8, n -= 8)
        sip_word(&s, load_u64(data));
    for (size_t i = 0; i < n; i++)
        last |= (uint64_t)data[i] << (8 * i);
    sip_word(&s, last);
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

size_t context_bytes(uint32_t count, int with_dot)
{
    return CONTEXT_HEADER_BYTES + (size_t)CONTEXT_ENTRY_BYTES * count + (with_dot ? CONTEXT_DOT_BYTES : 0) + CONTEXT_MAC_BYTES;
}

void context_seal(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *entries,
                  uint32_t count, const uint8_t *dot, uint8_t *out)
{
    assert(count + (dot != NULL) <= CONTEXT_ENTRIES_MAX);
    const size_t sealed = context_bytes(count, dot != NULL) - CONTEXT_MAC_BYTES;
    out[0] = 1;
    out[1] = dot != NULL;
    store_u16(out + 2, (uint16_t)count);
    store_u32(out + 4, 0);
    memcpy(out + 8, cluster_id, 16);
    memcpy(out + 24, position, 16);
    if (count)
        memcpy(out + CONTEXT_HEADER_BYTES, entries, (size_t)CONTEXT_ENTRY_BYTES * count);
    if (dot)
        memcpy(out + sealed - CONTEXT_DOT_BYTES, dot, CONTEXT_DOT_BYTES);
    store_u64(out + sealed, mac_siphash(mac_key, out, sealed));
}

int context_open(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *context,
                 size_t n, const uint8_t **entries, uint32_t *count, const uint8_t **dot)
{
    if (n < context_bytes(0, 0) || context[0] != 1 || context[1] > 1)
        return -1;
    const uint32_t stated = load_u16(context + 2);
    if (stated + context[1] > CONTEXT_ENTRIES_MAX || n != context_bytes(stated, context[1]))
        return -1;
    if (memcmp(context + 8, cluster_id, 16) != 0 || memcmp(context + 24, position, 16) != 0)
        return -1;
    const size_t sealed = n - CONTEXT_MAC_BYTES;
    if (load_u64(context + sealed) != mac_siphash(mac_key, context, sealed))
        return -1;
    *entries = context + CONTEXT_HEADER_BYTES;
    *count = stated;
    *dot = context[1] ? context + sealed - CONTEXT_DOT_BYTES : NULL;
    return 0;
}
