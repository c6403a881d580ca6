"""The thread that makes the log durable; _ext/group_commit.h has the contract."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "group_commit.h" nogil:
    struct group_commit:
        uint64_t written
        uint64_t syncs
        uint32_t count
        int event_fd
    int group_commit_start(group_commit *commit, uint64_t durable)
    int group_commit_add(group_commit *commit, int fd, uint64_t start)
    void group_commit_written(group_commit *commit, uint64_t position)
    void group_commit_request(group_commit *commit)
    uint64_t group_commit_durable(const group_commit *commit)
    int group_commit_failure(const group_commit *commit)
    void group_commit_stop(group_commit *commit)


cdef class GroupCommit:
    cdef group_commit commit
    cdef bint started
    cdef list files                 # files without a descriptor: synced in place, oldest first, and closed when the next one is synced
    cdef uint64_t durable_in_place
    cdef int failure_in_place
    cdef uint64_t syncs_in_place

    # The log goes on in this file from that position.
    cdef int add(self, object file, uint64_t start) except -1
    cdef void written(self, uint64_t position) noexcept
    cdef int request(self) except -1
    cdef uint64_t durable(self) noexcept
    cdef int failure(self) noexcept         # errno of the sync that failed, 0 for none
