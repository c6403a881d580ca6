"""A lane is one connection of the generator: two buffers and a table of the requests in flight, all in C memory.

Buffers grow to what the largest message needs and stay; `depth` bounds what can be waiting to be sent.
"""

from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *data, size_t n, int flags)
    ssize_t send(int fd, const void *data, size_t n, int flags)
    int MSG_NOSIGNAL
    int MSG_DONTWAIT

cdef enum:
    BUFFER_BYTES = 16384      # a buffer's size at first


cdef int lane_open(Lane *lane, int fd, uint32_t group, uint32_t depth) noexcept nogil:
    cdef uint32_t slot
    memset(lane, 0, sizeof(Lane))
    lane.fd = fd
    lane.group = group
    lane.depth = depth
    lane.incoming = <uint8_t *>malloc(BUFFER_BYTES)
    lane.outgoing = <uint8_t *>malloc(BUFFER_BYTES)
    lane.incoming_capacity = lane.outgoing_capacity = BUFFER_BYTES
    lane.requests = <Request *>calloc(depth, sizeof(Request))
    lane.free_slots = <uint32_t *>malloc(depth * sizeof(uint32_t))
    lane.order = <uint32_t *>malloc(depth * sizeof(uint32_t))
    if (lane.incoming == NULL or lane.outgoing == NULL or lane.requests == NULL or lane.free_slots == NULL
            or lane.order == NULL):
        return LANE_NO_MEMORY
    for slot in range(depth):
        lane.free_slots[slot] = slot
    return LANE_OK


cdef void lane_free(Lane *lane) noexcept nogil:
    free(lane.incoming)
    free(lane.outgoing)
    free(lane.requests)
    free(lane.free_slots)
    free(lane.order)
    memset(lane, 0, sizeof(Lane))


cdef int lane_receive(Lane *lane) noexcept nogil:
    cdef ssize_t got
    cdef uint8_t *grown
    if lane.incoming_head == lane.incoming_tail:
        lane.incoming_head = lane.incoming_tail = 0
    elif lane.incoming_head and lane.incoming_capacity - lane.incoming_tail < lane.incoming_capacity // 2:
        lane.incoming_tail -= lane.incoming_head
        memmove(lane.incoming, lane.incoming + lane.incoming_head, lane.incoming_tail)
        lane.incoming_head = 0
    if lane.incoming_tail == lane.incoming_capacity:
        grown = <uint8_t *>realloc(lane.incoming, lane.incoming_capacity * 2)
        if grown == NULL:
            return LANE_NO_MEMORY
        lane.incoming = grown
        lane.incoming_capacity *= 2
    got = recv(lane.fd, lane.incoming + lane.incoming_tail, lane.incoming_capacity - lane.incoming_tail, MSG_DONTWAIT)
    if got > 0:
        lane.incoming_tail += got
        return LANE_OK
    if got == 0 or errno == ECONNRESET:
        return LANE_CLOSED
    return LANE_OK if errno == EAGAIN or errno == EINTR else LANE_FAILED


cdef int lane_flush(Lane *lane) noexcept nogil:
    cdef ssize_t sent
    while lane.outgoing_head < lane.outgoing_tail:
        sent = send(lane.fd, lane.outgoing + lane.outgoing_head, lane.outgoing_tail - lane.outgoing_head,
                    MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent < 0:
            if errno == EAGAIN:
                return LANE_AGAIN
            if errno == EINTR:
                continue
            return LANE_CLOSED if errno == ECONNRESET or errno == EPIPE else LANE_FAILED
        lane.outgoing_head += sent
    lane.outgoing_head = lane.outgoing_tail = 0
    return LANE_OK


cdef uint8_t *lane_reserve(Lane *lane, size_t n) noexcept nogil:
    cdef size_t used = lane.outgoing_tail - lane.outgoing_head
    cdef size_t capacity = lane.outgoing_capacity
    cdef uint8_t *grown
    if lane.outgoing_capacity - lane.outgoing_tail >= n:
        return lane.outgoing + lane.outgoing_tail
    memmove(lane.outgoing, lane.outgoing + lane.outgoing_head, used)
    lane.outgoing_head = 0
    lane.outgoing_tail = used
    while capacity - used < n:
        capacity *= 2
    if capacity > lane.outgoing_capacity:
        grown = <uint8_t *>realloc(lane.outgoing, capacity)
        if grown == NULL:
            return NULL
        lane.outgoing = grown
        lane.outgoing_capacity = capacity
    return lane.outgoing + lane.outgoing_tail


cdef Request *lane_begin(Lane *lane) noexcept nogil:
    cdef uint32_t slot = lane.free_slots[lane.depth - lane.in_flight - 1]
    cdef uint32_t last = lane.order_head + lane.in_flight
    cdef Request *request = &lane.requests[slot]
    lane.order[last if last < lane.depth else last - lane.depth] = slot
    lane.in_flight += 1
    lane.serial += 1
    request.id = (lane.serial << 32) | slot
    request.in_flight = 1
    return request


cdef void lane_end(Lane *lane, Request *request) noexcept nogil:
    request.in_flight = 0
    lane.free_slots[lane.depth - lane.in_flight] = <uint32_t>request.id
    lane.in_flight -= 1
    lane.order_head = lane.order_head + 1 if lane.order_head + 1 < lane.depth else 0


cdef Request *lane_oldest(Lane *lane) noexcept nogil:
    return &lane.requests[lane.order[lane.order_head]] if lane.in_flight else NULL


cdef Request *lane_find(Lane *lane, uint64_t id) noexcept nogil:
    cdef uint32_t slot = <uint32_t>id
    if slot >= lane.depth or not lane.requests[slot].in_flight or lane.requests[slot].id != id:
        return NULL
    return &lane.requests[slot]
