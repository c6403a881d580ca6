# cython: wraparound=True
"""Group commit for the log: one thread in C, or, on a disk whose files have no descriptors, a sync at once.

The thread exists since fdatasync waits: through Python's threads it would cost three times as much per put.
"""

cimport cython

import os


@cython.final
cdef class GroupCommit:
    """`GroupCommit(durable)`: what lies below that position is on disk already. Starts the thread; `stop` ends it."""

    def __cinit__(self, durable: int):
        cdef int code = group_commit_start(&self.commit, durable)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        self.started = True
        self.files = []
        self.durable_in_place = durable

    def __dealloc__(self):
        if self.started:
            group_commit_stop(&self.commit)

    cdef int add(self, object file, uint64_t start) except -1:
        cdef int fd = file.fileno()
        cdef int code
        if fd < 0:
            self.files.append(file)
            return 0
        code = group_commit_add(&self.commit, fd, start)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        return 0

    cdef void written(self, uint64_t position) noexcept:
        group_commit_written(&self.commit, position)

    cdef int request(self) except -1:
        if not self.files:
            group_commit_request(&self.commit)
            return 0
        if self.failure_in_place:
            return 0
        try:
            for file in self.files:
                self.syncs_in_place += 1
                file.sync()
        except OSError as error:
            self.failure_in_place = error.errno
            return 0
        while len(self.files) > 1:
            self.files.pop(0).close()
        self.durable_in_place = self.commit.written
        return 0

    cdef uint64_t durable(self) noexcept:
        return self.durable_in_place if self.files else group_commit_durable(&self.commit)

    cdef int failure(self) noexcept:
        return self.failure_in_place if self.files else group_commit_failure(&self.commit)

    @property
    def syncs(self) -> int:
        """fdatasync calls made."""
        return self.commit.syncs + self.syncs_in_place

    def fileno(self) -> int | None:
        """Readable when a sync is done; None when syncs are done at once."""
        return None if self.files else self.commit.event_fd

    def done(self) -> None:
        """Makes the descriptor unreadable until the next sync is done."""
        if not self.files:
            try:
                os.eventfd_read(self.commit.event_fd)
            except BlockingIOError:
                pass    # somebody asked twice

    def stop(self) -> None:
        """Ends the thread; a sync in progress is waited for. Nothing may be called after that."""
        if self.started:
            self.started = False
            for file in self.files:
                file.close()
            with nogil:
                group_commit_stop(&self.commit)
