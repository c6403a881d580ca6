"""A queue of bytes for one direction of one connection.

Bytes are written at the tail and read from the head. Memory follows what is really held: a buffer never allocates more
than it holds plus `slack` (so a stranger cannot make us allocate by announcing), and gives memory back as it empties, so
that ten thousand idle connections cost next to nothing.

Cost: appending is amortised O(1) per byte where slack is large (outgoing); with a small slack (incoming) a buffer grows
in steps of `slack`, and realloc moves pages rather than bytes once it is large.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memmove

from dynamo_fast.wire.errors import BufferFull


@cython.final
cdef class Buffer:
    """Bytes in flight in one direction.

    :param limit: bytes that it may hold; more raises BufferFull and adds nothing
    :param slack: when it grows, it asks for at most this many bytes more than it holds (or for what is needed)
    """

    def __cinit__(self, size_t limit, size_t slack=65536):
        if limit == 0 or slack == 0:
            raise ValueError("a buffer's limit and slack are at least one byte")
        self.limit = limit
        self.slack = slack

    def __dealloc__(self):
        PyMem_RawFree(self.data)

    cdef int make_room(self, size_t n) except -1:
        """The slow half of reserve: moves what is held to the front, or grows."""
        cdef size_t held = self.tail - self.head
        cdef size_t wanted
        cdef uint8_t *grown
        if n > self.limit - held:
            raise BufferFull(f"buffer holds {held} bytes of {self.limit} and was asked to take {n} more")
        wanted = held + max(n, min(held + n, self.slack))
        wanted = max(min(wanted, self.limit), <size_t>BUFFER_CAPACITY_MIN)
        # Moving alone is cheap when most of the memory is behind the head. Where little is, growing comes first, or a
        # slow reader would have us move a megabyte for every kilobyte that it takes.
        grow = held + n > self.capacity or (self.head < held and wanted > self.capacity)
        if self.head:
            memmove(self.data, self.data + self.head, held)
            self.head, self.tail = 0, held
        if grow:
            grown = <uint8_t *>PyMem_RawRealloc(self.data, wanted)
            if grown is NULL:
                raise MemoryError(f"no memory for a buffer of {wanted} bytes")
            self.data, self.capacity = grown, wanted
        return 0

    cdef int append(self, const void *source, size_t n) except -1:
        """Copies n bytes to the tail. Raises BufferFull, MemoryError."""
        if n:
            self.reserve(n)
            memcpy(self.data + self.tail, source, n)
            self.tail += n
        return 0

    cdef void truncate(self, size_t size) noexcept:
        """Keeps the first size <= size() bytes."""
        self.tail = self.head + size
        if size == 0:
            self.shrink()

    cdef void shrink(self) noexcept:
        """Gives back memory that is out of proportion to what is held."""
        cdef size_t held = self.tail - self.head
        cdef uint8_t *smaller
        if held == 0:
            self.head = self.tail = 0
            if self.capacity > BUFFER_CAPACITY_KEPT:
                PyMem_RawFree(self.data)
                self.data = NULL
                self.capacity = 0
        elif self.capacity > BUFFER_CAPACITY_LARGE and held < self.capacity // 4:
            memmove(self.data, self.data + self.head, held)
            self.head, self.tail = 0, held
            smaller = <uint8_t *>PyMem_RawRealloc(self.data, self.capacity // 2)
            if smaller is not NULL:
                self.data, self.capacity = smaller, self.capacity // 2

    # The same for Python: the client's blocking face, the simulator and the tests.

    def __len__(self) -> int:
        return self.size()

    def __bytes__(self) -> bytes:
        return PyBytes_FromStringAndSize(<const char *>self.data + self.head, self.size())

    def push(self, bytes data not None) -> None:
        """Adds bytes at the tail. Raises BufferFull."""
        self.append(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def take(self, size_t n) -> bytes:
        """Removes and returns the first n bytes, or all there are when they are fewer."""
        n = min(n, self.size())
        taken = PyBytes_FromStringAndSize(<const char *>self.data + self.head, n)
        self.consume(n)
        return taken

    def keep(self, size_t size) -> None:
        """Drops everything behind the first `size` bytes."""
        if size > self.size():
            raise ValueError(f"buffer holds {self.size()} bytes, cannot keep {size}")
        self.truncate(size)
