"""MD5 positions for other Cython modules; contracts in _ext/digest.h."""

from libc.stdint cimport uint8_t

cdef void md5(const uint8_t *data, size_t n, uint8_t *out) noexcept nogil
# Several messages; fast MD5_LANES at a time. out holds 16 bytes for each.
cdef enum:
    MD5_LANES = 16
cdef void md5_several(const uint8_t **data, const size_t *n, size_t count, uint8_t *out) noexcept nogil
# MD5(key) in the default bucket (bucket_n = 0), else MD5(u8 bucket_n || bucket || key); bucket_n <= 255.
cdef void key_position(const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n, uint8_t *out) noexcept nogil
