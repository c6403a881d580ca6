/* CRC-32C: the vectors of RFC 3720, and instruction, table and single bits against one another. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"

static uint32_t by_bits(uint32_t crc, const uint8_t *data, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78 : 0);
    }
    return ~crc;
}

static void both(const void *data, size_t n, uint32_t expected)
{
    assert(checksum_crc32c(0, data, n) == expected);
    assert(checksum_crc32c_portable(0, data, n) == expected);
}

static void vectors(void)
{
    static const uint8_t scsi_read[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
    uint8_t bytes[32];
    both("", 0, 0);
    both("123456789", 9, 0xE3069283);
    memset(bytes, 0, 32);
    both(bytes, 32, 0x8A9136AA);
    memset(bytes, 0xFF, 32);
    both(bytes, 32, 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    both(bytes, 32, 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    both(bytes, 32, 0x113FDB5C);
    both(scsi_read, 48, 0xD9963A56);
}

int main(void)
{
    enum { LONGEST = 200 };
    vectors();
    for (size_t n = 0; n <= LONGEST; n++) {
        for (size_t skip = 0; skip < 9; skip++) {
            uint8_t *block = malloc(n + skip), *data = block + skip; /* exact, so that a byte too far is seen */
            for (size_t i = 0; i < n; i++)
                data[i] = (uint8_t)(i * 131 + n * 17 + skip);
            const uint32_t expected = by_bits(0, data, n);
            both(data, n, expected);
            const size_t cut = n * skip / 9;
            assert(checksum_crc32c(checksum_crc32c(0, data, cut), data + cut, n - cut) == expected);
            assert(checksum_crc32c_portable(checksum_crc32c(0, data, cut), data + cut, n - cut) == expected);
            free(block);
        }
    }
    printf("checksum: all passed, %s\n", checksum_has_instruction() ? "instruction and table" : "table");
    return 0;
}
