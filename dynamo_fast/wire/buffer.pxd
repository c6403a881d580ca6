"""A queue of bytes for one direction of one connection; see buffer.pyx."""

cimport cython
from libc.stdint cimport uint8_t

cdef enum:
    BUFFER_CAPACITY_MIN = 512       # the smallest allocation, bytes
    BUFFER_CAPACITY_KEPT = 4096     # what a buffer that ran empty may keep, bytes
    BUFFER_CAPACITY_LARGE = 65536   # above this, memory that is mostly unused is given back, bytes


@cython.final
cdef class Buffer:
    cdef uint8_t *data              # NULL while capacity is 0
    cdef readonly size_t head       # offset of the first byte still wanted
    cdef readonly size_t tail       # offset behind the last byte; head <= tail <= capacity
    cdef readonly size_t capacity   # bytes allocated
    cdef readonly size_t limit      # size() never passes it
    cdef readonly size_t slack      # growing asks for at most this many bytes more than the buffer holds

    cdef inline size_t size(self) noexcept nogil:
        return self.tail - self.head

    # Room for n bytes at data + tail; the caller writes them and adds to tail. May move data. Raises BufferFull, MemoryError.
    cdef inline int reserve(self, size_t n) except -1:
        if n <= self.capacity - self.tail and n <= self.limit - (self.tail - self.head):
            return 0
        return self.make_room(n)

    # Drops n <= size() bytes from the head. May move or free data.
    cdef inline void consume(self, size_t n) noexcept:
        self.head += n
        if self.head == self.tail or self.capacity > BUFFER_CAPACITY_LARGE:
            self.shrink()

    cdef int make_room(self, size_t n) except -1
    cdef int append(self, const void *source, size_t n) except -1
    cdef void truncate(self, size_t size) noexcept
    cdef void shrink(self) noexcept
