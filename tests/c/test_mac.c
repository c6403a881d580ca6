/* SipHash-2-4 by the reference's 64 vectors; contexts: what is refused, bit by bit. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "mac.h"

/* Key 00..0f, messages of 0 to 63 bytes 00, 01, ...: Aumasson and Bernstein's vectors_sip64. */
static const uint64_t VECTORS[64] = {
    0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
    0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
    0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
    0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
    0x3f2acc7f57c29bdb, 0x699ae9f52cbe4794, 0x4bc1b3f0968dd39c, 0xbb6dc91da77961bd,
    0xbed65cf21aa2ee98, 0xd0f2cbb02e3b67c7, 0x93536795e3a33e88, 0xa80c038ccd5ccec8,
    0xb8ad50c6f649af94, 0xbce192de8a85b8ea, 0x17d835b85bbb15f3, 0x2f2e6163076bcfad,
    0xde4daaaca71dc9a5, 0xa6a2506687956571, 0xad87a3535c49ef28, 0x32d892fad841c342,
    0x7127512f72f27cce, 0xa7f32346f95978e3, 0x12e0b01abb051238, 0x15e034d40fa197ae,
    0x314dffbe0815a3b4, 0x027990f029623981, 0xcadcd4e59ef40c4d, 0x9abfd8766a33735c,
    0x0e3ea96b5304a7d0, 0xad0c42d6fc585992, 0x187306c89bc215a9, 0xd4a60abcf3792b95,
    0xf935451de4f21df2, 0xa9538f0419755787, 0xdb9acddff56ca510, 0xd06c98cd5c0975eb,
    0xe612a3cb9ecba951, 0xc766e62cfcadaf96, 0xee64435a9752fe72, 0xa192d576b245165a,
    0x0a8787bf8ecb74b2, 0x81b3e73d20b49b6f, 0x7fa8220ba3b2ecea, 0x245731c13ca42499,
    0xb78dbfaf3a8d83bd, 0xea1ad565322a1a0b, 0x60e61c23a3795013, 0x6606d7e446282b93,
    0x6ca4ecb15c5f91e1, 0x9f626da15c9625f3, 0xe51b38608ef25f57, 0x958a324ceb064572,
};

static uint8_t key[16], cluster[16], position[16];

static void vectors(void)
{
    for (size_t n = 0; n < 64; n++) {
        uint8_t *message = malloc(n);
        for (size_t i = 0; i < n; i++)
            message[i] = (uint8_t)i;
        assert(mac_siphash(key, message, n) == VECTORS[n]);
        free(message);
    }
}

static int opens(const uint8_t *context, size_t n, uint32_t expected_count)
{
    const uint8_t *entries = NULL;
    uint32_t count = 0;
    const uint8_t *dot = NULL;
    const int code = context_open(key, cluster, position, context, n, &entries, &count, &dot);
    assert(code == 0 || code == -1);
    if (code == 0) {
        assert(entries == context + CONTEXT_HEADER_BYTES && count == expected_count);
        assert(dot == (context[1] ? entries + 40 * (size_t)count : NULL));
    } else {
        assert(entries == NULL && count == 0 && dot == NULL);
    }
    return code == 0;
}

static void one_size(uint32_t count, const uint8_t *dot)
{
    const size_t n = context_bytes(count, dot != NULL);
    assert(n == 48 + 40 * (size_t)count + (dot ? 40 : 0));
    uint8_t *entries = malloc(40 * (size_t)count), *context = malloc(n);
    for (size_t i = 0; i < 40 * (size_t)count; i++)
        entries[i] = (uint8_t)(i * 7);
    context_seal(key, cluster, position, entries, count, dot, context);
    assert(!dot || memcmp(context + n - 48, dot, 40) == 0);
    assert(opens(context, n, count));
    assert(count == 0 || memcmp(context + CONTEXT_HEADER_BYTES, entries, 40 * (size_t)count) == 0);

    const size_t step = n > 1000 ? 997 : 1;
    for (size_t bit = 0; bit < 8 * n; bit += step) {
        context[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert(!opens(context, n, count));
        context[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < n; cut += step) {
        uint8_t *shorter = malloc(cut); /* exact, so that a look beyond is seen */
        memcpy(shorter, context, cut);
        assert(!opens(shorter, cut, count));
        free(shorter);
    }
    uint8_t *const others[3] = {key, cluster, position};
    for (int i = 0; i < 3; i++) {
        others[i][15] ^= 1;
        assert(!opens(context, n, count));
        others[i][15] ^= 1;
    }
    assert(opens(context, n, count));
    free(entries);
    free(context);
}

/* A length that the MAC vouches for but that no context of ours can have, and one that does not fit its bytes. */
static void sealed_lies(void)
{
    static uint8_t context[48 + 40 * 1638], entries[80];
    for (uint32_t bytes_for = 0; bytes_for < 3; bytes_for++) {
        for (uint32_t stated = 0; stated < 3; stated++) {
            const size_t n = context_bytes(bytes_for, 0);
            context_seal(key, cluster, position, entries, bytes_for, NULL, context);
            store_u16(context + 2, (uint16_t)stated);
            store_u64(context + n - 8, mac_siphash(key, context, n - 8));
            assert(opens(context, n, stated) == (stated == bytes_for));
        }
    }
    store_u16(context + 2, 1638);
    store_u64(context + sizeof context - 8, mac_siphash(key, context, sizeof context - 8));
    assert(!opens(context, sizeof context, 1638));
}

int main(void)
{
    for (int i = 0; i < 16; i++) {
        key[i] = (uint8_t)i;
        cluster[i] = (uint8_t)(100 + i);
        position[i] = (uint8_t)(200 + i);
    }
    vectors();
    uint8_t dot[40];
    for (size_t i = 0; i < sizeof dot; i++)
        dot[i] = (uint8_t)(i * 11);
    for (uint32_t count = 0; count < 4; count++) {
        one_size(count, NULL);
        one_size(count, dot);
    }
    one_size(1637, NULL);
    one_size(1636, dot);
    sealed_lies();
    printf("mac: all passed\n");
    return 0;
}
