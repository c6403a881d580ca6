"""One connection, sans-I/O: bytes that came become frames for a handler, and answers become bytes to send.

The reactor reads a socket and calls `received_from`; the handler (the data plane) is called with each whole frame and answers
with `begin` and `finish`, on this connection or on any other; every connection with something to send is in the outbox,
which the reactor drains at the end of its pass. The simulator and the tests move the same bytes with `feed` and `take`.

A long message goes in pieces, and is handed over when it is whole, as if it had come in one frame. What is begun after it goes between its
pieces, and so arrives before it; `send` with `in_order` does not. Who says in its hello that it puts messages together is sent
pieces; here they are taken from peers alone, one message at a time.

A stranger is believed little: until the handler has set `hello_done` a frame's body is at most 4 KiB and only hellos are
let through; a header's length is believed after its checksum; memory follows what was received, not what was announced.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dynamo_fast.core.bytes cimport load_u32
from dynamo_fast.wire.buffer cimport Buffer
from dynamo_fast.wire.data_messages cimport MESSAGE_HELLO, MESSAGE_HELLO_REPLY
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES, FRAME_PIECE, FrameHeader, Gathering, frame_problem, scan_frame, seal_frame
from dynamo_fast.wire.long_message cimport LongMessages

from dynamo_fast.wire.errors import MessageTooLong, OutgoingFull, ProtocolError

cdef enum:
    STRANGER_BYTES_MAX = 4096               # longest body before the hello, bytes
    INCOMING_SLACK = 65536                  # allocated beyond what was received, bytes at most
    INCOMING_LIMIT = 0x40000000             # frame_bytes_max is what binds; this is the buffer's own stop, bytes
    FRAME_BYTES_MAX_DEFAULT = 16 * 1024 * 1024  # longest body after the hello, bytes
    MESSAGE_BYTES_MAX_DEFAULT = 512 * 1024 * 1024  # longest message in pieces, bytes
    WHOLE_BYTES_MAX = 2 * 1024 * 1024       # longest body that goes in one frame, bytes: no configuration allows less
    PIECE_BYTES = 256 * 1024                # of a longer one in one frame: what a small message waits for at most
    OPEN_WHOLE = 1                          # a frame has been begun, in outgoing
    OPEN_LONG = 2                           # a message has been begun, aside

# Bytes of answers that may wait for a slow reader.
OUTGOING_BYTES_MAX = 64 * 1024 * 1024


@cython.final
cdef class Outbox:
    """The connections that have something to send, or to close, since the reactor last drained it.

    `begin_pass` and `roll_back` bracket one pass of the reactor: when the log write of a pass fails, the pass answers
    nothing, so all that it appended is dropped; what tasks appended between passes stays.
    """

    def __cinit__(self):
        self.connections = []
        self.turn = 1

    cdef int add(self, Connection connection) except -1:
        if not connection.in_outbox:
            self.connections.append(connection)
            connection.in_outbox = True
            if not self.in_pass and self.wake is not None:
                self.wake()
        return 0

    cdef list drain(self):
        drained = self.connections
        self.connections = []
        for connection in drained:
            (<Connection>connection).in_outbox = False
        return drained

    cdef int begin_pass(self) except -1:
        self.turn += 1
        return 0

    cdef int roll_back(self) except -1:
        cdef Connection connection
        for connection in self.connections:
            if connection.turn == self.turn:
                connection.roll_back(connection.pass_mark)
        return 0

    # The same for Python: the simulator's reactor and the tests.

    def __len__(self) -> int:
        return len(self.connections)

    def take(self) -> list[Connection]:
        """All connections in it, and empties it."""
        return self.drain()

    def start_pass(self) -> None:
        """What is appended to any connection from here on is dropped by drop_pass."""
        self.begin_pass()

    def drop_pass(self) -> None:
        """Drops what was appended to any connection since start_pass and is still in its outgoing buffer."""
        self.roll_back()


cdef class FrameHandler:
    """Whoever is called with the frames of connections. Subclass it in Cython; in Python subclass PyFrameHandler."""

    cdef int frame(self, Connection connection, const FrameHeader *header, const uint8_t *body) except -1:
        """One whole frame. header and body are valid until this returns. It may append to any connection's outgoing,
        this one's too, and may close any. What it raises ends `received_from` and reaches the reactor."""
        raise NotImplementedError("a FrameHandler says what to do with a frame")

    cdef int foresee(self, const uint8_t *data, size_t n) except -1:
        """These bytes are about to be handled, from where they stand: a chance to look ahead. What was foreseen before is over."""
        return 0

    cdef int closed(self, Connection connection) except -1:
        """The connection is gone; called once by whoever owns the socket."""
        raise NotImplementedError("a FrameHandler says what to do with a closed connection")


