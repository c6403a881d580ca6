"""What the generator knows of every key it loads; explained in keys.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    KEY_NAME_BYTES = 16      # "key:" and twelve decimal digits


cdef struct Key:
    uint8_t *context         # the context to send with the next put; owned, NULL while none is held
    uint32_t context_bytes
    uint32_t context_capacity
    uint32_t value_offset    # where in the filler the value of the last acknowledged put begins
    uint32_t value_bytes
    uint8_t busy             # 1 while a request on this key is in flight
    uint8_t known            # 1 when value_offset and value_bytes say what a get must return


cdef class KeySpace:
    cdef readonly uint32_t count            # keys, numbered 0..count-1
    cdef readonly uint32_t value_bytes_min
    cdef readonly uint32_t value_bytes_max
    cdef Key *keys                          # owned, `count` of them
    cdef uint8_t *filler                    # owned; every value is a slice of it
    cdef uint64_t random                    # state of the choice of values

    # Writes the KEY_NAME_BYTES of the key's name.
    cdef void write_name(self, uint32_t key, uint8_t *out) noexcept nogil
    # Chooses the next value of a put: a slice of the filler.
    cdef void choose_value(self, uint32_t *offset, uint32_t *value_bytes) noexcept nogil
    # Copies a context; 0, or -1 when memory is out.
    cdef int keep_context(self, uint32_t key, const uint8_t *context, size_t context_bytes) noexcept nogil
    # Whether these bytes are what the last acknowledged put of a known key wrote.
    cdef bint is_value(self, uint32_t key, const uint8_t *value, size_t value_bytes) noexcept nogil
