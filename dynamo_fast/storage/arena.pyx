"""Memory for records: a region of chunks, and arenas that cut chunks into slots.

The region is one shared mapping without a file, so that the process which moves records into LMDB reads them where they
lie: nothing is copied or sent. Its address space is taken at once and its pages when first touched, so an empty one
costs nothing.

An arena belongs to one range's records of one generation. It fills one chunk after another and gives all of them back
together, so that dropping a generation costs a few hundred stores, whatever it held. A slot that is too small for a new
version of its record is kept for another record of its size class: eight classes for each doubling, so a slot is at
most an eighth longer than what was asked for. A record longer than half a chunk gets chunks of its own.
"""

cimport cython
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memset

import mmap
import os

cdef enum:
    CHUNK_CLEAN = 0
    CHUNK_DIRTY = 1
    CHUNK_TAKEN = 2

cdef size_t NOWHERE = <size_t>-1

CHUNK_BYTES_MIN = 16 << 10
CHUNK_BYTES_MAX = 256 << 10
# Address space beyond four times the limit, so that a small limit still takes long records: an old and a new version of one that is as
# long as limits.message_bytes_max may be told to allow, each rounded up to its class.
SPARE_BYTES = 3 << 30


@cython.final
cdef class Region:
    """`Region(bytes_max)`: address space for four times that many bytes, so that what must not be refused finds room.

    The limit itself is kept by whoever stores. A chunk has a 256th of it, 16 to 256 KiB.
    """

    def __cinit__(self, bytes_max: int):
        self.fd = -1
        chunk_bytes = 1 << max(bytes_max // 256, 1).bit_length() - 1
        self.chunk_bytes = min(max(chunk_bytes, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX)
        self.chunks_max = (4 * bytes_max + SPARE_BYTES) // self.chunk_bytes
        self.states = <uint8_t *>calloc(self.chunks_max, 1)
        if self.states == NULL:
            raise MemoryError
        self.fd = os.memfd_create("dynamo-fast records", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.chunks_max * self.chunk_bytes)
        self.mapping = mmap.mmap(self.fd, self.chunks_max * self.chunk_bytes)
        cdef uint8_t[::1] view = self.mapping
        self.base = &view[0]

    def __dealloc__(self):
        free(self.states)
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def bytes_taken(self) -> int:
        """Bytes of the chunks that arenas hold."""
        return self.chunks_taken * self.chunk_bytes

    def trim(self, chunks: int) -> int:
        """Hands the pages of at most that many free chunks back to the system; how many it was."""
        cdef uint8_t *found
        cdef int done = 0
        while done < chunks and self.chunks_dirty:
            found = <uint8_t *>memchr(self.states, CHUNK_DIRTY, self.chunks_max)
            self.mapping.madvise(mmap.MADV_REMOVE, (found - self.states) * self.chunk_bytes, self.chunk_bytes)
            found[0] = CHUNK_CLEAN
            self.chunks_dirty -= 1
            done += 1
        return done

    cdef int64_t take(self, size_t chunks) noexcept nogil:
        cdef size_t first, length = 0, i
        cdef uint8_t *found
        if chunks == 1:
            found = NULL
            if self.chunks_dirty:
                found = <uint8_t *>memchr(self.states, CHUNK_DIRTY, self.chunks_max)
            if found == NULL:
                found = <uint8_t *>memchr(self.states, CHUNK_CLEAN, self.chunks_max)
            if found == NULL:
                return -1
            first = found - self.states
        else:
            for i in range(self.chunks_max):
                length = length + 1 if self.states[i] != CHUNK_TAKEN else 0
                if length == chunks:
                    break
            if length != chunks or chunks == 0:
                return -1
            first = i + 1 - chunks
        for i in range(first, first + chunks):
            self.chunks_dirty -= self.states[i] == CHUNK_DIRTY
            self.states[i] = CHUNK_TAKEN
        self.chunks_taken += chunks
        return <int64_t>(first * self.chunk_bytes)

    cdef void give(self, uint64_t offset, size_t chunks) noexcept nogil:
        memset(self.states + offset // self.chunk_bytes, CHUNK_DIRTY, chunks)
        self.chunks_taken -= chunks
        self.chunks_dirty += chunks


cdef extern from *:
    int count_leading_zeros "__builtin_clzll" (unsigned long long value) noexcept nogil


cdef inline uint32_t size_class(size_t n, uint32_t *capacity) noexcept nogil:
    """The class of slots for records of n bytes, 0 < n < 2**31, and the capacity they have."""
    cdef uint32_t top = 63 - count_leading_zeros(n | 64)   # 6 and up
    cdef uint32_t step = top - 3                    # classes lie 2**step apart
    cdef size_t rounded = (n + (1 << step) - 1) >> step
    capacity[0] = <uint32_t>(rounded << step)
    return (top - 6) * 8 + <uint32_t>rounded - 1 if n >= 64 else <uint32_t>rounded - 1


@cython.final
cdef class Arena:
    """Slots cut from a region's chunks, given back all at once."""

    def __cinit__(self, Region region not None):
        self.region = region
        self.filling = NOWHERE

    def __dealloc__(self):
        if self.region is not None:
            self.clear()
        free(self.stretches)

    cdef int64_t add_stretch(self, size_t chunks) noexcept nogil:
        """A new stretch of that many chunks at the end of the list: its offset, or -1."""
        cdef Stretch *grown
        if self.stretch_n == self.stretch_max:
            grown = <Stretch *>realloc(self.stretches, (2 * self.stretch_max + 8) * sizeof(Stretch))
            if grown == NULL:
                return -1
            self.stretches = grown
            self.stretch_max = 2 * self.stretch_max + 8
        cdef int64_t offset = self.region.take(chunks)
        if offset < 0:
            return -1
        self.stretches[self.stretch_n] = Stretch(<uint64_t>offset, 0, chunks)
        self.stretch_n += 1
        self.chunks += chunks
        return offset

    cdef int64_t allocate(self, size_t n, uint32_t *capacity) noexcept nogil:
        cdef uint32_t place = size_class(n, capacity)
        cdef size_t slot_bytes = SLOT_HEADER_BYTES + capacity[0]
        cdef size_t chunks
        cdef int64_t offset
        cdef Slot *slot
        cdef Stretch *stretch
        if slot_bytes > self.region.chunk_bytes // 2:
            chunks = (slot_bytes + self.region.chunk_bytes - 1) // self.region.chunk_bytes
            offset = self.add_stretch(chunks)
            if offset >= 0:
                self.stretches[self.stretch_n - 1].used = slot_bytes
                slot = <Slot *>(self.region.base + offset)
                slot.capacity = capacity[0]
            return offset
        if self.free_slots[place]:
            offset = <int64_t>self.free_slots[place] - 1
            slot = <Slot *>(self.region.base + offset)
            self.free_slots[place] = slot.base_hash
            return offset
        if self.filling >= self.stretch_n or self.stretches[self.filling].used + slot_bytes > self.region.chunk_bytes:
            if self.add_stretch(1) < 0:
                return -1
            self.filling = self.stretch_n - 1
        stretch = &self.stretches[self.filling]
        offset = <int64_t>(stretch.offset + stretch.used)
        stretch.used += slot_bytes
        slot = <Slot *>(self.region.base + offset)
        slot.capacity = capacity[0]
        return offset

    cdef void release(self, uint64_t offset, uint32_t capacity) noexcept nogil:
        cdef Slot *slot = <Slot *>(self.region.base + offset)
        cdef uint32_t same, place
        cdef size_t i
        slot.n = 0
        if SLOT_HEADER_BYTES + <size_t>capacity <= self.region.chunk_bytes // 2:
            place = size_class(capacity, &same)
            slot.base_hash = self.free_slots[place]
            self.free_slots[place] = offset + 1
            return
        for i in range(self.stretch_n):
            if self.stretches[i].offset == offset:
                self.region.give(offset, self.stretches[i].chunks)
                self.chunks -= self.stretches[i].chunks
                self.stretch_n -= 1
                if self.filling == self.stretch_n:
                    self.filling = i        # the last stretch moves into the gap
                self.stretches[i] = self.stretches[self.stretch_n]
                return

    cdef void clear(self) noexcept nogil:
        cdef size_t i
        for i in range(self.stretch_n):
            self.region.give(self.stretches[i].offset, self.stretches[i].chunks)
        self.stretch_n = 0
        self.filling = NOWHERE
        self.chunks = 0
        memset(self.free_slots, 0, sizeof(self.free_slots))
