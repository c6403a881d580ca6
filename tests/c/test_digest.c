/* MD5 of every length, alone and side by side, and positions of every length of bucket and key. */
#include "digest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_rfc_1321(void)
{
    static const char *const messages[] = {
        "", "a", "abc", "message digest", "abcdefghijklmnopqrstuvwxyz",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
    };
    static const char *const digests[] = {
        "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661", "900150983cd24fb0d6963f7d28e17f72",
        "f96b697d7cb7938d525a2f31aaf161d0", "c3fcd3d76192e4007dfb496cca67e13b", "d174ab98d277d9f5a5611c2c9f419d9f",
        "57edf4a22be3c955ac49da2e2107b67a",
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        uint8_t digest[MD5_BYTES];
        char text[2 * MD5_BYTES + 1];
        md5_hash((const uint8_t *)messages[i], strlen(messages[i]), digest);
        for (int byte = 0; byte < MD5_BYTES; byte++)
            snprintf(text + 2 * byte, 3, "%02x", digest[byte]);
        assert(strcmp(text, digests[i]) == 0);
    }
}

/* A copy of exactly n bytes, so that the sanitizer sees the first byte read past its end. */
static uint8_t *exact(size_t n, unsigned seed)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    assert(copy != NULL);
    for (size_t i = 0; i < n; i++)
        copy[i] = (uint8_t)(i * 131 + seed * 7 + (i >> 8));
    return copy;
}

/* Every count of messages, of lengths that differ within a group: one long one among short ones, empty ones. */
static void check_many(void)
{
    enum { COUNT_MAX = 3 * MD5_LANES };
    const uint8_t *data[COUNT_MAX];
    size_t n[COUNT_MAX];
    uint8_t many[COUNT_MAX][MD5_BYTES], one[MD5_BYTES];
    for (size_t count = 0; count <= COUNT_MAX; count++) {
        for (size_t i = 0; i < count; i++) {
            n[i] = (i * 37 + count * 11) % 200 + (i == 5 ? 1000 : 0);
            n[i] = i % 7 == 3 ? 0 : n[i];
            data[i] = i % 14 == 3 ? NULL : exact(n[i], (unsigned)i);
        }
        md5_hash_many(data, n, count, many);
        for (size_t i = 0; i < count; i++) {
            md5_hash(data[i], n[i], one);
            assert(memcmp(many[i], one, MD5_BYTES) == 0);
            free((void *)(uintptr_t)data[i]);
        }
    }
}

static void check_positions(void)
{
    for (size_t bucket_n = 0; bucket_n <= DIGEST_BUCKET_BYTES_MAX; bucket_n++) {
        for (size_t key_n = 0; key_n < 140; key_n++) {
            uint8_t *bucket = exact(bucket_n, 1), *key = exact(key_n, 2), joined[1 + 255 + 140];
            uint8_t position[MD5_BYTES], expected[MD5_BYTES];
            size_t joined_n = bucket_n > 0 ? 1 + bucket_n : 0;
            joined[0] = (uint8_t)bucket_n;
            memcpy(joined + 1, bucket, bucket_n);
            memcpy(joined + joined_n, key, key_n);
            md5_hash(joined, joined_n + key_n, expected);
            digest_key_position(bucket, bucket_n, key, key_n, position);
            assert(memcmp(position, expected, MD5_BYTES) == 0);
            free(bucket);
            free(key);
        }
    }
}

int main(void)
{
    check_rfc_1321();
    check_many();
    check_positions();
    puts("digest: RFC 1321, batches and positions agree");
    return 0;
}
