"""The partitions in which this node may lack records that it has acknowledged, until they are synced from elsewhere.

A strict read that counted such a node as a home could miss an acknowledged write, so reads ask for each request.
"""

cimport cython
from libc.stdlib cimport calloc, free


@cython.final
cdef class Suspects:
    """`Suspects(partitions)`: none at first. IndexError for a partition that does not exist."""

    def __cinit__(self, partitions: int):
        self.partitions = partitions
        self.flags = <uint8_t *>calloc(self.partitions, 1)
        if self.flags == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.flags)

    cdef int set(self, Py_ssize_t partition, bint value) except -1:
        if not 0 <= partition < self.partitions:
            raise IndexError(f"partition {partition} is not one of 0..{self.partitions - 1}")
        if self.flags[partition] != value:
            self.flags[partition] = value
            self.count += 1 if value else -1
            self.unsaved = True
        return 0

    def add(self, partitions: object) -> None:
        """These, an iterable, are suspect too."""
        for partition in partitions:
            self.set(partition, True)

    def remove(self, Py_ssize_t partition) -> None:
        """It is suspect no more; harmless when it was not."""
        self.set(partition, False)

    def as_set(self) -> frozenset:
        """A copy."""
        cdef uint32_t i
        return frozenset([i for i in range(self.partitions) if self.flags[i]])
