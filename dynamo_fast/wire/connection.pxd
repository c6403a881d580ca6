"""One connection as bytes in, frames out, and the reverse; see connection.pyx."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.wire.buffer cimport Buffer
from dynamo_fast.wire.frame cimport FrameHeader, Gathering
from dynamo_fast.wire.long_message cimport LongMessages


@cython.final
cdef class Outbox:
    """The connections that have something to send (or to close) since the reactor last looked."""

    cdef list connections
    cdef readonly unsigned long long turn   # number of the reactor's pass under way
    cdef public object wake                 # called when somebody appends between passes; None: nobody sleeps
    cdef public bint in_pass                # set by the reactor while it will drain anyway

    cdef int add(self, Connection connection) except -1     # once; a connection that is in it already stays where it is
    cdef list drain(self)                   # all of them, and empties it
    cdef int begin_pass(self) except -1     # what is appended from here on can be rolled back
    cdef int roll_back(self) except -1      # drops what this pass appended to any connection


cdef class FrameHandler:
    # body has header.body_bytes bytes, and both live until this returns.
    cdef int frame(self, Connection connection, const FrameHeader *header, const uint8_t *body) except -1
    # The n bytes at data are handled next, from there; n is 0 when nothing may be foreseen. Called before any of them is.
    cdef int foresee(self, const uint8_t *data, size_t n) except -1
    cdef int closed(self, Connection connection) except -1


@cython.final
cdef class Connection:
    cdef readonly Buffer incoming           # bytes received of a frame that is not whole yet
    cdef readonly Buffer outgoing           # bytes to send
    cdef FrameHandler handler
    cdef Outbox outbox
    cdef public int slot                    # the reactor's: place in its table, -1 = none
    cdef public unsigned long long generation   # the reactor's: a slot is reused, a pair (slot, generation) is not
    cdef public object peer                 # the handler's: who this is
    cdef public object label                # for logs: an address
    cdef public bint hello_done             # set by the handler; until then frames are small, and only hellos
    cdef public bint closing                # set by close(): the reactor flushes, then closes
    cdef readonly str close_reason          # None until closing
    cdef readonly unsigned long long frames # whole frames that have come
    cdef public unsigned long long answers  # the handler's: how many of them were answers to questions of its own
    cdef public size_t frame_bytes_max      # longest body accepted once hello_done
    cdef readonly size_t message_bytes_max  # longest message put together here of pieces; of a peer's alone
    cdef public size_t takes_bytes_max      # longest message that the other side puts together of pieces, as its hello says; 0: none
    cdef public size_t whole_bytes_max      # a longer body goes in pieces, where the other side takes them
    cdef public size_t piece_bytes          # of a body in one of them
    cdef readonly unsigned long long pieces # that have come or gone
    cdef Gathering gathering                # what has come of a message in pieces; None: nothing
    cdef LongMessages long_messages         # that wait to be sent; None: there has been none
    cdef bint in_outbox
    cdef bint receiving                     # a frame of this connection is being handled
    cdef readonly long long owed            # frames that came, less frames appended: a client's requests without an answer
    cdef FrameHeader open_header            # of the frame between begin and finish
    cdef int open                           # between begin and finish: OPEN_WHOLE, OPEN_LONG; else 0
    cdef unsigned long long appended_bytes  # ever queued, in outgoing or as a long message
    cdef unsigned long long refilled_at     # appended_bytes when a piece was last moved to outgoing
    cdef unsigned long long turn            # outbox.turn when pass_mark was set
    cdef unsigned long long pass_mark       # appended_bytes when this pass first appended

    cdef int received_from(self, const uint8_t *data, size_t n) except -1
    cdef int64_t complete(self, const uint8_t *data, size_t n) except -1
    cdef uint8_t *begin(self, uint8_t type, uint8_t flags, uint16_t status, uint64_t request_id, size_t body_bytes) except NULL
    cdef int finish(self) except -1
    cpdef unsigned long long outgoing_mark(self)
    cpdef int roll_back(self, unsigned long long mark) except -1
    cdef int64_t cut(self, const uint8_t *data, size_t n) except -1
    cdef bint gather(self, const FrameHeader *header, const uint8_t *body) except -1
    cdef uint8_t *begin_long(self, uint8_t type, uint8_t flags, uint16_t status, uint64_t request_id, size_t body_bytes) except? NULL
    cdef int finish_long(self) except -1
    # Moves pieces of long messages behind what is in outgoing, until a piece's worth of bytes stands there. Call before each send.
    cdef int refill(self) except -1
    # Forgets what is not whole and what is not sent, which may be long: whoever holds on to a connection that is gone needs neither.
    cdef int let_go(self) except -1

    # So many bytes have been put in outgoing, or aside.
    cdef inline int queued(self, size_t n) except -1:
        if self.turn != self.outbox.turn:
            self.turn = self.outbox.turn
            self.pass_mark = self.appended_bytes
        self.owed -= 1
        self.appended_bytes += n
        if not self.in_outbox:
            self.outbox.add(self)
        return 0

    # Bytes of long messages that wait to be sent.
    cdef inline size_t waiting_aside(self) noexcept:
        return 0 if self.long_messages is None else self.long_messages.bytes

    # Bytes that wait to be sent.
    cdef inline size_t waiting(self) noexcept:
        return self.outgoing.size() + self.waiting_aside()

    # Bytes that it holds, in either direction.
    cdef inline size_t held(self) noexcept:
        return self.incoming.size() + self.waiting() + (0 if self.gathering is None else self.gathering.body.size())

    cdef size_t body_bytes_max(self) noexcept
