"""What the data plane asks of Linux: epoll, descriptors for wake-ups and timers, sockets, clocks."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, itimerspec, timespec

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

# What an event is about stands in its data: a slot and its generation, or one of these kinds in the top byte.
cdef enum Kind:
    CONNECTION = 0
    LISTENER = 0xF1
    TIMER = 0xF2
    WAKE = 0xF3
    SYNC = 0xF4


cdef inline uint64_t event_data(Kind kind, uint64_t rest) noexcept nogil:
    return <uint64_t>kind << 56 | rest


cdef inline int64_t clock_us(int which) noexcept nogil:
    cdef timespec now
    clock_gettime(which, &now)
    return <int64_t>now.tv_sec * 1000000 + now.tv_nsec // 1000
