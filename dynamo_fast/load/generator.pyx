"""The loop that loads servers: one epoll descriptor, no Python per request, the GIL released.

Both sides of every comparison go through it, since clients alone differ by half in what they get out of one server.
Two ways to load. Closed loop: each connection keeps `depth` requests in flight, and the next begins when one ends. Open
loop: requests are due at a fixed rate whatever the servers do, and a latency counts from the time a request was due,
so a stall is charged to every request that it delayed (no coordinated omission).

Every reply is checked: its status, the bytes of a get whose key was written here, the number of siblings. Memory is
bounded by connections x depth x the largest message, and by one context per key.
"""

import os

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from dynamo_fast.load.draw cimport Draw
from dynamo_fast.load.keys cimport KEY_NAME_BYTES, Key, KeySpace
from dynamo_fast.load.lane cimport (
    LANE_AGAIN, LANE_CLOSED, LANE_FAILED, LANE_NO_MEMORY, Lane, Request, lane_begin, lane_end, lane_find, lane_flush,
    lane_free, lane_oldest, lane_open, lane_receive, lane_reserve,
)
from dynamo_fast.load.linux cimport (
    CLOCK_MONOTONIC, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLOUT, TFD_CLOEXEC, TFD_NONBLOCK,
    TFD_TIMER_ABSTIME, clock_ns, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, itimerspec, timerfd_create,
    timerfd_settime,
)
from dynamo_fast.load.protocol cimport GET, PUT, REPLY_NOT_FOUND, REPLY_OK, Operation, Protocol, Reply
from dynamo_fast.load.random cimport random_u64
from dynamo_fast.load.score cimport Score

from dynamo_fast.load.report import LoadError

cdef enum:
    EVENTS_MAX = 256
    TIMER = 0xFFFFFFFF         # the timer's mark among the events
    # What a step says beside a LaneResult:
    DONE = 2                   # a run: all is answered and nothing may begin; a lane: its draw has ended
    NOT_A_REPLY = -10          # bytes that the protocol cannot read
    NOT_ASKED = -11            # a reply to no request in flight
    EPOLL_FAILED = -12

cdef uint64_t SLICE_NS = 100_000_000     # how long the loop runs before Python may look at signals and progress
cdef uint64_t NEVER = <uint64_t>-1


