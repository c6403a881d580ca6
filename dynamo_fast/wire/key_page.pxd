"""Writing pages of keys, for the Cython module that reads them from an engine; see key_page.pyx."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t

from dynamo_fast.wire.buffer cimport Buffer


@cython.final
cdef class KeyPageWriter:
    cdef Buffer entries
    cdef readonly Py_ssize_t count      # entries written

    # Adds one entry; entries come in ascending order of their 24-byte store keys. Raises MemoryError.
    cdef int add(self, const uint8_t *store_key, const uint8_t *key, uint16_t key_bytes) except -1
