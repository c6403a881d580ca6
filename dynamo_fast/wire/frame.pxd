"""Frames for Cython: the layout, cutting and sealing of _ext/frame.h, with the checksum of core filled in; and long messages put together."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.wire.buffer cimport Buffer

cdef extern from "frame.h" nogil:
    enum:
        FRAME_HEADER_BYTES
        FRAME_FORWARDED
        FRAME_STALE_PLACEMENT
        FRAME_SAME
        FRAME_UNSURE
        FRAME_PIECE
        FRAME_MORE
        FRAME_BAD_HEADER
        FRAME_TOO_LONG
        FRAME_BAD_BODY
    ctypedef struct FrameHeader:
        uint32_t body_bytes
        uint8_t type
        uint8_t flags
        uint16_t status
        uint64_t request_id

cdef int64_t scan_frame(const uint8_t *data, size_t n, size_t body_bytes_max, FrameHeader *header) noexcept nogil
cdef void seal_frame(uint8_t *frame, const FrameHeader *header) noexcept nogil
cdef object frame_problem(int64_t code)    # a ProtocolError to raise


@cython.final
cdef class Gathering:
    cdef readonly size_t bytes_max      # of the whole message
    cdef Buffer body                    # its pieces so far, back to back
    cdef FrameHeader header             # once whole: of the message

    # Takes the next piece: 1 when the message is whole, 0 while more follow. Raises ProtocolError, MemoryError.
    cdef int add(self, const FrameHeader *header, const uint8_t *body) except -1
