"""Descriptors, slots and their limits; see socket_table.pyx."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dynamo_fast.wire.connection cimport Connection, FrameHandler, Outbox

cdef struct Socket:
    int fd                          # -1: the slot is free
    bint ours                       # no Python socket owns the descriptor: it is closed here
    uint32_t armed                  # the EPOLL bits asked for
    uint64_t buffered_bytes         # in both its buffers, as it was last counted
    uint64_t sent_bytes             # ever, to see progress
    uint64_t sent_bytes_seen        # at the last sweep
    int64_t opened_us
    int64_t stuck_since_us          # 0: the other side is reading
    int64_t half_closed_us          # since when it says no more, but may listen; 0: it may say more

cdef class SocketTable:
    cdef FrameHandler frame_handler
    cdef readonly Outbox outbox
    cdef object limits
    cdef int epoll_fd
    cdef bint accepting             # False: out of descriptors, new connections wait for the next sweep
    cdef dict listeners             # fd -> socket object
    cdef list connections           # by slot: Connection or None
    cdef list socket_objects        # by slot: the Python socket that owns the descriptor, or None when we do
    cdef Socket *sockets            # by slot
    cdef Py_ssize_t slots           # length of `sockets`
    cdef list free_slots
    cdef uint64_t generation
    cdef readonly Py_ssize_t open_connections
    cdef uint64_t buffered_bytes, buffered_bytes_max  # in the buffers of all connections, and when some must go
    cdef readonly uint64_t accepted, refused, crowded_out, handler_errors

    cdef int accept_all(self, int listen_fd) except -1
    cdef int pause_accepting(self) except -1
    cdef Connection add(self, int fd, object owner, str label)
    cdef int watch(self, int fd, uint64_t data) except -1
    cdef int arm(self, Py_ssize_t slot, uint32_t bits) except -1
    cdef int account(self, Py_ssize_t slot) except -1
    cdef int drop(self, Py_ssize_t slot, str reason) except -1
