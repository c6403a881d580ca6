"""Passes over sockets; see reactor.pyx."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.net.socket_table cimport Socket, SocketTable
from dynamo_fast.wire.connection cimport Connection, FrameHandler, Outbox

cdef enum:
    EVENTS_MAX = 512                # events taken from one epoll_wait
    RECEIVE_BYTES = 65536           # received from one connection in one pass: what makes a pass fair
    PASS_US = 5000                  # after that long a pass ends, and the events left are the next one's

cdef class PassHandler(FrameHandler):
    cdef public bint wants_loop     # set by the handler: a trio task has been given work, do not linger
    cdef int begin_pass(self, int64_t now_us, int64_t wall_ms) except -1
    cdef int end_pass(self) except -1
    cdef int synced(self) except -1
    cdef bint needs_time(self) noexcept

@cython.final
cdef class Reactor(SocketTable):
    cdef readonly PassHandler handler
    cdef int timer_fd, wake_fd, sync_fd
    cdef bint timer_armed
    cdef bint ticked                # the pass under way has met a tick
    cdef bint stopping
    cdef uint8_t *scratch           # RECEIVE_BYTES
    cdef void *events               # epoll_event, EVENTS_MAX of them
    cdef int event_next, event_count  # those that no pass has handled yet
    cdef int64_t now_us
    cdef int64_t linger_ms, budget_us
    cdef readonly uint64_t passes, protocol_errors, failed_passes, received_bytes, sent_bytes
    cdef readonly Histogram pass_us  # how long a pass takes
    cdef readonly Histogram turn_us  # how long the loop keeps trio's other tasks waiting

    cdef int serve(self) except -1
    cdef int run_pass(self) except -1
    cdef int handle_event(self, uint64_t data, uint32_t bits) except -1
    cdef int receive(self, Py_ssize_t slot) except -1
    cdef int flush(self) except -1
    cdef int send_some(self, Connection connection) except -1
    cdef int keep_time(self) except -1
