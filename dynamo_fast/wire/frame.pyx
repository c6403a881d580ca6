"""Frames: 24 bytes of header in front of every message (docs/protocol.md).

For Cython this is _ext/frame.h with core's CRC-32C filled in. For Python it is the sans-I/O codec of a client: bytes in,
frames out (`FrameCutter`), and a frame's bytes (`encode_frame`).

A message that is longer than a frame comes in pieces, one message after the other, with whole frames between them; a `Gathering` puts
one together. What it looks like to whoever is handed it is one long frame.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dynamo_fast.core.checksum cimport crc32c
from dynamo_fast.wire.buffer cimport Buffer

from dynamo_fast.wire.errors import ProtocolError

cdef extern from "frame.h" nogil:
    ctypedef uint32_t frame_crc(uint32_t crc, const uint8_t *data, size_t n) noexcept nogil
    int64_t frame_scan(const uint8_t *data, size_t n, size_t body_bytes_max, frame_crc *crc, FrameHeader *header)
    void frame_seal(uint8_t *frame, const FrameHeader *header, frame_crc *crc)
    const char *frame_error(int64_t code)

HEADER_BYTES = FRAME_HEADER_BYTES
FORWARDED = FRAME_FORWARDED
STALE_PLACEMENT = FRAME_STALE_PLACEMENT
SAME = FRAME_SAME
UNSURE = FRAME_UNSURE
PIECE = FRAME_PIECE
MORE = FRAME_MORE

# The default bound of a body, bytes: a value of 1 MiB with many siblings fits, a length bomb does not.
FRAME_BYTES_MAX = 16 * 1024 * 1024


cdef int64_t scan_frame(const uint8_t *data, size_t n, size_t body_bytes_max, FrameHeader *header) noexcept nogil:
    return frame_scan(data, n, body_bytes_max, crc32c, header)


cdef void seal_frame(uint8_t *frame, const FrameHeader *header) noexcept nogil:
    frame_seal(frame, header, crc32c)


cdef object frame_problem(int64_t code):
    return ProtocolError(frame_error(code).decode())


@cython.final
cdef class Gathering:
    """Gathering(bytes_max): one message of at most so many bytes, put together from its pieces.

    Memory follows what has come: nothing is made room for because it was announced.
    """

    def __cinit__(self, size_t bytes_max):
        self.bytes_max = min(max(bytes_max, <size_t>1), <size_t>0xFFFFFFFF)
        self.body = Buffer(self.bytes_max)

    cdef int add(self, const FrameHeader *header, const uint8_t *body) except -1:
        cdef uint8_t flags = header.flags & <uint8_t>~(FRAME_PIECE | FRAME_MORE)
        if self.body.size() == 0:
            self.header = header[0]
            self.header.flags = flags
        elif (header.type != self.header.type or header.request_id != self.header.request_id or header.status != self.header.status
              or flags != self.header.flags):
            raise ProtocolError("a piece of another message than the one that is not whole yet")
        if header.body_bytes == 0:
            raise ProtocolError("a piece of nothing")
        if header.body_bytes > self.bytes_max - self.body.size():
            raise ProtocolError("message is longer than this connection allows")
        self.body.append(body, header.body_bytes)
        self.header.body_bytes = <uint32_t>self.body.size()
        return not header.flags & FRAME_MORE


@cython.final
@cython.freelist(64)
cdef class Frame:
    """One frame, cut from a stream.

    `type` u8, `flags` u8, `status` u16 (replies; 0 is OK), `request_id` u64, `body` bytes.
    """

    cdef readonly uint8_t type
    cdef readonly uint8_t flags
    cdef readonly uint16_t status
    cdef readonly uint64_t request_id
    cdef readonly bytes body

    def __cinit__(self, uint8_t type=0, uint8_t flags=0, uint16_t status=0, uint64_t request_id=0, bytes body=b""):
        self.type, self.flags, self.status, self.request_id, self.body = type, flags, status, request_id, body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        mine, theirs = <Frame>self, <Frame>other
        return (mine.type == theirs.type and mine.flags == theirs.flags and mine.status == theirs.status
                and mine.request_id == theirs.request_id and mine.body == theirs.body)

    __hash__ = None

    def __repr__(self) -> str:
        return (f"Frame(type={self.type}, flags={self.flags}, status={self.status}, request_id={self.request_id}, "
                f"body={self.body[:40]!r}{'...' if len(self.body) > 40 else ''})")


def encode_frame(uint8_t type, bytes body not None=b"", uint64_t request_id=0, uint16_t status=0, uint8_t flags=0) -> bytes:
    """The bytes of one frame. Raises OverflowError for a field that does not fit, ValueError for a body over 4 GiB."""
    cdef FrameHeader header
    cdef size_t body_bytes = PyBytes_GET_SIZE(body)
    if body_bytes > 0xFFFFFFFF:
        raise ValueError(f"a frame's body has at most 2**32 - 1 bytes, not {body_bytes}")
    header.body_bytes = <uint32_t>body_bytes
    header.type, header.flags, header.status, header.request_id = type, flags, status, request_id
    frame = PyBytes_FromStringAndSize(NULL, FRAME_HEADER_BYTES + body_bytes)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(frame)
    memcpy(out + FRAME_HEADER_BYTES, PyBytes_AS_STRING(body), body_bytes)
    seal_frame(out, &header)
    return frame


@cython.final
cdef class FrameCutter:
    """Cuts a stream of bytes into frames, however the bytes arrive. A message in pieces comes out as one frame, when it is whole.

    :param body_bytes_max: longer frames, and messages, are a ProtocolError, raised as soon as their header is in, or the piece too many
    """

    cdef Buffer incoming
    cdef Gathering gathering        # None: no message is coming in pieces
    cdef readonly size_t body_bytes_max

    def __cinit__(self, size_t body_bytes_max=FRAME_BYTES_MAX):
        self.body_bytes_max = body_bytes_max
        self.incoming = Buffer(0xFFFFFFFFFF)

    @property
    def pending_bytes(self) -> int:
        """Bytes held of what is not whole yet: not 0 at the end of a stream means that it was cut short."""
        return self.incoming.size() + (0 if self.gathering is None else self.gathering.body.size())

    def feed(self, bytes data not None) -> list[Frame]:
        """Takes what came and returns the frames that are now whole, in order.

        Raises ProtocolError when a checksum fails or a frame is too long; whole frames that came before the fault in
        the same call are lost with it, and so is the stream.
        """
        cdef Buffer incoming = self.incoming
        cdef FrameHeader header
        cdef list frames = []
        cdef int64_t taken
        incoming.append(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        while True:
            taken = scan_frame(incoming.data + incoming.head, incoming.size(), self.body_bytes_max, &header)
            if taken == 0:
                return frames
            if taken < 0:
                raise frame_problem(taken)
            if not header.flags & FRAME_PIECE:
                frames.append(frame_of(&header, incoming.data + incoming.head + FRAME_HEADER_BYTES))
            elif self.gather(&header, incoming.data + incoming.head + FRAME_HEADER_BYTES):
                frames.append(frame_of(&self.gathering.header, self.gathering.body.data + self.gathering.body.head))
                self.gathering = None
            incoming.consume(taken)

    cdef int gather(self, const FrameHeader *header, const uint8_t *body) except -1:
        if self.gathering is None:
            self.gathering = Gathering(self.body_bytes_max)
        return self.gathering.add(header, body)


cdef Frame frame_of(const FrameHeader *header, const uint8_t *body):
    cdef Frame frame = Frame.__new__(Frame)
    frame.type, frame.flags, frame.status, frame.request_id = header.type, header.flags, header.status, header.request_id
    frame.body = PyBytes_FromStringAndSize(<const char *>body, header.body_bytes)
    return frame
