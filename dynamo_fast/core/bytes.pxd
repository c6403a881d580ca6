"""Loads and stores of _ext/bytes.h for the Cython modules."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "bytes.h" nogil:
    uint16_t load_u16(const uint8_t *source)
    uint32_t load_u32(const uint8_t *source)
    uint64_t load_u64(const uint8_t *source)
    uint32_t load_u32_be(const uint8_t *source)
    uint64_t load_u64_be(const uint8_t *source)
    void store_u16(uint8_t *target, uint16_t value)
    void store_u32(uint8_t *target, uint32_t value)
    void store_u64(uint8_t *target, uint64_t value)
