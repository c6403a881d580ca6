/* Contexts as a stranger sends them back. What opens must be what was sealed, and no altered bit may open.
 *
 * Half of the mutations are sealed again, so that what lies behind the MAC is reached too. */
#include "bytes.h"
#include "fuzz.h"
#include "mac.h"

static const uint8_t mac_key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *context = exact_copy(data, n);
    const uint8_t *entries = NULL;
    const uint8_t *dot = NULL;
    uint32_t count = 0;
    if (n >= CONTEXT_HEADER_BYTES + CONTEXT_MAC_BYTES) {
        const uint8_t *cluster_id = context + 8, *position = context + 24;
        uint8_t other[16];
        memcpy(other, position, 16);
        other[15] ^= 1;
        CHECK(context_open(mac_key, cluster_id, other, context, n, &entries, &count, &dot) == -1);
        if (context_open(mac_key, cluster_id, position, context, n, &entries, &count, &dot) == 0) {
            CHECK(entries >= context && entries + (size_t)count * CONTEXT_ENTRY_BYTES + (dot ? CONTEXT_DOT_BYTES : 0) + CONTEXT_MAC_BYTES == context + n);
            CHECK(context_bytes(count, dot != NULL) == n);
            uint8_t *again = malloc(n);
            CHECK(again != NULL);
            context_seal(mac_key, cluster_id, position, entries, count, dot, again);
            /* A holder of the secret writes zero where zero belongs; the mutator, which plays one, may not. */
            CHECK(memcmp(again + 8, context + 8, n - 16) == 0 || load_u32(context + 4));
            free(again);
            context[n / 2] ^= 1;
            uint8_t cluster[16], place[16];
            memcpy(cluster, data + 8, 16);
            memcpy(place, data + 24, 16);
            CHECK(context_open(mac_key, cluster, place, context, n, &entries, &count, &dot) == -1);
        }
    } else {
        uint8_t zero[16] = {0};
        CHECK(context_open(mac_key, zero, zero, context, n, &entries, &count, &dot) == -1);
    }
    free(context);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t n_max, unsigned int seed)
{
    n = LLVMFuzzerMutate(data, n, n_max);
    if (n >= CONTEXT_HEADER_BYTES + CONTEXT_MAC_BYTES && seed % 2)
        store_u64(data + n - CONTEXT_MAC_BYTES, mac_siphash(mac_key, data, n - CONTEXT_MAC_BYTES));
    return n;
}
