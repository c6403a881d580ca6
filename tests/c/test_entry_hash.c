/* XXH3 of entries: results of the package, and every length in memory of exactly that length. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "entry_hash.h"

int main(void)
{
    static const struct { size_t n; uint64_t expected; } vectors[] = {
        {17, 0xb58bf5dc5022d071}, {32, 0xe3712ed84c04a66e}, {33, 0xa4dee99b093e1f73},
        {128, 0x10d17f72c0ccba41}, {129, 0x1648bdc3db49d1a2}, {240, 0xb6cfaf343fab81e6}};
    size_t seen = 0;
    for (size_t n = ENTRY_HASH_BYTES_MIN; n <= ENTRY_HASH_BYTES_MAX; n++) {
        uint8_t *data = malloc(n); /* exact, so that a byte too far is seen */
        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)(i * 131 + 7);
        const uint64_t hash = entry_hash_xxh3(data, n);
        if (vectors[seen].n == n) {
            assert(hash == vectors[seen].expected);
            if (seen + 1 < sizeof vectors / sizeof *vectors)
                seen++;
        }
        data[n - 1] ^= 1;
        assert(entry_hash_xxh3(data, n) != hash);
        free(data);
    }
    assert(seen + 1 == sizeof vectors / sizeof *vectors);
    printf("entry_hash: XXH3 of %d to %d bytes\n", ENTRY_HASH_BYTES_MIN, ENTRY_HASH_BYTES_MAX);
    return 0;
}
