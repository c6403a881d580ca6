"""Put ids that the log remembers; see logged_puts.pyx."""

from libc.stdint cimport int64_t

from dynamo_fast.core.put_ids cimport PutIds
from dynamo_fast.storage.engine cimport ReplayVisitor


cdef class LoggedPuts(ReplayVisitor):
    cdef readonly PutIds ids
    cdef int64_t not_before_ms      # since 1970: older versions are past being tried again
    cdef int64_t deadline_ms        # the longest that a put may have
    cdef int64_t now_ms             # on the clock of the data plane
