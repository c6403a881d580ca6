"""One connection of the generator and its requests in flight; explained in lane.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Request:
    uint64_t id                # what a reply must name: a serial number above, the slot in the lowest 32 bits
    uint64_t start_ns          # when it was sent, or in open loop when it was meant to be sent
    uint32_t key
    uint32_t value_offset      # of a put: its value in the filler
    uint32_t value_bytes
    uint8_t operation
    uint8_t in_flight


cdef struct Lane:
    int fd
    uint32_t group             # of keys that it draws from
    uint32_t depth             # requests in flight at most
    uint32_t in_flight
    uint64_t serial            # requests begun so far
    uint8_t wants_out          # 1 while epoll watches for room to send
    uint8_t dirty              # 1 while it is in the list of lanes to flush
    uint8_t *incoming          # owned; bytes head..tail are received and not yet parsed
    size_t incoming_head
    size_t incoming_tail
    size_t incoming_capacity
    uint8_t *outgoing          # owned; bytes head..tail are written and not yet sent
    size_t outgoing_head
    size_t outgoing_tail
    size_t outgoing_capacity
    Request *requests          # owned, `depth` slots
    uint32_t *free_slots       # owned; a stack of the depth - in_flight free ones
    uint32_t *order            # owned; a ring of the slots in flight, oldest first, for protocols that answer in order
    uint32_t order_head


cdef enum LaneResult:
    LANE_OK = 0
    LANE_AGAIN = 1             # the socket has no room: wait until it has
    LANE_CLOSED = -1           # the other side closed
    LANE_FAILED = -2           # errno says why
    LANE_NO_MEMORY = -3

cdef int lane_open(Lane *lane, int fd, uint32_t group, uint32_t depth) noexcept nogil
cdef void lane_free(Lane *lane) noexcept nogil
# Receives once. LANE_OK, LANE_CLOSED, LANE_FAILED or LANE_NO_MEMORY.
cdef int lane_receive(Lane *lane) noexcept nogil
# Sends what is there. LANE_OK, LANE_AGAIN, LANE_CLOSED or LANE_FAILED.
cdef int lane_flush(Lane *lane) noexcept nogil
# Room for n more bytes to send; NULL when memory is out. The caller moves outgoing_tail.
cdef uint8_t *lane_reserve(Lane *lane, size_t n) noexcept nogil
# A free slot for a new request (there must be one), and its end.
cdef Request *lane_begin(Lane *lane) noexcept nogil
cdef void lane_end(Lane *lane, Request *request) noexcept nogil
cdef Request *lane_oldest(Lane *lane) noexcept nogil
# The request with that id, or NULL when none is in flight.
cdef Request *lane_find(Lane *lane, uint64_t id) noexcept nogil
