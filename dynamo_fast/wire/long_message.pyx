"""Messages that wait to be sent in pieces: longer than one frame should be, or behind one that is.

Their bodies stand here as they were written, and go piece by piece behind whatever else the connection has to say, so that a small
message waits for one piece and not for all of them. One message goes after the other, never pieces of two in turn: whoever receives
has one to put together at a time (`Gathering` in frame.pyx).
"""

cimport cython
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dynamo_fast.wire.buffer cimport Buffer
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES, FRAME_MORE, FRAME_PIECE, FrameHeader, seal_frame


@cython.final
cdef class LongMessage:
    """One of them."""

    def __dealloc__(self):
        free(self.body)

    cdef int write_piece(self, Buffer outgoing, size_t piece_bytes) except -1:
        """1 when that was the last."""
        cdef FrameHeader header = self.header
        cdef size_t left = header.body_bytes - self.sent
        cdef size_t n = min(left, piece_bytes)
        cdef uint8_t *frame
        outgoing.reserve(FRAME_HEADER_BYTES + n)
        frame = outgoing.data + outgoing.tail
        if n:
            memcpy(frame + FRAME_HEADER_BYTES, self.body + self.sent, n)
        header.body_bytes = <unsigned int>n
        if self.sent or n < left:
            header.flags |= FRAME_PIECE | (FRAME_MORE if n < left else 0)
        seal_frame(frame, &header)
        outgoing.tail += FRAME_HEADER_BYTES + n
        self.sent += n
        return n == left


@cython.final
cdef class LongMessages:
    """Those of one connection, in the order in which they go."""

    def __cinit__(self):
        self.queue = []

    cdef uint8_t *begin(self, const FrameHeader *header) except? NULL:
        cdef LongMessage message = LongMessage.__new__(LongMessage)
        message.header = header[0]
        if header.body_bytes:
            message.body = <uint8_t *>malloc(header.body_bytes)
            if message.body == NULL:
                raise MemoryError(f"no memory for a message of {header.body_bytes} bytes")
        self.open = message
        return message.body

    cdef size_t finish(self, unsigned long long queued_at) except? 0:
        cdef LongMessage message = self.open
        self.open = None
        message.queued_at = queued_at
        self.queue.append(message)
        self.bytes += message.waiting()
        return message.waiting()

    cdef int write_piece(self, Buffer outgoing, size_t piece_bytes) except -1:
        cdef LongMessage message = <LongMessage>self.queue[0]
        cdef size_t waited = message.waiting()
        cdef bint last = message.write_piece(outgoing, piece_bytes)
        if last:
            del self.queue[0]
        self.bytes -= waited - (0 if last else message.waiting())
        return 0

    cdef size_t take_back(self, unsigned long long queued_at) except? 0:
        cdef LongMessage message
        cdef size_t taken = 0
        while self.queue and (<LongMessage>self.queue[len(self.queue) - 1]).queued_at >= queued_at:
            message = <LongMessage>self.queue.pop()
            assert message.sent == 0, "none of it may have been sent"
            taken += message.waiting()
        self.bytes -= taken
        return taken
