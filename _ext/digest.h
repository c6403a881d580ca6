/* MD5 (RFC 1321): where a key stands on the ring (paper, section 4.2).
 *
 * MD5 serves here as a well-spread hash that every language has, not as a defence against forgery. The functions read
 * `n` bytes at `data` (which may be NULL when n is 0), write sixteen bytes at `out`, take no memory and keep no state. */
#ifndef DYNAMO_FAST_DIGEST_H
#define DYNAMO_FAST_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { MD5_BYTES = 16, MD5_BLOCK_BYTES = 64, MD5_LANES = 8, DIGEST_BUCKET_BYTES_MAX = 255 };

/* One message; about 0.15 us for up to 55 bytes. */
void md5_hash(const uint8_t *data, size_t n, uint8_t out[MD5_BYTES]);

/* Eight messages of any lengths, side by side in AVX2 registers where the processor has them (asked at every call, a
 * load and a test), one after another otherwise. Costs about what two single messages of the longest length do. */
void md5_hash_8(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES]);

/* The two ways of md5_hash_8, apart, so that tests can hold one against the other. The AVX2 one may be called only
 * where md5_has_lanes() is not 0. */
int md5_has_lanes(void);
void md5_hash_8_portable(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES]);
void md5_hash_8_avx2(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES]);

/* The position of a key: MD5 of the key in the default bucket (bucket_n is 0), of (one byte of length, bucket, key) in
 * any other. bucket_n is at most DIGEST_BUCKET_BYTES_MAX. */
void digest_key_position(const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n, uint8_t out[MD5_BYTES]);

#endif
