"""The data plane's loop: one trio task, one epoll descriptor for all data connections, no task and no await per message.

trio waits until the epoll descriptor is readable; then `serve` runs passes. A pass takes whatever is ready: it receives at most
RECEIVE_BYTES from each ready connection, hands the frames to the handler, calls `end_pass` (one log write for everything the pass
has stored) and then sends once per connection that has something to say. Under load batches form by themselves; that is where the
throughput is.

Lingering: waking up through trio costs more than serving a request, so after a pass with work the loop waits up to LINGER_MS in
epoll_wait itself, with the GIL released. It goes back to trio after BUDGET_US at the latest, so that trio's own tasks (gossip,
checkpoints, signals) are delayed by no more than that plus one pass; `turn_us` measures it. A handler that has given work to a
trio task sets `wants_loop`, and the loop returns at once.

A connection whose unsent answers pass HIGH_WATER is not read from until they have gone; one that reads nothing for STUCK_S, or says no
hello within HELLO_S, is closed. A client that has closed its own side gets the answers to what it asked, for up to HALF_CLOSED_S, and
goes with the last of them; a peer that has is gone. The other limits on connections stand in socket_table.pyx.

One exception from one connection's frames closes that connection, never the node.
"""

import errno
import logging
import os

import trio

cimport cython
from libc.errno cimport errno as c_errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from dynamo_fast.net.linux cimport *

from dynamo_fast.wire.errors import ProtocolError

log = logging.getLogger("dynamo_fast.net")

LINGER_MS = 2
BUDGET_US = 10_000
HELLO_S = 10
STUCK_S = 20
HALF_CLOSED_S = 60
SWEEP_S = 1

cdef enum:
    HIGH_WATER = 262144             # unsent bytes beyond which a connection is not read from
    TICK_MS = 5                     # how often time is looked at while requests are under way and nothing arrives


cdef class PassHandler(FrameHandler):
    """A FrameHandler that knows of passes: what a reactor drives. The data plane is one."""

    cdef int begin_pass(self, int64_t now_us, int64_t wall_ms) except -1:
        raise NotImplementedError("a PassHandler takes the time of each pass")

    cdef int end_pass(self) except -1:
        """0, or 1 when nothing of this pass may be answered."""
        raise NotImplementedError("a PassHandler ends its passes")

    cdef int synced(self) except -1:
        raise NotImplementedError("a PassHandler hears of the disk")

    cdef bint needs_time(self) noexcept:
        return False


