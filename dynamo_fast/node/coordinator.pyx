"""The coordinator: one desk, puts, gets, and what can happen to any request under way: its deadline, or a lost peer.

Start with `put.pyx`; `get.pyx` is its mirror. A request ends in one of three ways: the quorum is there and the client has its answer, it
cannot be reached any more and the client is told so, or its deadline passes here.
"""

from dynamo_fast.core.options import BUCKET_SAYS_NOTHING

from libc.stdint cimport uint32_t

from dynamo_fast.core.bytes cimport store_u32
from dynamo_fast.core.quorum cimport quorum_reached
from dynamo_fast.node.answers cimport SILENT, refuse, shortfall
from dynamo_fast.node.policy cimport Policy
from dynamo_fast.node.requests cimport ForwardRequest, GetRequest, PutRequest, Request, node_in, slot_asked_of
from dynamo_fast.node.get cimport GET_DEADLINE_AT
from dynamo_fast.node.put cimport PUT_DEADLINE_AT
from dynamo_fast.wire.data_messages cimport MESSAGE_PUT_REPLY, STATUS_DEADLINE, STATUS_QUORUM_FAILED, STATUS_READ_ONLY
from dynamo_fast.wire.frame cimport FrameHeader


cdef class Coordinator:
    """Coordinator(replica, lookahead, detector, cluster_id, limits, requests, cluster_defaults, salt, now_ms).

    `limits` and `requests` are those sections of the configuration; `salt` is any random 64-bit number.
    """

    def __cinit__(self, Replica replica not None, Lookahead lookahead not None, FailureDetector detector not None,
                  bytes cluster_id not None, limits, requests, cluster_defaults, uint64_t salt, int64_t now_ms):
        self.desk = Desk(replica, lookahead, detector, cluster_id, limits, requests, cluster_defaults, now_ms)
        self.puts = PutCoordinator(self.desk, limits, requests, cluster_defaults, salt)
        self.gets = GetCoordinator(self.desk, 1000 * limits.grace_s, requests.ask_all_every)

    cdef int set_buckets(self, settings, cluster_defaults) except -1:
        """All buckets by name; the default bucket, named b"", stands even when it is not among them."""
        self.desk.policies = {name: Policy(bucket, cluster_defaults) for name, bucket in {b"": BUCKET_SAYS_NOTHING, **settings}.items()}
        return 0

    cdef int expire(self) except -1:
        """Everything whose deadline has passed is answered: unknown for a put that was applied here, failed for a get."""
        cdef Desk desk = self.desk
        cdef Py_ssize_t i, due = desk.deadlines.turn(desk.now_ms)
        cdef Request request
        for i in range(due):
            request = desk.requests.get(desk.deadlines.due.timers[i].token)
            if request is None:
                continue
            if type(request) is PutRequest and (desk.now_ms < request.deadline_ms or (<PutRequest>request).held_until_ms != 0):
                # The time for which its answer was held is over; at the deadline it is over in any case.
                (<PutRequest>request).held_until_ms = 0
                if quorum_reached(&request.quorum) or desk.now_ms < request.deadline_ms:
                    self.puts.settle(<PutRequest>request)
                    continue
            if type(request) is GetRequest and desk.now_ms < request.deadline_ms:
                self.gets.hedge(<GetRequest>request)
                continue
            if not request.answered:
                self.expired += 1
                refuse(request.client, request.reply_type, request.client_request_id, STATUS_DEADLINE,
                       "the node this was forwarded to did not answer in time" if type(request) is ForwardRequest
                       else f"deadline passed ({shortfall(request, 'timed out')})")
            if type(request) is GetRequest:
                self.gets.finish(<GetRequest>request)
            else:
                desk.requests.release(request)
        return 0

    cdef int pass_failed(self) except -1:
        """The log write of this pass has failed: of the puts that began in it this node holds nothing that it could vouch for (!).

        They stay, and are answered as unknown when their deadline, or whatever else settles them, comes.
        """
        cdef Desk desk = self.desk
        cdef Request request
        cdef uint32_t own
        for request in desk.requests.slots:
            if type(request) is PutRequest and request.started_us == desk.now_us:
                own = 1u << request.own_slot
                request.quorum.acked &= ~own
                request.quorum.failed |= own
                request.reasons[request.own_slot] = STATUS_READ_ONLY
        self.puts.awaiting_sync.clear()
        desk.detector.forget_questions()
        return 0

    cdef int peer_lost(self, object node_id) except -1:
        """A peer's connection is gone: whatever waited for it will not come. Requests that began before a change of members have views of
        their own, in which nobody else would notice."""
        cdef Request request
        for request in self.desk.requests.slots:
            if request is not None and request.view is not self.desk.view and node_id in request.view.index_of:
                request.view.peers[request.view.index_of[node_id]] = None
        return self.fail_over(node_id, 0, True)

    cdef int peer_silent(self, object node_id) except -1:
        """A peer is suspected: whatever waits for it may come late or never."""
        return self.fail_over(node_id, SILENT, False)

    cdef int go_on(self, ForwardRequest request, bint hopeless) except -1:
        """The home that a request was forwarded to went away or is silent: the next one is asked, or this node coordinates if there is none.

        A put keeps its id, so doing it twice makes one version, or two that a get shows as one. But from now on a refusal does not
        mean that it was not done.
        """
        cdef Desk desk = self.desk
        cdef FrameHeader header
        cdef bint put = request.reply_type == MESSAGE_PUT_REPLY
        cdef uint8_t *body = <uint8_t *><char *>request.body  # nobody else's copy
        desk.requests.release(request)
        if request.client.closing:
            return 0
        if desk.now_ms >= request.deadline_ms:
            return refuse(request.client, request.reply_type, request.client_request_id, STATUS_QUORUM_FAILED,
                          f"the node this was forwarded to {'went away' if hopeless else 'does not answer'}; whether it was done is unknown")
        header.body_bytes = <uint32_t>len(request.body)
        header.type = request.reply_type - 1
        header.flags = 0
        header.status = 0
        header.request_id = request.client_request_id
        store_u32(body + (PUT_DEADLINE_AT if put else GET_DEADLINE_AT), <uint32_t>(request.deadline_ms - desk.now_ms))
        desk.doubt = True
        try:
            return self.puts.begin(request.client, &header, body) if put else self.gets.begin(request.client, &header, body)
        finally:
            desk.doubt = False

    cdef int fail_over(self, object node_id, uint16_t reason, bint hopeless) except -1:
        """What waits for that node is asked of others where that helps."""
        cdef Request request
        cdef int index, slot
        for request in list(self.desk.requests.slots):
            if request is None or self.desk.requests.get(request.token) is not request:
                continue  # settled while we were at it
            index = request.view.index_of.get(node_id, -1)
            if type(request) is ForwardRequest:
                if index == (<ForwardRequest>request).home:
                    self.go_on(<ForwardRequest>request, hopeless)
                continue
            slot = slot_asked_of(request, index)
            if slot < 0 or node_in(request, slot) != index:
                continue
            if type(request) is PutRequest:
                self.puts.fail_over(<PutRequest>request, slot, reason, hopeless)
            else:
                self.gets.fail_over(<GetRequest>request, slot, reason, hopeless)
        return 0

    cdef dict statistics(self):
        """Counters since the start, and latency histograms in microseconds."""
        cdef Desk desk = self.desk
        return {
            "puts": self.puts.applied, "gets": self.gets.started, "forwards": desk.forwards, "refused": desk.refused,
            "failed": desk.failed, "substitutions": desk.substitutions, "expired": self.expired, "given_up": desk.given_up, "read_repairs": self.gets.repairs,
            "gets_hedged": self.gets.hedged,
            "gets_with_siblings": self.gets.siblings_seen, "requests_in_flight": desk.requests.active - desk.requests.answered,
            "put_ids": len(self.puts.put_ids) + len(self.puts.patient_ids), "puts_held": self.puts.held,
            "put_us": self.puts.latency_us, "get_us": self.gets.latency_us,
            "suspects": desk.detector.suspects, "suspicions": desk.detector.suspicions, "peers_given_up": desk.detector.given_up,
        }
