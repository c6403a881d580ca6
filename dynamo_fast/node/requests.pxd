"""Requests under way; see requests.pyx."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dynamo_fast.core.quorum cimport HOMES_MAX, SLOTS_MAX, Quorum
from dynamo_fast.node.view cimport ClusterView, HomeTable
from dynamo_fast.wire.connection cimport Connection

cdef enum:
    STALE = -1      # GetRequest.version_of: answered, with less than we know by now
    UNKNOWN = -2    # has not answered

cdef class Request:
    cdef uint64_t token             # what peers echo: generation << 32 | slot
    cdef Connection client          # who is waiting
    cdef uint64_t client_request_id
    cdef uint8_t reply_type
    cdef bint answered
    cdef int64_t started_us         # both on the clock that `begin_pass` brings
    cdef int64_t deadline_ms
    cdef ClusterView view           # the cluster as it was when it began
    cdef HomeTable table            # of the view: whose homes it asks; None of one that was forwarded
    cdef const uint16_t *homes      # by slot: the node index of the home; memory of the table
    cdef uint32_t partition
    cdef Quorum quorum
    cdef uint16_t reasons[SLOTS_MAX]  # by slot, once failed: 0 unreachable, or the status it refused with
    cdef bint strict                # homes alone count
    cdef uint8_t own_slot           # the slot in which this node's own copy counts
    cdef uint32_t standins          # bit i: another node than the home stands in slot i
    cdef uint16_t standin[SLOTS_MAX]  # by slot, where that bit is set: its node index
    cdef uint64_t tried             # bit i: the fallback number i of the partition's order was tried

cdef int ask_homes(Request request, ClusterView view, HomeTable table, uint32_t partition, uint8_t wanted, uint8_t wanted_durable)
cdef int node_in(Request request, int slot) noexcept
cdef int slot_asked_of(Request request, int index) noexcept

cdef class PutRequest(Request):
    cdef bytes context              # the answer, sealed when the put was applied here
    cdef uint8_t store_key[24]      # where the object stands, should it have to be sent to somebody else
    cdef uint32_t syncing           # bit i: whoever is asked in slot i is to answer when it is on its disk
    cdef int64_t held_until_ms      # not answered before, because storage is behind; 0: at once

cdef class GetRequest(Request):
    cdef bytes bucket
    cdef bytes key
    cdef bytes session              # a context that the answer must cover, or None; what it holds:
    cdef const uint8_t *seen
    cdef const uint8_t *seen_dot    # NULL: none
    cdef uint32_t seen_count
    cdef uint64_t known_hash        # of this node's own copy, 0: it had none
    cdef uint32_t spared            # bit i: slot i has not been asked, and is not unless it is needed
    cdef uint8_t *merged            # the merge of all answers so far; NULL: nobody had anything
    cdef size_t merged_n
    cdef size_t merged_capacity
    cdef int8_t version             # counts the changes of `merged`; 0 is this node's own copy
    cdef int8_t version_of[HOMES_MAX]  # by home, a get asks those in one placement: the version it has shown, STALE or UNKNOWN

    cdef bint take(self, int slot, const uint8_t *object, size_t n) except -1
    cdef int replace(self, const uint8_t *object, size_t n) except -1
    cdef bint complete(self) noexcept

cdef class ForwardRequest(Request):
    cdef int home                   # node index of the home that was asked
    cdef bytes body                 # of the request, should another node have to be asked
    cdef bint doubt                 # another one was asked before, and may have done it

cdef class RequestTable:
    cdef list slots                 # Request or None
    cdef list free                  # numbers of free slots
    cdef uint32_t *generations      # by slot; moves on at every release
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t active
    cdef readonly Py_ssize_t answered  # of the active ones: their client has its answer, late replies are waited for

    cdef int add(self, Request request) except -1
    cdef Request get(self, uint64_t token)
    cdef int clear(self) except -1
    cdef int mark_answered(self, Request request) except -1
    cdef int release(self, Request request) except -1
