"""MD5 positions for other Cython modules; contracts in _ext/digest.h."""

from libc.stdint cimport uint8_t

cdef void md5(const uint8_t *data, size_t n, uint8_t *out) noexcept nogil
# Eight messages at once; out holds 8 * 16 bytes, lane by lane.
cdef void md5_8(const uint8_t **data, const size_t *n, uint8_t *out) noexcept nogil
# MD5(key) in the default bucket (bucket_n = 0), else MD5(u8 bucket_n || bucket || key); bucket_n <= 255.
cdef void key_position(const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n, uint8_t *out) noexcept nogil
