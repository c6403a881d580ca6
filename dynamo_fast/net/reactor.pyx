"""The data plane's loop: one trio task, one epoll descriptor for all data connections, no task and no await per message.

trio waits until the epoll descriptor is readable; then `serve` runs passes. A pass takes whatever is ready: it receives at most
RECEIVE_BYTES from each ready connection, hands the frames to the handler, calls `end_pass` (one log write for everything the pass
has stored) and then sends once per connection that has something to say. Under load batches form by themselves; that is where the
throughput is.

Lingering: waking up through trio costs more than serving a request, so after a pass with work the loop waits up to LINGER_MS in
epoll_wait itself, with the GIL released. It goes back to trio after BUDGET_US at the latest, so that trio's own tasks (gossip,
checkpoints, signals) are delayed by no more than that plus one pass; `turn_us` measures it. A handler that has given work to a
trio task sets `wants_loop`, and the loop returns at once.

Limits: connections beyond connections_max are closed as they are accepted; a connection whose unsent answers pass HIGH_WATER is not
read from until they have gone; one that reads nothing for STUCK_S, or says no hello within HELLO_S, is closed. When the buffers of all
connections together pass buffered_bytes_max, clients that hold more than FAIR_BYTES are closed as they are met.

One exception from one connection's frames closes that connection, never the node.
"""

import errno
import logging
import os
import socket

import trio

from libc.errno cimport errno as c_errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, itimerspec, timespec

from dynamo_fast.wire.errors import ProtocolError

log = logging.getLogger("dynamo_fast.net")

LINGER_MS = 2
BUDGET_US = 10_000
HELLO_S = 10
STUCK_S = 20
SWEEP_S = 1
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "sys/eventfd.h" nogil:
    int EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int initval, int flags)

cdef extern from "sys/timerfd.h" nogil:
    int TFD_NONBLOCK, TFD_CLOEXEC
    int timerfd_create(int clockid, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new_value, itimerspec *old_value)

cdef extern from "sys/socket.h" nogil:
    int MSG_NOSIGNAL, MSG_DONTWAIT, SOCK_NONBLOCK, SOCK_CLOEXEC
    ssize_t recv(int fd, void *buffer, size_t n, int flags)
    ssize_t send(int fd, const void *buffer, size_t n, int flags)
    int accept4(int fd, void *address, void *length, int flags)

cdef extern from "unistd.h" nogil:
    ssize_t read(int fd, void *buffer, size_t n)
    ssize_t write(int fd, const void *buffer, size_t n)
    int close(int fd)

cdef enum:
    FAIR_BYTES = 65536              # what a client may always have buffered
    HIGH_WATER = 262144             # unsent bytes beyond which a connection is not read from
    TICK_MS = 5                     # how often time is looked at while requests are under way and nothing arrives

# What an event is about stands in its data: a slot and its generation, or one of these kinds in the top byte.
cdef uint64_t KIND_LISTENER = <uint64_t>0xF1 << 56
cdef uint64_t KIND_TIMER = <uint64_t>0xF2 << 56
cdef uint64_t KIND_WAKE = <uint64_t>0xF3 << 56
cdef uint64_t KIND_SYNC = <uint64_t>0xF4 << 56
cdef uint64_t KIND_MASK = <uint64_t>0xFF << 56


cdef int64_t clock_us(int which) noexcept nogil:
    cdef timespec now
    clock_gettime(which, &now)
    return <int64_t>now.tv_sec * 1000000 + now.tv_nsec // 1000


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

    cdef int foresee(self, const uint8_t *data, size_t n) except -1:
        """These bytes have been received and are about to be handled, from where they stand: a chance to look ahead."""
        return 0


