"""The keys a load runs over, and what the generator remembers of each: its context and what it last wrote.

A put that does not carry the context it has seen makes a sibling, so the generator keeps every key's newest context, in
C memory, from one run to the next. A value is a slice of one block of random bytes, so remembering a value costs its
offset and length, and checking a get costs one memcmp. A key has at most one request in flight: that is what makes the
value a get must return certain.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from dynamo_fast.core.bytes cimport store_u64
from dynamo_fast.load.random cimport random_below, random_u64

cdef enum:
    OFFSETS = 1 << 16        # how many different slices there are of one length


@cython.final
cdef class KeySpace:
    """`count` keys named key:000000000000 and so on; values of value_bytes_min..value_bytes_max bytes.

    Raises ValueError for limits that make no sense and MemoryError. `seed` decides the bytes of the values.
    """

    def __cinit__(self, uint32_t count, uint32_t value_bytes_min, uint32_t value_bytes_max, uint64_t seed=1):
        cdef size_t filler_bytes, at
        if count < 1 or value_bytes_min > value_bytes_max or value_bytes_max > 64 << 20:
            raise ValueError("a load has at least one key, and values of ascending sizes up to 64 MiB")
        self.count = count
        self.value_bytes_min = value_bytes_min
        self.value_bytes_max = value_bytes_max
        self.random = seed
        self.keys = <Key *>calloc(count, sizeof(Key))
        filler_bytes = (OFFSETS + <size_t>value_bytes_max + 7) & ~<size_t>7
        self.filler = <uint8_t *>malloc(filler_bytes)
        if self.keys == NULL or self.filler == NULL:
            raise MemoryError
        for at in range(0, filler_bytes, 8):
            store_u64(self.filler + at, random_u64(&self.random))

    def __dealloc__(self):
        cdef uint32_t key
        if self.keys != NULL:
            for key in range(self.count):
                free(self.keys[key].context)
        free(self.keys)
        free(self.filler)

    cdef void write_name(self, uint32_t key, uint8_t *out) noexcept nogil:
        cdef int place
        memcpy(out, b"key:", 4)
        for place in range(KEY_NAME_BYTES - 1, 3, -1):
            out[place] = <uint8_t>(48 + key % 10)
            key //= 10

    cdef void choose_value(self, uint32_t *offset, uint32_t *value_bytes) noexcept nogil:
        offset[0] = random_below(&self.random, OFFSETS)
        value_bytes[0] = self.value_bytes_min
        if self.value_bytes_max > self.value_bytes_min:
            value_bytes[0] += random_below(&self.random, self.value_bytes_max - self.value_bytes_min + 1)

    cdef int keep_context(self, uint32_t key, const uint8_t *context, size_t context_bytes) noexcept nogil:
        cdef Key *of = &self.keys[key]
        cdef uint8_t *grown
        if context_bytes > of.context_capacity:
            grown = <uint8_t *>realloc(of.context, context_bytes)
            if grown == NULL:
                return -1
            of.context = grown
            of.context_capacity = <uint32_t>context_bytes
        memcpy(of.context, context, context_bytes)
        of.context_bytes = <uint32_t>context_bytes
        return 0

    cdef bint is_value(self, uint32_t key, const uint8_t *value, size_t value_bytes) noexcept nogil:
        cdef Key *of = &self.keys[key]
        return value_bytes == of.value_bytes and memcmp(value, self.filler + of.value_offset, value_bytes) == 0

    def name(self, uint32_t key):
        """The key's name as bytes; IndexError when there is no such key."""
        cdef uint8_t name[KEY_NAME_BYTES]
        if key >= self.count:
            raise IndexError(f"there are {self.count} keys, and no number {key}")
        self.write_name(key, name)
        return name[:KEY_NAME_BYTES]

    def statistics(self):
        """How many keys have a known value, how many a context, and the bytes that contexts take."""
        cdef uint32_t key
        cdef uint64_t known = 0, contexts = 0, context_bytes = 0
        for key in range(self.count):
            known += self.keys[key].known
            contexts += self.keys[key].context_bytes > 0
            context_bytes += self.keys[key].context_bytes
        return {"keys": self.count, "known": known, "contexts": contexts, "context_bytes": context_bytes}
