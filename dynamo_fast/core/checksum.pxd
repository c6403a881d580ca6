"""CRC-32C for the other Cython modules."""

from libc.stdint cimport uint8_t, uint32_t


# The checksum of n more bytes after bytes whose checksum is crc; 0 for none before.
cdef uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t n) noexcept nogil