@cython.final
cdef class Generator:
    """One load: connected sockets, a protocol, keys, and the order in which to draw them.

    `connections` is a list of (socket, group of keys). `depth` requests (1..65536) are in flight on each at most, a
    share `gets` (0..1) of them gets. `rate_per_s` above 0 makes it an open loop. Raises ValueError for what makes no
    sense, OSError and MemoryError.
    """

    def __cinit__(self, Protocol protocol not None, KeySpace keys not None, Draw draw not None, list connections not None,
                  *, uint32_t depth=1, double gets=0.0, double rate_per_s=0.0, uint64_t seed=1):
        cdef uint32_t number
        self.epoll_fd = self.timer_fd = -1
        if not connections or not 1 <= depth <= 65536 or not 0.0 <= gets <= 1.0 or not 0.0 <= rate_per_s <= 1e9:
            raise ValueError("a load has connections, a depth of 1..65536, a share of gets of 0..1, a rate of 0..1e9/s")
        if keys.count < len(connections) * depth:
            raise ValueError(f"{keys.count} keys are too few for {len(connections) * depth} requests in flight, "
                             "each on a key of its own")
        self.protocol, self.keys, self.draw, self.connections = protocol, keys, draw, connections
        self.get_threshold = <uint64_t>(gets * 4294967296.0)
        self.interval_ps = <uint64_t>(1e12 / rate_per_s) if rate_per_s > 0.0 else 0
        self.random = seed
        self.score = Score()
        self.lanes = <Lane *>calloc(len(connections), sizeof(Lane))
        self.dirty = <Lane **>calloc(len(connections), sizeof(Lane *))
        if self.lanes == NULL or self.dirty == NULL:
            raise MemoryError
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        # Edge-triggered, so that an expired timer wakes the loop once and need not be read.
        self._watch(self.timer_fd, TIMER, EPOLLIN | EPOLLET)
        for number, (socket, group) in enumerate(connections):
            self.lane_count = number + 1
            if lane_open(&self.lanes[number], socket.fileno(), group, depth) < 0:
                raise MemoryError
            self._watch(socket.fileno(), number, EPOLLIN)

    cdef _watch(self, int fd, uint32_t mark, uint32_t events):
        cdef epoll_event event
        event.events = events
        event.data.u32 = mark
        if self.epoll_fd < 0 or fd < 0 or epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        cdef uint32_t number, slot
        cdef Lane *lane
        cdef Key *key
        for number in range(self.lane_count):
            lane = &self.lanes[number]
            for slot in range(lane.depth if lane.requests != NULL else 0):
                if lane.requests[slot].in_flight:
                    # Nobody will say whether it was applied: the key is free again, its value no longer certain.
                    key = &self.keys.keys[lane.requests[slot].key]
                    key.busy = key.known = 0
            lane_free(lane)
        free(self.lanes)
        free(self.dirty)
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        if self.timer_fd >= 0:
            close(self.timer_fd)

    def run(self, *, double warmup_s=0.0, double seconds=0.0, uint64_t operations=0, double silence_s=10.0, progress=None):
        """Load the servers: `warmup_s` that do not count, then a window of `seconds`, or of `operations` requests, or
        (both 0) until a draw in order "once" ends. Then wait for what is in flight. A generator runs once.

        `progress(answers so far)` is called ten times a second. Raises LoadError when a connection breaks, bytes are no
        reply, or nothing at all is answered for `silence_s`; requests that stay without an answer after the window are
        only counted, in score.unanswered.
        """
        cdef uint64_t now = clock_ns(), last_ns = now, answered = 0
        cdef uint32_t number
        cdef int state = 0
        if self.begun_ns:
            raise RuntimeError("a generator runs once")
        self.begun_ns = now
        self.score.start_ns = now + <uint64_t>(warmup_s * 1e9)
        self.score.end_ns = self.score.start_ns + <uint64_t>(seconds * 1e9) if seconds > 0 else NEVER
        self.operations_left = operations if operations else NEVER
        for number in range(0 if self.interval_ps else self.lane_count):
            state = self._fill(&self.lanes[number], now)
            if state < 0:
                self._raise(state)
        while True:
            with nogil:
                state = self._slice(clock_ns() + SLICE_NS)
            if state == DONE:
                break
            if state < 0:
                self._raise(state)
            now = clock_ns()
            if answered != self.issued - self.in_flight or not self.in_flight:
                answered, last_ns = self.issued - self.in_flight, now
            elif now - last_ns > silence_s * 1e9:
                if now < self.score.end_ns:
                    raise LoadError(f"{self.in_flight} requests are in flight, and nothing was answered for {silence_s:g} s")
                break
            if progress is not None:
                progress(answered)
        self.score.unanswered = self.in_flight

    cdef _raise(self, int state):
        cdef Lane *lane = &self.lanes[self.failed_lane]
        try:
            peer = "{0}:{1}".format(*self.connections[self.failed_lane][0].getpeername()[:2])
        except OSError:
            peer = "the server"
        raise LoadError(f"connection {self.failed_lane}: {peer} " + {
            <int>LANE_CLOSED: f"closed the connection with {lane.in_flight} requests in flight",
            <int>LANE_FAILED: f"cannot be reached any more: {os.strerror(self.failure_errno)}",
            <int>LANE_NO_MEMORY: "is not at fault: the generator has no memory left",
            <int>NOT_A_REPLY: "sent bytes that are no reply of this protocol",
            <int>NOT_ASKED: "answered a request that it was not sent",
            <int>EPOLL_FAILED: f"is not at fault: epoll failed: {os.strerror(self.failure_errno)}",
        }[state])

    cdef int _fail(self, Lane *lane, int failure) noexcept nogil:
        self.failure_errno = errno
        self.failed_lane = <uint32_t>(lane - self.lanes)
        return failure

    cdef bint _may_begin(self, uint64_t start_ns) noexcept nogil:
        return start_ns < self.score.end_ns and (start_ns < self.score.start_ns or self.operations_left > 0)

    cdef int _slice(self, uint64_t until_ns) noexcept nogil:
        """Serves until that time or the end of the run: 0, DONE, or what broke it."""
        cdef epoll_event events[EVENTS_MAX]
        cdef itimerspec wake
        cdef uint64_t now = clock_ns(), due_ns
        cdef int number, count, state
        memset(&wake, 0, sizeof(wake))
        while now < until_ns:
            if self.interval_ps:
                state = self._issue_due(now)
                if state < 0:
                    return state
                due_ns = self.begun_ns + self.issued * self.interval_ps // 1000
                if not self.in_flight and not self._may_begin(due_ns):
                    return DONE
                # When it is past, every slot is taken: only a reply can help, and a reply wakes us anyway.
                wake.it_value.tv_sec = <long>(due_ns // 1_000_000_000)
                wake.it_value.tv_nsec = <long>(due_ns % 1_000_000_000)
                if due_ns > now and timerfd_settime(self.timer_fd, TFD_TIMER_ABSTIME, &wake, NULL) < 0:
                    return self._fail(self.lanes, EPOLL_FAILED)
            elif not self.in_flight:
                return DONE
            count = epoll_wait(self.epoll_fd, events, EVENTS_MAX, <int>((until_ns - now) // 1_000_000) + 1)
            if count < 0 and errno != EINTR:
                return self._fail(self.lanes, EPOLL_FAILED)
            for number in range(count):
                if events[number].data.u32 != <uint32_t>TIMER:
                    state = self._serve(&self.lanes[events[number].data.u32], events[number].events)
                    if state < 0:
                        return state
            now = clock_ns()
        return 0

    cdef int _issue(self, Lane *lane, uint64_t start_ns) noexcept nogil:
        """Begins one request on a lane that has a free slot: 0, DONE when the draw has ended, or LANE_NO_MEMORY."""
        cdef int64_t number = self.draw.draw(lane.group)
        cdef Key *key
        cdef Request *request
        cdef uint8_t *out
        cdef uint8_t name[KEY_NAME_BYTES]
        if number < 0:
            return DONE
        request = lane_begin(lane)
        key = &self.keys.keys[number]
        request.key = <uint32_t>number
        request.start_ns = start_ns
        request.operation = GET if (random_u64(&self.random) >> 32) < self.get_threshold else PUT
        self.issued += 1
        self.in_flight += 1
        if start_ns >= self.score.start_ns:
            self.operations_left -= 1
        self.keys.choose_value(&request.value_offset, &request.value_bytes)
        out = lane_reserve(lane, self.protocol.request_bytes_max(request.value_bytes, key.context_bytes))
        if out == NULL:
            return self._fail(lane, LANE_NO_MEMORY)
        self.keys.write_name(request.key, name)
        if request.operation == GET:
            lane.outgoing_tail += self.protocol.write_get(out, request.id, name)
        else:
            lane.outgoing_tail += self.protocol.write_put(
                out, request.id, name, self.keys.filler + request.value_offset, request.value_bytes,
                key.context, key.context_bytes)
        return 0

    cdef int _fill(self, Lane *lane, uint64_t now_ns) noexcept nogil:
        """Closed loop: begins what the depth allows, and sends it."""
        cdef int state
        while lane.in_flight < lane.depth and self._may_begin(now_ns):
            state = self._issue(lane, now_ns)
            if state == DONE:
                break
            if state < 0:
                return state
        return self._flush(lane)

    cdef int _issue_due(self, uint64_t now_ns) noexcept nogil:
        """Open loop: begins every request that is due while some lane has a free slot, then sends."""
        cdef uint64_t due_ns, slots = <uint64_t>self.lane_count * self.lanes[0].depth
        cdef Lane *lane
        cdef uint32_t number, keyless = 0
        cdef int state
        # Lanes whose group has every key in flight have free slots and nothing to begin: a reply must come first.
        while self.in_flight < slots and keyless < self.lane_count:
            due_ns = self.begun_ns + self.issued * self.interval_ps // 1000
            if due_ns > now_ns or not self._may_begin(due_ns):
                break
            while True:
                lane = &self.lanes[self.next_lane]
                self.next_lane = self.next_lane + 1 if self.next_lane + 1 < self.lane_count else 0
                if lane.in_flight < lane.depth:
                    break
            state = self._issue(lane, due_ns)
            if state < 0:
                return state
            keyless = keyless + 1 if state == DONE else 0
            if state == 0 and not lane.dirty:
                lane.dirty = 1
                self.dirty[self.dirty_count] = lane
                self.dirty_count += 1
        for number in range(self.dirty_count):
            self.dirty[number].dirty = 0
            state = self._flush(self.dirty[number])
            if state < 0:
                return state
        self.dirty_count = 0
        return 0

    cdef int _flush(self, Lane *lane) noexcept nogil:
        """Sends, and has epoll watch for room exactly while there is none."""
        cdef epoll_event event
        cdef int state = lane_flush(lane)
        if state < 0:
            return self._fail(lane, state)
        if lane.wants_out != (state == LANE_AGAIN):
            lane.wants_out = state == LANE_AGAIN
            event.events = EPOLLIN | EPOLLOUT if lane.wants_out else EPOLLIN
            event.data.u32 = <uint32_t>(lane - self.lanes)
            if epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, lane.fd, &event) < 0:
                return self._fail(lane, EPOLL_FAILED)
        return 0

    cdef int _serve(self, Lane *lane, uint32_t events) noexcept nogil:
        """Takes what a connection has for us and, in closed loop, begins the next requests on it."""
        cdef int state
        cdef uint64_t now_ns
        if events & EPOLLOUT:
            state = self._flush(lane)
            if state < 0 or events == EPOLLOUT:
                return state
        state = lane_receive(lane)
        if state < 0:
            return self._fail(lane, state)
        now_ns = clock_ns()
        state = self._parse(lane, now_ns)
        if state < 0 or self.interval_ps:
            return state
        return self._fill(lane, now_ns)

    cdef int _parse(self, Lane *lane, uint64_t now_ns) noexcept nogil:
        cdef Reply reply
        cdef Request *request
        cdef ssize_t used
        cdef int state
        while lane.incoming_head < lane.incoming_tail:
            request = lane_oldest(lane)
            memset(&reply, 0, sizeof(Reply))
            used = self.protocol.parse(lane.incoming + lane.incoming_head, lane.incoming_tail - lane.incoming_head,
                                       <Operation>request.operation if request != NULL else PUT, &reply)
            if used == 0:
                return 0
            if used < 0:
                return self._fail(lane, NOT_A_REPLY)
            lane.incoming_head += used
            if not self.protocol.in_order:
                request = lane_find(lane, reply.id)
            if request == NULL:
                return self._fail(lane, NOT_ASKED)
            state = self._complete(lane, request, &reply, now_ns)
            if state < 0:
                return state
        return 0

    cdef int _complete(self, Lane *lane, Request *request, Reply *reply, uint64_t now_ns) noexcept nogil:
        """Books an answer: the score, the key's value and context, and the slot."""
        cdef Key *key = &self.keys.keys[request.key]
        self.score.answered(request.operation, request.start_ns, now_ns)
        if reply.status != REPLY_OK and (reply.status != REPLY_NOT_FOUND or request.operation == PUT):
            self.score.failed(reply)
            if reply.unknown:
                key.known = 0
        elif request.operation == GET:
            self._check_get(request, reply)
        else:
            key.value_offset, key.value_bytes, key.known = request.value_offset, request.value_bytes, 1
        if reply.context != NULL and (request.operation == PUT or reply.siblings > 1 or not key.context_bytes):
            if self.keys.keep_context(request.key, reply.context, reply.context_bytes) < 0:
                return self._fail(lane, LANE_NO_MEMORY)
        key.busy = 0
        self.in_flight -= 1
        lane_end(lane, request)
        return 0

    cdef void _check_get(self, Request *request, Reply *reply) noexcept nogil:
        if reply.siblings > 1:
            self.score.siblings += 1
        elif self.keys.keys[request.key].known and (
                reply.value == NULL or not self.keys.is_value(request.key, reply.value, reply.value_bytes)):
            self.score.values_wrong += 1
