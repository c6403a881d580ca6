/* XXH3 of 64 bits (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), for as many bytes as most entries have.
 *
 * An entry of a Merkle tree is hashed with every write on every replica. With 100 bytes of value it has some 200, and to
 * hand those to Python's package costs more than to hash them; the result is the package's, where longer ones go. */
#ifndef DYNAMO_FAST_ENTRY_HASH_H
#define DYNAMO_FAST_ENTRY_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A position and the shortest object are more than the least; beyond the most, XXH3 is another algorithm. */
enum { ENTRY_HASH_BYTES_MIN = 17, ENTRY_HASH_BYTES_MAX = 240 };

/* XXH3-64 with seed 0 of n bytes, ENTRY_HASH_BYTES_MIN <= n <= ENTRY_HASH_BYTES_MAX. */
uint64_t entry_hash_xxh3(const uint8_t *data, size_t n);

#endif
