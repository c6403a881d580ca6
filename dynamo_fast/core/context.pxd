"""Contexts for the other Cython modules; _ext/mac.h has the layout and every contract in full."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "mac.h" nogil:
    enum:
        CONTEXT_DOT_BYTES  # 40: an entry
        CONTEXT_ENTRIES_MAX  # 1637, the dot among them; an object's clock may have more

# SipHash-2-4 of n bytes under a key of 16.
cdef uint64_t siphash(const uint8_t *key16, const uint8_t *data, size_t n) noexcept nogil

# Bytes of a context with count clock entries: 48 + 40 * count, and 40 more with a dot.
cdef size_t context_bytes(uint32_t count, bint with_dot) noexcept nogil

# Writes context_bytes(count, dot != NULL) bytes to out; count <= CONTEXT_ENTRIES_MAX, one less with a dot. dot: as an entry.
cdef void context_seal(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *entries,
                       uint32_t count, const uint8_t *dot, uint8_t *out) noexcept nogil

# 0, the clock and the dot (or NULL) inside, or -1 for whatever was not sealed with this key for this cluster and position.
cdef int context_open(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *context,
                      size_t n, const uint8_t **entries, uint32_t *count, const uint8_t **dot) noexcept nogil
