"""The loop that loads servers; explained in generator.pyx."""

from libc.stdint cimport uint32_t, uint64_t

from dynamo_fast.load.draw cimport Draw
from dynamo_fast.load.keys cimport KeySpace
from dynamo_fast.load.lane cimport Lane, Request
from dynamo_fast.load.protocol cimport Protocol, Reply
from dynamo_fast.load.score cimport Score


cdef class Generator:
    cdef readonly Score score
    cdef Protocol protocol
    cdef KeySpace keys
    cdef Draw draw
    cdef list connections                   # (socket, group); the sockets live as long as the generator
    cdef Lane *lanes                        # owned
    cdef Lane **dirty                       # owned; lanes with something to flush at the end of a round of _issue_due
    cdef uint32_t lane_count, dirty_count, next_lane
    cdef int epoll_fd, timer_fd
    cdef uint64_t get_threshold             # a request is a get when 32 random bits are below it
    cdef uint64_t random
    cdef uint64_t interval_ps               # open loop: picoseconds between due times; 0 = closed loop
    cdef uint64_t begun_ns                  # when the run began; in open loop the first request is due then
    cdef uint64_t issued, in_flight         # requests begun so far, and of them without an answer
    cdef uint64_t operations_left           # that may still begin inside the window
    cdef int failure_errno
    cdef uint32_t failed_lane

    cdef _watch(self, int fd, uint32_t mark, uint32_t events)
    cdef _raise(self, int state)
    cdef int _slice(self, uint64_t until_ns) noexcept nogil
    cdef bint _may_begin(self, uint64_t start_ns) noexcept nogil
    cdef int _issue(self, Lane *lane, uint64_t start_ns) noexcept nogil
    cdef int _fill(self, Lane *lane, uint64_t now_ns) noexcept nogil
    cdef int _issue_due(self, uint64_t now_ns) noexcept nogil
    cdef int _flush(self, Lane *lane) noexcept nogil
    cdef int _serve(self, Lane *lane, uint32_t events) noexcept nogil
    cdef int _parse(self, Lane *lane, uint64_t now_ns) noexcept nogil
    cdef int _complete(self, Lane *lane, Request *request, Reply *reply, uint64_t now_ns) noexcept nogil
    cdef void _check_get(self, Request *request, Reply *reply) noexcept nogil
    cdef int _fail(self, Lane *lane, int failure) noexcept nogil
