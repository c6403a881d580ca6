"""Contexts for the other Cython modules; _ext/mac.h has the layout and every contract in full."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# SipHash-2-4 of n bytes under a key of 16.
cdef uint64_t siphash(const uint8_t *key16, const uint8_t *data, size_t n) noexcept nogil

# Bytes of a context with count clock entries: 48 + 40 * count.
cdef size_t context_bytes(uint32_t count) noexcept nogil

# Writes context_bytes(count) bytes to out; count <= 1637.
cdef void context_seal(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *entries,
                       uint32_t count, uint8_t *out) noexcept nogil

# 0 and the clock inside, or -1 for whatever was not sealed with this key for this cluster and position.
cdef int context_open(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *context,
                      size_t n, const uint8_t **entries, uint32_t *count) noexcept nogil
