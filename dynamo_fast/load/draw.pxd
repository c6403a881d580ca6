"""Which key the next request goes to; explained in draw.pyx."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dynamo_fast.load.keys cimport KeySpace


cdef struct Group:
    uint32_t start           # where the group's keys begin in `members`
    uint32_t count           # how many keys it has
    uint32_t cursor          # the next one of a sequential draw
    double zipf_low          # constants of rejection-inversion for `count` ranks
    double zipf_high
    double zipf_accept


cdef class Draw:
    cdef readonly uint32_t groups
    cdef readonly str order                 # "uniform", "zipf" or "once"
    cdef KeySpace keys
    cdef Group *group                       # owned, `groups` of them
    cdef uint32_t *members                  # owned: key numbers by group; NULL when one group holds all keys in order
    cdef int kind
    cdef double exponent
    cdef uint64_t random

    # A key of the group that has nothing in flight, marked busy; -1 when a sequential draw has reached its end.
    cdef int64_t draw(self, uint32_t group) noexcept nogil
    cdef _split(self, bytes group_of)
    cdef _prepare_zipf(self, Group *group)
    cdef uint32_t _zipf_rank(self, Group *group) noexcept nogil
