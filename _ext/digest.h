/* MD5 (RFC 1321): where a key stands on the ring (paper, section 4.2).
 *
 * MD5 serves here as a well-spread hash that every language has, not as a defence against forgery. The functions read
 * `n` bytes at `data` (which may be NULL when n is 0), write sixteen bytes at `out`, take no memory and keep no state. */
#ifndef DYNAMO_FAST_DIGEST_H
#define DYNAMO_FAST_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { MD5_BYTES = 16, MD5_BLOCK_BYTES = 64, MD5_LANES = 16, DIGEST_BUCKET_BYTES_MAX = 255 };

/* One message; about 0.1 us for up to 55 bytes. */
void md5_hash(const uint8_t *data, size_t n, uint8_t out[MD5_BYTES]);

/* `count` messages of any lengths. Where the processor has AVX2 (asked at every call, a load and a test), MD5_LANES at a
 * time side by side, for what two or three of the longest of them cost alone; one after another otherwise. So a caller
 * does well to hand over MD5_LANES at a time, and messages of like lengths together. */
void md5_hash_many(const uint8_t *const *data, const size_t *n, size_t count, uint8_t (*out)[MD5_BYTES]);

/* The position of a key: MD5 of the key in the default bucket (bucket_n is 0), of (one byte of length, bucket, key) in
 * any other. bucket_n is at most DIGEST_BUCKET_BYTES_MAX. */
void digest_key_position(const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n, uint8_t out[MD5_BYTES]);

#endif
