"""Which partitions may have lost records; the test costs a load."""

from libc.stdint cimport uint8_t, uint32_t


cdef class Suspects:
    cdef uint8_t *flags                 # one for each partition
    cdef readonly uint32_t partitions
    cdef readonly uint32_t count        # of those that are set
    cdef public bint unsaved            # changed since somebody wrote them down, who clears it

    cdef inline bint has(self, uint32_t partition) noexcept nogil:
        return partition < self.partitions and self.flags[partition] != 0

    cdef int set(self, Py_ssize_t partition, bint value) except -1
