/* CRC-32C (Castagnoli; RFC 3720 appendix B.4): the checksum of frames on the wire and of records at rest.
 *
 * It finds what networks and disks do by accident; what somebody does on purpose is for mac.h. Reflected polynomial
 * 0x82F63B78, initial value and final xor 0xFFFFFFFF, so that crc32c("123456789") = 0xE3069283. */
#ifndef DYNAMO_FAST_CHECKSUM_H
#define DYNAMO_FAST_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of n bytes that follow bytes whose checksum is crc (0 for none before): chunks may be fed one after
 * another. Uses the processor's instruction where it has one, else the table; both give the same number.
 * Cost: 8 bytes in 3 cycles, or 1 byte in about 6. */
uint32_t checksum_crc32c(uint32_t crc, const uint8_t *data, size_t n);

/* The table alone, on any machine: what tests hold against the other. */
uint32_t checksum_crc32c_portable(uint32_t crc, const uint8_t *data, size_t n);

/* 1 when checksum_crc32c runs on the processor's own instruction here. */
int checksum_has_instruction(void);

#endif