cdef class Reactor:
    """Reactor(handler, outbox, limits): run it as one trio task with `await reactor.run()`.

    `limits` is that section of the configuration.
    """

    def __cinit__(self, PassHandler handler not None, Outbox outbox not None, limits):
        self.epoll_fd = self.timer_fd = self.wake_fd = self.sync_fd = -1
        self.handler = handler
        self.outbox = outbox
        self.limits = limits
        self.buffered_bytes_max = limits.buffered_bytes_max
        self.listeners = {}
        self.connections = []
        self.socket_objects = []
        self.free_slots = []
        self.linger_ms, self.budget_us = LINGER_MS, BUDGET_US
        self.pass_us, self.gap_us, self.turn_us = Histogram(), Histogram(), Histogram()
        self.accepting = True
        self.scratch = <uint8_t *>malloc(RECEIVE_BYTES)
        self.events = malloc(EVENTS_MAX * sizeof(epoll_event))
        if self.scratch == NULL or self.events == NULL:
            raise MemoryError
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.epoll_fd < 0 or self.timer_fd < 0 or self.wake_fd < 0:
            raise OSError(c_errno, f"no descriptors for the loop: {os.strerror(c_errno)}")
        self.watch(self.timer_fd, KIND_TIMER)
        self.watch(self.wake_fd, KIND_WAKE)
        outbox.wake = self.wake

    def __dealloc__(self):
        for fd in (self.epoll_fd, self.timer_fd, self.wake_fd):
            if fd >= 0:
                close(fd)
        for slot in range(self.slots):
            if self.sockets[slot].fd >= 0 and self.sockets[slot].ours:
                close(self.sockets[slot].fd)
        free(self.sockets)
        free(self.scratch)
        free(self.events)

    # What the control plane asks ------------------------------------------------------------------------------------------------

    def listen(self, listener):
        """Accept connections from a listening, non-blocking socket, which stays open until `stop_listening`."""
        self.listeners[listener.fileno()] = listener
        self.watch(listener.fileno(), KIND_LISTENER | <uint64_t><int>listener.fileno())

    def stop_listening(self):
        """Accept no more; connections that are open stay."""
        for fd, listener in self.listeners.items():
            epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, fd, NULL)
            listener.close()
        self.listeners.clear()

    def watch_sync(self, int fd):
        """Call the handler's `synced` whenever that descriptor is readable: the engine's group commit."""
        self.sync_fd = fd
        self.watch(fd, KIND_SYNC)

    def adopt(self, dialled):
        """A connected, non-blocking socket becomes a Connection; the reactor owns the socket from here on."""
        try:
            host, port = dialled.getpeername()[:2]
        except OSError:
            host, port = "reset", "at once"  # the first receive will tell
        return self.add(dialled.fileno(), dialled, f"{host}:{port}")

    def wake(self):
        """Somebody outside of a pass has appended to a connection: come round and send it."""
        cdef uint64_t one = 1
        write(self.wake_fd, &one, 8)

    def stop(self):
        """`run` returns after the pass under way."""
        self.stopping = True
        self.wake()

    def quiet(self):
        """Nothing is waiting to be sent."""
        cdef Connection connection
        for connection in self.connections:
            if connection is not None and connection.outgoing.size():
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
                    self.watch(fd, KIND_LISTENER | <uint64_t><int>fd)
            for slot in range(self.slots):
                place = &self.sockets[slot]
                if place.fd < 0:
                    continue
                connection = <Connection>self.connections[slot]
                if not connection.hello_done and now_us - place.opened_us > HELLO_S * 1000000:
                    self.drop(slot, f"no hello within {HELLO_S} s")
                elif connection.outgoing.size() == 0 or place.sent_bytes != place.sent_bytes_seen:
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
            began = self.now_us = clock_us(CLOCK_MONOTONIC)
            self.run_pass()
            ended_us = clock_us(CLOCK_MONOTONIC)
            self.pass_us.record(ended_us - began)
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
        """A tick every TICK_MS while requests are under way, none while not: an idle node sleeps."""
        cdef itimerspec every
        cdef bint wanted = self.handler.needs_time()
        if wanted == self.timer_armed:
            return 0
        memset(&every, 0, sizeof(every))
        if wanted:
            every.it_value.tv_nsec = every.it_interval.tv_nsec = TICK_MS * 1000000
        timerfd_settime(self.timer_fd, 0, &every, NULL)
        self.timer_armed = wanted
        return 0

    cdef int handle_event(self, uint64_t data, uint32_t bits) except -1:
        cdef uint64_t kind = data & KIND_MASK
        cdef uint64_t drained
        cdef Py_ssize_t slot
        if kind == KIND_LISTENER:
            return self.accept_all(<int>(data & 0xFFFFFFFF))
        if kind == KIND_TIMER:
            read(self.timer_fd, &drained, 8)
            return 0
        if kind == KIND_WAKE:
            read(self.wake_fd, &drained, 8)
            return 0
        if kind == KIND_SYNC:
            return self.handler.synced()
        slot = <Py_ssize_t>(data & 0xFFFFFFFF)
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
            return self.drop(slot, "closed by the other side" if n == 0 else os.strerror(c_errno))
        self.received_bytes += n
        try:
            # Of a stranger's bytes nothing is foreseen; what was foreseen of another's, in this same memory, must be forgotten (!).
            self.handler.foresee(self.scratch, n if connection.hello_done else 0)
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

    cdef int account(self, Py_ssize_t slot) except -1:
        """Counts what this connection has buffered; too much of all, and more than its share of it, and it goes."""
        cdef Connection connection = <Connection>self.connections[slot]
        cdef uint64_t n = connection.incoming.size() + connection.outgoing.size()
        self.buffered_bytes += n - self.sockets[slot].buffered_bytes
        self.sockets[slot].buffered_bytes = n
        if self.buffered_bytes <= self.buffered_bytes_max or n <= FAIR_BYTES or connection.peer is not None:
            return 0
        self.crowded_out += 1
        return self.drop(slot, "too much is buffered for all connections together, and this one holds more than its share")

    # Sockets --------------------------------------------------------------------------------------------------------------------

    cdef int watch(self, int fd, uint64_t data) except -1:
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = data
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0:
            raise OSError(c_errno, f"cannot watch a descriptor: {os.strerror(c_errno)}")
        return 0

    cdef int accept_all(self, int listen_fd) except -1:
        cdef int fd
        while True:
            fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if c_errno in OUT_OF_DESCRIPTORS:
                    self.pause_accepting()
                return 0
            if self.open_connections >= self.limits.connections_max:
                self.refused += 1
                close(fd)
                continue
            self.accepted += 1
            try:
                self.add(fd, None, None)
            except OSError as error:
                log.warning("a new connection was closed at once: %s", error)

    cdef int pause_accepting(self) except -1:
        """The listeners would stay readable and the loop spin: nobody is accepted until the next sweep."""
        log.warning("out of file descriptors: new connections wait")
        self.accepting = False
        for fd in self.listeners:
            epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, fd, NULL)
        return 0

    cdef Connection add(self, int fd, object owner, str label):
        """A descriptor becomes a Connection in a free slot, watched for input."""
        cdef Connection connection = Connection(self.handler, self.outbox, frame_bytes_max=self.limits.frame_bytes_max,
                                                outgoing_bytes_max=self.limits.outgoing_bytes_max, label=label or f"fd {fd}")
        cdef Py_ssize_t slot
        cdef epoll_event event
        self.options(fd)
        if self.free_slots:
            slot = self.free_slots.pop()
            self.connections[slot], self.socket_objects[slot] = connection, owner
        else:
            slot = len(self.connections)
            self.connections.append(connection)
            self.socket_objects.append(owner)
            self.grow(slot + 1)
        self.generation = (self.generation + 1) & 0xFFFFFF  # a kind stands in the top byte
        connection.slot, connection.generation = slot, self.generation
        memset(&self.sockets[slot], 0, sizeof(Socket))
        self.sockets[slot].fd = fd
        self.sockets[slot].ours = owner is None
        self.sockets[slot].armed = EPOLLIN | EPOLLRDHUP
        self.sockets[slot].opened_us = clock_us(CLOCK_MONOTONIC)
        self.open_connections += 1
        event.events = self.sockets[slot].armed
        event.data.u64 = (<uint64_t>connection.generation << 32) | <uint64_t>slot
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0:
            problem = c_errno
            self.drop(slot, os.strerror(problem))
            raise OSError(problem, f"cannot watch a connection: {os.strerror(problem)}")
        return connection

    def options(self, int fd):
        """No delay for small answers; a peer that vanished without a word is noticed within about two minutes."""
        borrowed = None
        try:
            borrowed = socket.socket(fileno=fd)
            borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)
        except OSError:
            pass  # the other side has reset it already; the first receive will tell
        finally:
            if borrowed is not None:
                borrowed.detach()

    def grow(self, Py_ssize_t wanted):
        cdef Py_ssize_t slot, target = max(64, self.slots)
        cdef Socket *grown
        while target < wanted:
            target *= 2
        if target == self.slots:
            return
        grown = <Socket *>realloc(self.sockets, target * sizeof(Socket))
        if grown == NULL:
            raise MemoryError
        for slot in range(self.slots, target):
            grown[slot].fd = -1
        self.sockets, self.slots = grown, target

    cdef int drop(self, Py_ssize_t slot, str reason) except -1:
        """Closes the socket, frees the slot, tells the handler, whose bugs end no other connection."""
        cdef Connection connection = <Connection>self.connections[slot]
        owner = self.socket_objects[slot]
        connection.close(reason)
        if owner is None:
            close(self.sockets[slot].fd)
        else:
            owner.close()
        self.sockets[slot].fd = -1
        self.buffered_bytes -= self.sockets[slot].buffered_bytes
        self.connections[slot] = self.socket_objects[slot] = None
        connection.slot = -1
        self.free_slots.append(slot)
        self.open_connections -= 1
        try:
            self.handler.closed(connection)
        except Exception:
            self.handler_errors += 1
            log.exception("a bug met the end of %s", connection.label)
        return 0

    cdef int arm(self, Py_ssize_t slot, uint32_t bits) except -1:
        cdef epoll_event event
        if self.sockets[slot].armed == bits:
            return 0
        self.sockets[slot].armed = bits
        event.events = bits
        event.data.u64 = (<uint64_t>(<Connection>self.connections[slot]).generation << 32) | <uint64_t>slot
        epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, self.sockets[slot].fd, &event)
        return 0

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
        cdef size_t waiting = connection.outgoing.size()
        cdef uint32_t bits = 0
        cdef ssize_t n = 0
        if waiting:
            n = send(self.sockets[slot].fd, connection.outgoing.data + connection.outgoing.head, waiting, MSG_NOSIGNAL | MSG_DONTWAIT)
            if n < 0:
                if c_errno != errno.EAGAIN and c_errno != errno.EINTR:
                    return self.drop(slot, os.strerror(c_errno))
                n = 0
            connection.outgoing.consume(n)
            self.sockets[slot].sent_bytes += n
            self.sent_bytes += n
            waiting -= n
        if connection.closing and (waiting == 0 or connection.close_reason is None):
            return self.drop(slot, connection.close_reason or "closed")
        if waiting:
            bits |= EPOLLOUT
        # A client that reads more slowly than it asks is not read from until it has caught up. A peer always is: two nodes that
        # waited for each other so would wait for ever; its answers are bounded by outgoing_bytes_max alone.
        if not connection.closing and (waiting < HIGH_WATER or connection.peer is not None):
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