cdef class PyFrameHandler(FrameHandler):
    """A handler in Python: override on_frame and on_closed."""

    cdef int frame(self, Connection connection, const FrameHeader *header, const uint8_t *body) except -1:
        self.on_frame(connection, header.type, header.flags, header.status, header.request_id,
                      PyBytes_FromStringAndSize(<const char *>body, header.body_bytes))
        return 0

    cdef int closed(self, Connection connection) except -1:
        self.on_closed(connection)
        return 0

    def on_frame(self, connection: Connection, type: int, flags: int, status: int, request_id: int, body: bytes) -> None:
        raise NotImplementedError("a PyFrameHandler says what to do with a frame")

    def on_closed(self, connection: Connection) -> None:
        """The connection is gone. Nothing to do unless overridden."""


@cython.final
cdef class Connection:
    """One connection's two buffers, and the frames between them and a handler.

    :param handler: is called with every whole frame
    :param outbox: learns that this connection has something to send
    :param frame_bytes_max: longest body of a frame accepted after the hello, bytes
    :param message_bytes_max: longest message accepted in pieces, bytes
    :param outgoing_bytes_max: bytes that may wait for the other side to read; more raises OutgoingFull. A long message may wait in any case,
        if no other does: no limit on what waits makes it too long to be sent
    """

    def __cinit__(self, FrameHandler handler not None, Outbox outbox not None, *, size_t frame_bytes_max=FRAME_BYTES_MAX_DEFAULT,
                  size_t message_bytes_max=MESSAGE_BYTES_MAX_DEFAULT, size_t outgoing_bytes_max=OUTGOING_BYTES_MAX, object label=None):
        self.handler = handler
        self.outbox = outbox
        self.label = label
        self.frame_bytes_max = frame_bytes_max
        self.message_bytes_max = message_bytes_max
        self.whole_bytes_max = WHOLE_BYTES_MAX
        self.piece_bytes = max(1, min(<size_t>PIECE_BYTES, outgoing_bytes_max // 4))
        self.incoming = Buffer(INCOMING_LIMIT, INCOMING_SLACK)
        self.outgoing = Buffer(outgoing_bytes_max, outgoing_bytes_max)
        self.slot = -1

    cdef size_t body_bytes_max(self) noexcept:
        return self.frame_bytes_max if self.hello_done else min(self.frame_bytes_max, <size_t>STRANGER_BYTES_MAX)

    cdef int received_from(self, const uint8_t *data, size_t n) except -1:
        """Hands every whole frame to the handler, of what came before and of these n bytes; stops early once closing, and drops the rest.

        Frames are handled where they stand; only an unfinished one is copied to incoming, and of the next bytes what it lacks. So
        an idle or trickling connection holds no memory. data must stay as it is until this returns. Raises ProtocolError when the
        bytes are not the protocol, and whatever the handler raises: close the connection.
        """
        cdef int64_t taken
        if self.incoming.size():
            self.handler.foresee(data, 0)
            taken = self.complete(data, n)
            data += taken
            n -= taken
        # Of a stranger's bytes nothing is foreseen; what was foreseen of another's, in this same memory, must be forgotten (!).
        self.handler.foresee(data, n if self.hello_done else 0)
        while n and not self.closing:
            taken = self.cut(data, n)
            if taken == 0:
                return self.incoming.append(data, n)
            data += taken
            n -= taken
        return 0

    cdef int64_t complete(self, const uint8_t *data, size_t n) except -1:
        """Gives the unfinished frame what it lacks, from the start of data, and handles it once it is whole; how much that was."""
        cdef Buffer incoming = self.incoming
        cdef size_t given = 0, lacking
        cdef int64_t taken
        if incoming.size() < FRAME_HEADER_BYTES:
            given = min(n, FRAME_HEADER_BYTES - incoming.size())
            incoming.append(data, given)
            if incoming.size() < FRAME_HEADER_BYTES:
                return given
        taken = self.cut(incoming.data + incoming.head, incoming.size())
        if taken == 0:
            # The header has been found good, so its length is believed.
            lacking = min(n - given, FRAME_HEADER_BYTES + load_u32(incoming.data + incoming.head) - incoming.size())
            incoming.append(data + given, lacking)
            given += lacking
            taken = self.cut(incoming.data + incoming.head, incoming.size())
        incoming.consume(taken)
        return given

    cdef int64_t cut(self, const uint8_t *data, size_t n) except -1:
        """Handles the frame at the start of data; the bytes it took, 0 when it is not whole."""
        cdef FrameHeader header
        cdef const FrameHeader *message = &header
        cdef const uint8_t *body = data + FRAME_HEADER_BYTES
        cdef int64_t taken = scan_frame(data, n, self.body_bytes_max(), &header)
        if taken == 0:
            return 0
        if taken < 0:
            raise frame_problem(taken)
        if not self.hello_done and header.type != MESSAGE_HELLO and header.type != MESSAGE_HELLO_REPLY:
            raise ProtocolError(f"frame of type {header.type} before the hello")
        if self.receiving:
            raise AssertionError("bytes for a connection arrived while a frame of it was being handled")
        self.frames += 1
        if header.flags & FRAME_PIECE:
            if not self.gather(&header, body):
                return taken
            message, body = &self.gathering.header, self.gathering.body.data + self.gathering.body.head
        self.receiving = True
        self.owed += 1
        try:
            self.handler.frame(self, message, body)
        finally:
            self.receiving = False
        if message != &header:
            self.gathering = None
        return taken

    cdef bint gather(self, const FrameHeader *header, const uint8_t *body) except -1:
        """A piece of a long message has come: whether that is whole now. Of whoever is no peer nothing is put together (!): it would be
        memory for strangers."""
        if self.peer is None:
            raise ProtocolError("a message in pieces from somebody who may not send one")
        if self.gathering is None:
            self.gathering = Gathering(self.message_bytes_max)
        self.pieces += 1
        return self.gathering.add(header, body)

    cdef uint8_t *begin(self, uint8_t type, uint8_t flags, uint16_t status, uint64_t request_id, size_t body_bytes) except NULL:
        """Makes room for one message and returns where its body goes: write body_bytes there, then call finish.

        The pointer is good until anything else is done with this connection. Raises OutgoingFull; MessageTooLong when the other side would
        never take it.
        """
        cdef Buffer outgoing = self.outgoing
        if self.open:
            raise AssertionError("a frame was begun before the last one was finished")
        if body_bytes > self.whole_bytes_max and self.hello_done:
            if body_bytes > self.takes_bytes_max and body_bytes > self.frame_bytes_max:
                raise MessageTooLong(f"a message of {body_bytes} bytes, and the other side takes at most "
                                     f"{max(self.takes_bytes_max, self.frame_bytes_max)}")
            if body_bytes <= self.takes_bytes_max:
                return self.begin_long(type, flags, status, request_id, body_bytes)
        if body_bytes > <size_t>0xFFFFFFFF or FRAME_HEADER_BYTES + body_bytes > outgoing.limit - outgoing.size():
            raise OutgoingFull(f"{outgoing.size()} bytes wait to be sent, {outgoing.limit} may: the other side does not read")
        outgoing.reserve(FRAME_HEADER_BYTES + body_bytes)
        self.open_header.body_bytes = <uint32_t>body_bytes
        self.open_header.type = type
        self.open_header.flags = flags
        self.open_header.status = status
        self.open_header.request_id = request_id
        self.open = OPEN_WHOLE
        return outgoing.data + outgoing.tail + FRAME_HEADER_BYTES

    cdef uint8_t *begin_long(self, uint8_t type, uint8_t flags, uint16_t status, uint64_t request_id, size_t body_bytes) except? NULL:
        """As `begin`, for a message that waits aside until its pieces can go; NULL where there is no body.

        One may wait whatever its length, since its length must not keep it from ever being sent; more only within the limit of outgoing.
        """
        cdef FrameHeader header
        if self.long_messages is None:
            self.long_messages = LongMessages()
        if body_bytes > <size_t>0xFFFFFFFF or (self.long_messages.bytes
                                               and self.waiting() + FRAME_HEADER_BYTES + body_bytes > self.outgoing.limit):
            raise OutgoingFull(f"{self.waiting()} bytes wait to be sent, long messages among them, {self.outgoing.limit} may")
        header.body_bytes = <uint32_t>body_bytes
        header.type, header.flags, header.status, header.request_id = type, flags, status, request_id
        self.open = OPEN_LONG
        return self.long_messages.begin(&header)

    cdef int finish(self) except -1:
        """Seals what was begun and queues it. On a connection that is closing it is dropped."""
        cdef Buffer outgoing = self.outgoing
        cdef size_t frame_bytes = FRAME_HEADER_BYTES + self.open_header.body_bytes
        if self.open != OPEN_WHOLE:
            return self.finish_long()
        self.open = 0
        if self.closing:
            return 0
        seal_frame(outgoing.data + outgoing.tail, &self.open_header)
        outgoing.tail += frame_bytes
        return self.queued(frame_bytes)

    cdef int finish_long(self) except -1:
        """The same for a message that goes in pieces."""
        if self.open != OPEN_LONG:
            raise AssertionError("no frame was begun")
        self.open = 0
        if self.closing:
            self.long_messages.open = None
            return 0
        return self.queued(self.long_messages.finish(self.appended_bytes))

    cdef int refill(self) except -1:
        while self.waiting_aside() and self.outgoing.size() < self.piece_bytes:
            self.long_messages.write_piece(self.outgoing, self.piece_bytes)
            self.pieces += 1
            self.refilled_at = self.appended_bytes
        return 0

    cdef int let_go(self) except -1:
        self.gathering = self.long_messages = None
        return 0

    cpdef unsigned long long outgoing_mark(self):
        """Where outgoing ends now, for roll_back."""
        return self.appended_bytes

    cpdef int roll_back(self, unsigned long long mark) except -1:
        """Drops every message queued since outgoing_mark returned mark. None of them may have been sent in part."""
        cdef unsigned long long dropped = self.appended_bytes - mark
        self.open = 0
        if mark > self.appended_bytes or (dropped and mark < self.refilled_at):
            raise AssertionError(f"cannot take back {dropped} bytes: some have been sent, or pieces stand behind them")
        if self.long_messages is not None:
            dropped -= self.long_messages.take_back(mark)
        if dropped > self.outgoing.size():
            raise AssertionError(f"cannot take back {dropped} bytes: {self.outgoing.size()} are still here")
        self.outgoing.truncate(self.outgoing.size() - dropped)
        self.appended_bytes = mark
        return 0

    def close(self, str reason not None) -> None:
        """Asks the reactor to close this connection once outgoing is sent. No further frame is handled or queued."""
        if not self.closing:
            self.closing = True
            self.close_reason = reason
            self.outbox.add(self)

    def notify_closed(self) -> None:
        """Tells the handler that this connection is gone; for owners that are not written in Cython."""
        self.handler.closed(self)

    def send(self, uint8_t type, bytes body not None, *, uint64_t request_id, uint16_t status=0, uint8_t flags=0,
             bint in_order=False) -> None:
        """Queues one message. `in_order`: it arrives after all that was queued before it, long messages too. Raises as `begin` does."""
        cdef size_t n = PyBytes_GET_SIZE(body)
        cdef uint8_t *out
        if in_order and self.waiting_aside():
            out = self.begin_long(type, flags, status, request_id, n)
        else:
            out = self.begin(type, flags, status, request_id, n)
        if n:
            memcpy(out, PyBytes_AS_STRING(body), n)
        self.finish()

    def feed(self, bytes data not None) -> None:
        """Takes bytes that came from the other side, handling every frame that is now whole. Raises as received_from does."""
        self.received_from(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def take(self, size_t n=0xFFFFFFFF) -> bytes:
        """Removes and returns the first n bytes to send, or all there are when they are fewer."""
        cdef bytes taken
        cdef list parts
        if not self.waiting_aside():
            return self.outgoing.take(n)
        parts = []
        while True:
            self.refill()
            taken = self.outgoing.take(n)
            parts.append(taken)
            n -= PyBytes_GET_SIZE(taken)
            if n == 0 or self.waiting() == 0:
                return b"".join(parts)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent; of what goes in pieces, one header is counted."""
        return self.waiting()

    @property
    def held_bytes(self) -> int:
        """Bytes that it holds: those, and what has come and is not whole."""
        return self.held()

    def __repr__(self) -> str:
        state = f"closing: {self.close_reason}" if self.closing else "open" if self.hello_done else "before hello"
        return f"<Connection {self.label or self.slot} {state}, {self.held() - self.waiting()} in, {self.waiting()} out>"
