"""Messages that wait to be sent in pieces; see long_message.pyx."""

cimport cython
from libc.stdint cimport uint8_t

from dynamo_fast.wire.buffer cimport Buffer
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES, FrameHeader


@cython.final
cdef class LongMessage:
    cdef FrameHeader header
    cdef uint8_t *body                  # header.body_bytes of them, all there from when it is queued; NULL: none
    cdef size_t sent                    # of the body
    cdef unsigned long long queued_at   # what the connection had queued before it, in bytes

    # Bytes that wait: what of the body is still to be sent, and one header, however many pieces that will be.
    cdef inline size_t waiting(self) noexcept nogil:
        return FRAME_HEADER_BYTES + self.header.body_bytes - self.sent

    cdef int write_piece(self, Buffer outgoing, size_t piece_bytes) except -1


@cython.final
cdef class LongMessages:
    cdef list queue                     # of LongMessage, the first of them maybe sent in part
    cdef LongMessage open               # between begin and finish
    cdef readonly size_t bytes          # that wait in all of them; 0: there is none

    # Where the body of a message goes; NULL where it has none. Raises MemoryError.
    cdef uint8_t *begin(self, const FrameHeader *header) except? NULL
    # Queues it: how many bytes wait for it.
    cdef size_t finish(self, unsigned long long queued_at) except? 0
    # Appends the next piece, of at most so many bytes of body, as a frame. There is a message. Raises BufferFull, MemoryError.
    cdef int write_piece(self, Buffer outgoing, size_t piece_bytes) except -1
    # Forgets what was queued from there on, of which nothing has been sent: how many bytes waited for it.
    cdef size_t take_back(self, unsigned long long queued_at) except? 0
