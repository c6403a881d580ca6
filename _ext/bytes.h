/* Little-endian and big-endian loads and stores at any alignment.
 *
 * Everything this project writes to a socket or a disk is little-endian, except positions on the ring, which are MD5's
 * sixteen bytes as they come and compare as bytes. memcpy is how C says "unaligned"; compilers make it one move. */
#ifndef DYNAMO_FAST_BYTES_H
#define DYNAMO_FAST_BYTES_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "dynamo-fast is written for little-endian machines"
#endif

static inline uint16_t load_u16(const uint8_t *from) { uint16_t value; memcpy(&value, from, 2); return value; }
static inline uint32_t load_u32(const uint8_t *from) { uint32_t value; memcpy(&value, from, 4); return value; }
static inline uint64_t load_u64(const uint8_t *from) { uint64_t value; memcpy(&value, from, 8); return value; }
static inline void store_u16(uint8_t *to, uint16_t value) { memcpy(to, &value, 2); }
static inline void store_u32(uint8_t *to, uint32_t value) { memcpy(to, &value, 4); }
static inline void store_u64(uint8_t *to, uint64_t value) { memcpy(to, &value, 8); }

static inline uint32_t load_u32_be(const uint8_t *from) { return __builtin_bswap32(load_u32(from)); }
static inline uint64_t load_u64_be(const uint8_t *from) { return __builtin_bswap64(load_u64(from)); }

#endif
