"""Objects back to back, for the Cython modules that write them from records and merge them; see object_page.pyx."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dynamo_fast.wire.buffer cimport Buffer

cdef enum:
    PAGE_OBJECTS_MAX = 8192     # in one page


# One object of a page. Every pointer leads into the page.
cdef struct PageObject:
    const uint8_t *bucket
    const uint8_t *key
    const uint8_t *object
    uint8_t bucket_bytes        # at most 64
    uint16_t key_bytes          # 1 to 4096
    uint32_t object_bytes


@cython.final
cdef class ObjectPageWriter:
    cdef Buffer objects
    cdef readonly Py_ssize_t count      # objects written
    cdef readonly Py_ssize_t size       # bytes of their buckets' names, keys and objects

    # Adds one object. Raises MemoryError.
    cdef int add(self, const uint8_t *bucket, uint8_t bucket_bytes, const uint8_t *key, uint16_t key_bytes,
                 const uint8_t *object, uint32_t object_bytes) except -1

# Takes the next object off a page from *at, and moves *at behind it: 1; 0 at the end; -1 when what is there is no object's announcement,
# or is cut short. What the object itself is made of is not looked at.
cdef int next_object(const uint8_t **at, const uint8_t *end, PageObject *found) noexcept nogil
