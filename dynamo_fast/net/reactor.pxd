"""Sockets, epoll and passes; see reactor.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dynamo_fast.core.histogram cimport Histogram
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
    cdef int foresee(self, const uint8_t *data, size_t n) except -1

cdef struct Socket:
    int fd                          # -1: the slot is free
    bint ours                       # no Python socket owns the descriptor: it is closed here
    uint32_t armed                  # the EPOLL bits asked for
    uint64_t buffered_bytes         # in both its buffers, as it was last counted
    uint64_t sent_bytes             # ever, to see progress
    uint64_t sent_bytes_seen        # at the last sweep
    int64_t opened_us
    int64_t stuck_since_us          # 0: the other side is reading

cdef class Reactor:
    cdef readonly PassHandler handler
    cdef readonly Outbox outbox
    cdef object limits
    cdef int epoll_fd, timer_fd, wake_fd, sync_fd
    cdef bint timer_armed
    cdef bint stopping
    cdef bint accepting             # False: out of descriptors, new connections wait for the next sweep
    cdef dict listeners             # fd -> socket object
    cdef list connections           # by slot: Connection or None
    cdef list socket_objects        # by slot: the Python socket that owns the descriptor, or None when we do
    cdef Socket *sockets            # by slot
    cdef Py_ssize_t slots           # length of `sockets`
    cdef list free_slots
    cdef uint64_t generation
    cdef uint8_t *scratch           # RECEIVE_BYTES
    cdef void *events               # epoll_event, EVENTS_MAX of them
    cdef int event_next, event_count  # those that no pass has handled yet
    cdef int64_t now_us
    cdef int64_t linger_ms, budget_us
    cdef readonly Py_ssize_t open_connections
    cdef uint64_t buffered_bytes, buffered_bytes_max  # in the buffers of all connections, and when some must go
    cdef readonly uint64_t passes, accepted, refused, crowded_out, protocol_errors, handler_errors, failed_passes, received_bytes, sent_bytes
    cdef readonly Histogram pass_us  # how long a pass takes
    cdef readonly Histogram gap_us   # how long trio kept the loop between two passes that had work waiting
    cdef readonly Histogram turn_us  # how long the loop keeps trio's other tasks waiting

    cdef int serve(self) except -1
    cdef int run_pass(self) except -1
    cdef int handle_event(self, uint64_t data, uint32_t bits) except -1
    cdef int accept_all(self, int listen_fd) except -1
    cdef int pause_accepting(self) except -1
    cdef int receive(self, Py_ssize_t slot) except -1
    cdef int flush(self) except -1
    cdef int send_some(self, Connection connection) except -1
    cdef int account(self, Py_ssize_t slot) except -1
    cdef int arm(self, Py_ssize_t slot, uint32_t bits) except -1
    cdef Connection add(self, int fd, object owner, str label)
    cdef int drop(self, Py_ssize_t slot, str reason) except -1
    cdef int watch(self, int fd, uint64_t data) except -1
    cdef int keep_time(self) except -1
