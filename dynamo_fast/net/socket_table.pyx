"""The sockets behind connections: slots, what epoll is asked about each, and the limits on their number and memory.

A socket lives in a slot; its events carry the slot and a generation, so that what epoll still says of a closed connection is not
believed of the one that has its slot now. Limits: connections beyond connections_max are closed as they are accepted; when the
buffers of all connections together pass buffered_bytes_max, clients that hold more than FAIR_BYTES are closed as they are met; out
of descriptors, nobody is accepted until the next sweep.
"""

import errno
import logging
import os
import socket

from libc.errno cimport errno as c_errno
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from dynamo_fast.net.linux cimport *

log = logging.getLogger("dynamo_fast.net")

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

cdef enum:
    FAIR_BYTES = 65536              # what a client may always have buffered


cdef class SocketTable:
    """SocketTable(handler, outbox, limits): the reactor's half that knows of descriptors."""

    def __cinit__(self, FrameHandler handler not None, Outbox outbox not None, limits):
        self.epoll_fd = -1
        self.frame_handler = handler
        self.outbox = outbox
        self.limits = limits
        self.buffered_bytes_max = limits.buffered_bytes_max
        self.listeners = {}
        self.connections = []
        self.socket_objects = []
        self.free_slots = []
        self.accepting = True
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            raise OSError(c_errno, f"no descriptor for the loop: {os.strerror(c_errno)}")

    def __dealloc__(self):
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        for slot in range(self.slots):
            if self.sockets[slot].fd >= 0 and self.sockets[slot].ours:
                close(self.sockets[slot].fd)
        free(self.sockets)

    def listen(self, listener):
        """Accept connections from a listening, non-blocking socket, which stays open until `stop_listening`."""
        self.listeners[listener.fileno()] = listener
        self.watch(listener.fileno(), event_data(LISTENER, <uint64_t><int>listener.fileno()))

    def stop_listening(self):
        """Accept no more; connections that are open stay."""
        for fd, listener in self.listeners.items():
            epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, fd, NULL)
            listener.close()
        self.listeners.clear()

    def adopt(self, dialled):
        """A connected, non-blocking socket becomes a Connection; the reactor owns the socket from here on."""
        try:
            host, port = dialled.getpeername()[:2]
        except OSError:
            host, port = "reset", "at once"  # the first receive will tell
        return self.add(dialled.fileno(), dialled, f"{host}:{port}")

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
        cdef Connection connection = Connection(self.frame_handler, self.outbox, frame_bytes_max=self.limits.frame_bytes_max,
                                                message_bytes_max=self.limits.message_bytes_max,
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

    cdef int watch(self, int fd, uint64_t data) except -1:
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = data
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0:
            raise OSError(c_errno, f"cannot watch a descriptor: {os.strerror(c_errno)}")
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

    cdef int account(self, Py_ssize_t slot) except -1:
        """Counts what this connection has buffered; too much of all, and more than its share of it, and it goes."""
        cdef Connection connection = <Connection>self.connections[slot]
        cdef uint64_t n = connection.held()
        self.buffered_bytes += n - self.sockets[slot].buffered_bytes
        self.sockets[slot].buffered_bytes = n
        if self.buffered_bytes <= self.buffered_bytes_max or n <= FAIR_BYTES or connection.peer is not None:
            return 0
        self.crowded_out += 1
        return self.drop(slot, "too much is buffered for all connections together, and this one holds more than its share")

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
            self.frame_handler.closed(connection)
        except Exception:
            self.handler_errors += 1
            log.exception("a bug met the end of %s", connection.label)
        return connection.let_go()
