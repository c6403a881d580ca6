"""The desk at which requests are taken: what a put and a get have in common before and after they differ.

It knows the requests under way, their deadlines, the policies of buckets, the cluster as it is now and the time of the pass; it
refuses, begins, forwards. `put.pyx` and `get.pyx` are the two kinds of request; `coordinator.pyx` holds it all together.

A node that is no home of the key forwards once and relays the answer; a request that was forwarded is never forwarded again. When it
can ask no home it coordinates as a fallback, unless homes alone were asked for.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

from dynamo_fast.core.options import BUCKET_SAYS_NOTHING
from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.core.bytes cimport store_u32
from dynamo_fast.node.answers cimport answer_bytes, refuse
from dynamo_fast.node.requests cimport slot_asked_of
from dynamo_fast.wire.data_messages cimport (
    MESSAGE_KEY_BYTES_MAX,
    MESSAGE_PUT_REPLY,
    STATUS_NOT_ENOUGH_REPLICAS,
    STATUS_OVERLOAD,
    STATUS_QUORUM_FAILED,
    STATUS_STALE_PLACEMENT,
)
from dynamo_fast.wire.frame cimport FRAME_FORWARDED, FRAME_STALE_PLACEMENT

IN_DOUBT = "a node that this was forwarded to before fell silent, and may have done it"


cdef class Desk:
    """Desk(replica, lookahead, detector, cluster_id, limits, requests, cluster_defaults, now_ms): arguments as the Coordinator's."""

    def __cinit__(self, Replica replica not None, Lookahead lookahead not None, FailureDetector detector not None,
                  bytes cluster_id not None, limits, requests, cluster_defaults, int64_t now_ms):
        if len(cluster_id) != 16:
            raise ValueError("a cluster id has 16 bytes")
        memcpy(self.cluster_id, <const char *>cluster_id, 16)
        self.replica = replica
        self.lookahead = lookahead
        self.detector = detector
        self.requests = RequestTable(requests.requests_in_flight_max)
        self.deadlines = DeadlineWheel(now_ms)
        self.policies = {b"": Policy(BUCKET_SAYS_NOTHING, cluster_defaults)}
        self.key_bytes_max = min(limits.key_bytes_max, MESSAGE_KEY_BYTES_MAX)
        self.value_bytes_max = limits.value_bytes_max

    cdef int no(self, Connection client, const FrameHeader *header, uint16_t status, str text) except -1:
        self.refused += 1
        if self.dishonest(self.doubt, header.type + 1, status):
            return refuse(client, header.type + 1, header.request_id, STATUS_QUORUM_FAILED, f"{text}; {IN_DOUBT}")
        return refuse(client, header.type + 1, header.request_id, status, text)

    cdef bint overloaded(self) except -1:
        """Is there no room for one more request? Gets that were answered and wait for late replies make room: a peer that hangs
        must not turn clients away whom the others can serve."""
        cdef RequestTable requests = self.requests
        cdef Request request
        if requests.active < requests.limit:
            return False
        if requests.answered == 0 or 8 * requests.answered < requests.limit:
            return True  # too few to be worth the search
        for request in list(requests.slots):
            if request is not None and request.answered:
                self.given_up += 1
                requests.release(request)
        return False

    cdef Policy policy_of(self, const uint8_t *bucket, size_t bucket_bytes):
        return <Policy>self.policies.get(PyBytes_FromStringAndSize(<const char *>bucket, bucket_bytes) if bucket_bytes else b"")

    cdef int start(self, Request request, Connection client, const FrameHeader *header, int64_t deadline_ms) except -1:
        request.client = client
        request.client_request_id = header.request_id
        request.reply_type = header.type + 1
        request.started_us = self.now_us
        request.deadline_ms = self.now_ms + deadline_ms
        self.requests.add(request)
        return self.deadlines.add(request.deadline_ms, request.token)

    cdef bint coordinates(self, const FrameHeader *header, HomeTable table, uint32_t partition, bint strict) except -1:
        """Does this node coordinate a request to the homes in that table? As one of them; or as a fallback, when no home can be asked
        (paper 4.6): the store stays writable. A strict request wants homes, and one that was forwarded here wanted this node to be one."""
        if table.own[partition] >= 0:
            return True
        return not strict and not header.flags & FRAME_FORWARDED and self.view.own_index >= 0 and self.reachable_home(partition) is None

    cdef Peer reachable(self, ClusterView view, int index):
        """The node when it can be asked now: it has a connection, and is not suspected. Else None."""
        cdef Peer peer = <Peer>view.peers[index]
        return peer if peer is not None and peer.trusted(self.now_ms) else None

    cdef Peer reachable_home(self, uint32_t partition):
        """The first home, in preference order, that can be asked now; None when there is none.

        The homes that reads go to, for puts too: in the middle of a change of members the nodes that are a step behind or ahead write
        to those as well, but not yet, or no longer, to the others.
        """
        cdef HomeTable table = self.view.reads
        cdef const uint16_t *homes = table.nodes + partition * table.width
        cdef Peer peer
        cdef uint32_t slot
        for slot in range(table.counts[partition]):
            peer = self.reachable(self.view, homes[slot])
            if peer is not None:
                return peer
        return None

    cdef int slot_of_answer(self, Request request, Connection peer) except -2:
        """The slot that an answer on that connection counts in, -1: none."""
        return slot_asked_of(request, request.view.index_of.get(peer.peer, -1))

    cdef int forward(self, Connection client, const FrameHeader *header, const uint8_t *body, uint32_t partition, int64_t deadline_ms,
                     size_t deadline_at) except -1:
        """Hands a request to the first reachable home; the home's answer is relayed as it comes. One that goes away or falls silent
        meanwhile has a successor (Coordinator.go_on)."""
        cdef Peer peer = self.reachable_home(partition)
        cdef Connection home
        cdef ForwardRequest request
        cdef uint8_t *out
        if header.flags & FRAME_FORWARDED:
            return self.no(client, header, STATUS_STALE_PLACEMENT, "this node is no home of the key; refresh the placement and ask again")
        if peer is None:
            return self.no(client, header, STATUS_NOT_ENOUGH_REPLICAS, "no home replica of the key is reachable from this node; try another")
        home = peer.connection
        request = ForwardRequest.__new__(ForwardRequest)
        request.view = self.view
        request.home = self.view.index_of[peer.node_id]
        request.body = PyBytes_FromStringAndSize(<const char *>body, header.body_bytes)
        request.doubt = self.doubt
        self.start(request, client, header, deadline_ms)
        try:
            out = home.begin(header.type, FRAME_FORWARDED, 0, request.token, header.body_bytes)
        except OutgoingFull:
            self.requests.release(request)
            return self.no(client, header, STATUS_OVERLOAD, "the home replica of the key is overloaded; slow down")
        memcpy(out, body, header.body_bytes)
        store_u32(out + deadline_at, <uint32_t>deadline_ms)
        self.forwards += 1
        peer.suspicion.asked += 1
        return home.finish()

    cdef bint dishonest(self, bint doubt, uint8_t reply_type, uint16_t status) noexcept:
        """Of a put that another node may have done nobody can say that it was certainly not applied."""
        return doubt and reply_type == MESSAGE_PUT_REPLY and 16 <= status < 64

    cdef int forwarded(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """The answer to what we forwarded: relayed, with the hint that the client could have asked a home itself."""
        cdef Request found = self.requests.get(header.request_id)
        if (type(found) is not ForwardRequest or found.reply_type != header.type
                or found.view.index_of.get(peer.peer, -1) != (<ForwardRequest>found).home):
            return 0
        if self.dishonest((<ForwardRequest>found).doubt, header.type, header.status):
            refuse(found.client, header.type, found.client_request_id, STATUS_QUORUM_FAILED,
                   f"{body[:header.body_bytes].decode('utf-8', 'replace')}; {IN_DOUBT}")
            return self.requests.release(found)
        answer_bytes(found.client, header.type, header.flags | FRAME_STALE_PLACEMENT, header.status, found.client_request_id,
                     body, header.body_bytes)
        return self.requests.release(found)
