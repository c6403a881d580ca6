"""Requests under way: small objects that are fed with replies, and the table that finds them by the number peers echo.

A token is (generation, slot). A slot's generation moves on when its request is released, so a late reply, a timer of a
finished request or a reply of a peer that made one up finds nothing; and nothing has to be searched or removed. A request
holds its client's Connection object itself, not a descriptor, so that an answer can never reach whoever came after.
"""

cimport cython
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from dynamo_fast.core.quorum cimport quorum_begin, quorum_begin_both
from dynamo_fast.core.siblings cimport object_merge


@cython.no_gc
cdef class Request:
    """What all kinds share; not used by itself."""


cdef int ask_homes(Request request, ClusterView view, HomeTable table, uint32_t partition, uint8_t wanted, uint8_t wanted_durable):
    """The request asks the partition's homes in a table of the view; nobody has answered."""
    cdef const uint16_t *hosts = table.hosts + partition * table.width
    request.view, request.table, request.partition = view, table, partition
    request.homes = table.nodes + partition * table.width
    if table.seconds == NULL:
        quorum_begin(&request.quorum, hosts, table.counts[partition], wanted, wanted_durable)
    else:
        quorum_begin_both(&request.quorum, hosts, table.counts[partition], <uint8_t>table.ring.replicas, table.seconds[partition], wanted,
                          wanted_durable)
    return 0


cdef int node_in(Request request, int slot) noexcept:
    """The node that is asked for that slot: its home, or who stands in."""
    return request.standin[slot] if request.standins & (1u << slot) else request.homes[slot]


cdef int slot_asked_of(Request request, int index) noexcept:
    """The slot that an answer of that node counts in: its own as a home, or the one it stands in; -1 when it was not asked."""
    cdef int slot
    for slot in range(request.quorum.homes):
        if request.homes[slot] == index:
            return slot
    if request.standins:
        for slot in range(request.quorum.homes):
            if request.standins & (1u << slot) and request.standin[slot] == index:
                return slot
    return -1


@cython.final
@cython.no_gc
cdef class PutRequest(Request):
    """A put that this node coordinates: waits for W acknowledgements, DW of them durable."""


@cython.final
@cython.no_gc
cdef class GetRequest(Request):
    """A get that this node coordinates: merges what the homes answer, and remembers who lags behind the merge.

    INVARIANT: version_of[i] == version exactly when home i is known to hold `merged`, byte for byte.
    """

    def __cinit__(self):
        self.merged = NULL
        self.merged_n = self.merged_capacity = 0
        memset(self.version_of, UNKNOWN, sizeof(self.version_of))

    def __dealloc__(self):
        free(self.merged)

    cdef int replace(self, const uint8_t *object, size_t n) except -1:
        """`merged` becomes a copy of `object`, which lies elsewhere."""
        cdef uint8_t *grown
        if n > self.merged_capacity:
            grown = <uint8_t *>realloc(self.merged, n)
            if grown == NULL:
                raise MemoryError
            self.merged, self.merged_capacity = grown, n
        memcpy(self.merged, object, n)
        self.merged_n = n
        return 0

    cdef bint take(self, int slot, const uint8_t *object, size_t n) except -1:
        """Home `slot` has answered with `object` (checked before; NULL: it has nothing). False when the two cannot be merged."""
        cdef int which
        cdef size_t made_n = 0
        cdef uint8_t *made
        if object == NULL:
            self.version_of[slot] = STALE if self.merged != NULL else self.version
            return True
        if self.merged == NULL:
            self.replace(object, n)
            self.version += 1
            self.version_of[slot] = self.version
            return True
        made = <uint8_t *>malloc(self.merged_n + n)
        if made == NULL:
            raise MemoryError
        try:
            which = object_merge(self.merged, self.merged_n, object, n, made, self.merged_n + n, &made_n)
            if which == 2:
                self.replace(object, n)
            elif which == 0:
                self.replace(made, made_n)
        finally:
            free(made)
        if which == 2 or which == 0:
            self.version += 1
        self.version_of[slot] = self.version if which == 2 or which == 3 else STALE
        return which >= 0

    cdef bint complete(self) noexcept:
        """Has everyone who was asked answered or failed?"""
        return (self.quorum.acked | self.quorum.failed | self.spared) == (1u << self.quorum.homes) - 1


@cython.final
@cython.no_gc
cdef class ForwardRequest(Request):
    """A request that a home coordinates for us: its answer goes to the client as it comes."""


cdef class RequestTable:
    """RequestTable(limit): at most `limit` requests at once; beyond it clients are told `overload`."""

    def __cinit__(self, Py_ssize_t limit):
        if limit < 1:
            raise ValueError("a node needs room for one request")
        self.generations = <uint32_t *>calloc(limit, sizeof(uint32_t))
        if self.generations == NULL:
            raise MemoryError
        self.slots = []
        self.free = []
        self.limit = limit

    def __dealloc__(self):
        free(self.generations)

    cdef int add(self, Request request) except -1:
        """Gives the request its token. The caller has seen to it that there is room."""
        cdef Py_ssize_t slot
        assert self.active < self.limit
        if self.free:
            slot = <Py_ssize_t>self.free.pop()
            self.slots[slot] = request
        else:
            slot = len(self.slots)
            self.slots.append(request)
        self.active += 1
        # Generation 0 is never given out, so that no token is 0.
        if self.generations[slot] == 0:
            self.generations[slot] = 1
        request.token = (<uint64_t>self.generations[slot] << 32) | <uint64_t>slot
        return 0

    cdef Request get(self, uint64_t token):
        """The request of that token, None when it is over."""
        cdef uint64_t slot = <uint32_t>token
        if slot >= <uint64_t>len(self.slots) or self.generations[slot] != <uint32_t>(token >> 32):
            return None
        return <Request>self.slots[slot]

    cdef int clear(self) except -1:
        """Whatever is under way is over, unheard."""
        for request in list(self.slots):
            if request is not None:
                self.release(request)
        return 0

    cdef int mark_answered(self, Request request) except -1:
        """Its client has its answer; it stays for late replies."""
        assert not request.answered
        request.answered = True
        self.answered += 1
        return 0

    cdef int release(self, Request request) except -1:
        cdef Py_ssize_t slot = <Py_ssize_t><uint32_t>request.token
        assert self.slots[slot] is request
        self.answered -= request.answered
        self.slots[slot] = None
        self.generations[slot] += 1
        self.free.append(slot)
        self.active -= 1
        return 0