@cython.final
cdef class Reactor(SocketTable):
    """Reactor(handler, outbox, limits): run it as one trio task with `await reactor.run()`.

    `limits` is that section of the configuration.
    """

    def __cinit__(self, PassHandler handler not None, Outbox outbox not None, limits):
        self.timer_fd = self.wake_fd = self.sync_fd = -1
        self.handler = handler
        self.linger_ms, self.budget_us = LINGER_MS, BUDGET_US
        self.pass_us, self.turn_us = Histogram(), Histogram()
        self.scratch = <uint8_t *>malloc(RECEIVE_BYTES)
        self.events = malloc(EVENTS_MAX * sizeof(epoll_event))
        if self.scratch == NULL or self.events == NULL:
            raise MemoryError
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.timer_fd < 0 or self.wake_fd < 0:
            raise OSError(c_errno, f"no descriptors for the loop: {os.strerror(c_errno)}")
        self.watch(self.timer_fd, event_data(TIMER, 0))
        self.watch(self.wake_fd, event_data(WAKE, 0))
        outbox.wake = self.wake

    def __dealloc__(self):
        for fd in (self.timer_fd, self.wake_fd):
            if fd >= 0:
                close(fd)
        free(self.scratch)
        free(self.events)

    # What the control plane asks ------------------------------------------------------------------------------------------------

    def watch_sync(self, int fd):
        """Call the handler's `synced` whenever that descriptor is readable: the engine's group commit."""
        self.sync_fd = fd
        self.watch(fd, event_data(SYNC, 0))

    def wake(self):
        """Somebody outside of a pass has appended to a connection: come round and send it."""
        cdef uint64_t one = 1
        write(self.wake_fd, &one, 8)

    def hurry(self):
        """A task of trio's has more to do and lets us serve what has come: come back to it at once."""
        self.handler.wants_loop = True

    def stop(self):
        """`run` returns after the pass under way."""
        self.stopping = True
        self.wake()

    def quiet(self):
        """Nothing is waiting to be sent."""
        cdef Connection connection
        for connection in self.connections:
            if connection is not None and connection.waiting():
                return False
        return True

    async def run(self):
        """Serves until `stop`, then closes every connection. What the handler raises outside of a connection's frames ends it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sweep)
            while not self.stopping:
                await trio.lowlevel.wait_readable(self.epoll_fd)
                self.serve()
            nursery.cancel_scope.cancel()
        for slot in range(self.slots):
            if self.sockets[slot].fd >= 0:
                self.drop(slot, "this node is shutting down")

    async def sweep(self):
        """Once a second: closes who said no hello in time and who has stopped reading; accepts again after a lack of descriptors."""
        cdef Connection connection
        cdef Socket *place
        while True:
            await trio.sleep(SWEEP_S)
            now_us = clock_us(CLOCK_MONOTONIC)
            if not self.accepting:
                self.accepting = True
                for fd in self.listeners:
                    self.watch(fd, event_data(LISTENER, <uint64_t><int>fd))
            for slot in range(self.slots):
                place = &self.sockets[slot]
                if place.fd < 0:
                    continue
                connection = <Connection>self.connections[slot]
                if not connection.hello_done and now_us - place.opened_us > HELLO_S * 1000000:
                    self.drop(slot, f"no hello within {HELLO_S} s")
                elif place.half_closed_us and now_us - place.half_closed_us > HALF_CLOSED_S * 1000000:
                    self.drop(slot, f"closed by the other side, {HALF_CLOSED_S} s ago")
                elif connection.waiting() == 0 or place.sent_bytes != place.sent_bytes_seen:
                    place.sent_bytes_seen, place.stuck_since_us = place.sent_bytes, 0
                elif place.stuck_since_us == 0:
                    place.stuck_since_us = now_us
                elif now_us - place.stuck_since_us > STUCK_S * 1000000:
                    self.drop(slot, f"read none of its answers for {STUCK_S} s")

    # Passes ---------------------------------------------------------------------------------------------------------------------

    cdef int serve(self) except -1:
        """Passes, until nothing has come for LINGER_MS, BUDGET_US is over, or a trio task has work."""
        cdef int count, timeout_ms = 0
        cdef int64_t began_us = clock_us(CLOCK_MONOTONIC)
        cdef int64_t ended_us = began_us
        while True:
            if self.event_next == self.event_count:
                with nogil:
                    count = epoll_wait(self.epoll_fd, <epoll_event *>self.events, EVENTS_MAX, timeout_ms)
                if count < 0 and c_errno != errno.EINTR:
                    raise OSError(c_errno, f"epoll_wait: {os.strerror(c_errno)}")
                if count <= 0 and len(self.outbox) == 0:
                    break
                self.event_next, self.event_count = 0, max(count, 0)
            self.now_us = clock_us(CLOCK_MONOTONIC)
            self.run_pass()
            ended_us = clock_us(CLOCK_MONOTONIC)
            self.pass_us.record(ended_us - self.now_us)
            if ended_us - began_us >= self.budget_us or self.stopping or self.handler.wants_loop:
                break
            timeout_ms = self.linger_ms
        self.handler.wants_loop = False
        self.turn_us.record(clock_us(CLOCK_MONOTONIC) - began_us)
        return 0

    cdef int run_pass(self) except -1:
        cdef epoll_event *event
        cdef int handled = 0
        self.passes += 1
        self.ticked = False
        self.outbox.begin_pass()
        self.outbox.in_pass = True
        self.handler.begin_pass(self.now_us, clock_us(CLOCK_REALTIME) // 1000)
        try:
            while self.event_next < self.event_count:
                event = <epoll_event *>self.events + self.event_next
                self.event_next += 1
                self.handle_event(event.data.u64, event.events)
                handled += 1
                if handled % 16 == 0 and clock_us(CLOCK_MONOTONIC) - self.now_us >= PASS_US:
                    break
            if self.handler.end_pass() != 0:
                # The pass answers nothing: what it appended was only true if the write had worked.
                self.failed_passes += 1
                self.outbox.roll_back()
            self.flush()
        finally:
            self.outbox.in_pass = False
        return self.keep_time()

    cdef int keep_time(self) except -1:
        """A tick every TICK_MS while requests are under way, none while not: an idle node sleeps.

        What stops the ticks is a tick that finds nothing under way, not the pass that ends the last request: under a light load
        every pass would start or stop them, and that is a system call.
        """
        cdef itimerspec every
        cdef bint wanted = self.handler.needs_time()
        if wanted == self.timer_armed or not wanted and not self.ticked:
            return 0
        memset(&every, 0, sizeof(every))
        if wanted:
            every.it_value.tv_nsec = every.it_interval.tv_nsec = TICK_MS * 1000000
        timerfd_settime(self.timer_fd, 0, &every, NULL)
        self.timer_armed = wanted
        return 0

    cdef int handle_event(self, uint64_t data, uint32_t bits) except -1:
        cdef int kind = <int>(data >> 56)
        cdef uint64_t drained
        cdef Py_ssize_t slot
        if kind == LISTENER:
            return self.accept_all(<int><uint32_t>data)
        if kind == TIMER:
            read(self.timer_fd, &drained, 8)
            self.ticked = True
            return 0
        if kind == WAKE:
            read(self.wake_fd, &drained, 8)
            return 0
        if kind == SYNC:
            return self.handler.synced()
        slot = <Py_ssize_t><uint32_t>data
        if self.sockets[slot].fd < 0 or (<Connection>self.connections[slot]).generation != (data >> 32):
            return 0  # closed earlier in this pass; whoever has the slot now has events of its own
        if bits & EPOLLOUT:
            self.outbox.add(<Connection>self.connections[slot])
        if bits & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP):
            return self.receive(slot)
        return 0

    cdef int receive(self, Py_ssize_t slot) except -1:
        """One receive from one connection; whatever goes wrong with its bytes ends that connection and nothing else."""
        cdef Connection connection = <Connection>self.connections[slot]
        cdef int fd = self.sockets[slot].fd
        cdef ssize_t n
        if connection.closing:
            return 0
        n = recv(fd, self.scratch, RECEIVE_BYTES, MSG_DONTWAIT)
        if n <= 0:
            if n < 0 and (c_errno == errno.EAGAIN or c_errno == errno.EINTR):
                return 0
            # One that is half closed is watched for a reset only: met a second time, the end is one of both sides.
            if n == 0 and connection.peer is None and self.sockets[slot].half_closed_us == 0 and (
                    connection.owed > 0 or connection.waiting()):
                self.sockets[slot].half_closed_us = self.now_us
                return self.arm(slot, EPOLLOUT if connection.waiting() else 0)
            return self.drop(slot, "closed by the other side" if n == 0 else os.strerror(c_errno))
        self.received_bytes += n
        try:
            connection.received_from(self.scratch, n)
        except ProtocolError as error:
            self.protocol_errors += 1
            log.info("closing %s: %s", connection.label, error)
            self.drop(slot, str(error))
        except Exception as error:
            self.handler_errors += 1
            log.exception("closing %s: a bug met what it sent", connection.label)
            self.drop(slot, f"{type(error).__name__}: {error}")
        return self.account(slot) if connection.slot == slot else 0

    cdef int flush(self) except -1:
        """One send for every connection that has something to say. Closing one may give others something to say: until none has."""
        cdef Connection connection
        while len(self.outbox):
            for connection in self.outbox.drain():
                if connection.slot >= 0:
                    self.send_some(connection)
        return 0

    cdef int send_some(self, Connection connection) except -1:
        cdef Py_ssize_t slot = connection.slot
        cdef size_t waiting
        cdef uint32_t bits = 0
        cdef ssize_t n = 0
        connection.refill()
        waiting = connection.outgoing.size()
        if waiting:
            n = send(self.sockets[slot].fd, connection.outgoing.data + connection.outgoing.head, waiting, MSG_NOSIGNAL | MSG_DONTWAIT)
            if n < 0:
                if c_errno != errno.EAGAIN and c_errno != errno.EINTR:
                    return self.drop(slot, os.strerror(c_errno))
                n = 0
            connection.outgoing.consume(n)
            self.sockets[slot].sent_bytes += n
            self.sent_bytes += n
        waiting = connection.waiting()
        if connection.closing and (waiting == 0 or connection.close_reason is None):
            return self.drop(slot, connection.close_reason or "closed")
        if self.sockets[slot].half_closed_us and waiting == 0 and connection.owed <= 0:
            return self.drop(slot, "closed by the other side")
        if waiting:
            bits |= EPOLLOUT
        # A client that reads more slowly than it asks is not read from until it has caught up. A peer always is: two nodes that
        # waited for each other so would wait for ever; its answers are bounded by outgoing_bytes_max alone.
        if not connection.closing and self.sockets[slot].half_closed_us == 0 and (waiting < HIGH_WATER or connection.peer is not None):
            bits |= EPOLLIN | EPOLLRDHUP
        self.arm(slot, bits)
        return self.account(slot)

    def statistics(self):
        """Counters since the start, and histograms in microseconds."""
        return {
            "passes": self.passes, "connections": self.open_connections, "accepted": self.accepted, "refused": self.refused,
            "buffered_bytes": self.buffered_bytes, "crowded_out": self.crowded_out,
            "protocol_errors": self.protocol_errors, "handler_errors": self.handler_errors, "failed_passes": self.failed_passes,
            "received_bytes": self.received_bytes, "sent_bytes": self.sent_bytes, "pass_us": self.pass_us, "turn_us": self.turn_us,
        }
