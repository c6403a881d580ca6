"""Coordinating a get (paper 4.5, 5): our own copy, a question to every other home, and the merge of what they answer.

`begin` is the client's frame, `send` the questions, `answered` one home's answer; `settle` answers the client once R homes have
answered and the merge covers the client's session, then stays for the late ones and hands whoever lags to read repair.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize

from dynamo_fast.core.options import OptionsError
from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.core.context cimport context_open
from dynamo_fast.core.quorum cimport quorum_begin, quorum_possible, quorum_reached
from dynamo_fast.core.siblings cimport object_check, object_clock, object_clock_count, object_counter, object_sibling_count
from dynamo_fast.core.vector_clock cimport clock_descends
from dynamo_fast.node.answers cimport answer_get, refuse, shortfall
from dynamo_fast.node.read_repair cimport read_repair
from dynamo_fast.node.replica cimport DAMAGED
from dynamo_fast.wire.data_messages cimport *
from dynamo_fast.wire.frame cimport FRAME_SAME

cdef enum:
    DEADLINE_AT = 8    # where the deadline stands in a GET's body


cdef class GetCoordinator:
    """GetCoordinator(desk)."""

    def __cinit__(self, Desk desk not None):
        self.desk = desk
        self.latency_us = Histogram()

    cdef int begin(self, Connection client, const FrameHeader *header, const uint8_t *body) except -1:
        """GET: our own copy, a question to every other home, and the merge of what comes."""
        cdef Desk desk = self.desk
        cdef GetMessage message
        cdef Address address
        cdef ObjectView own
        cdef Policy policy
        cdef Plan plan
        cdef GetRequest request
        cdef int slot, status
        cdef int code = parse_get(body, header.body_bytes, &message)
        if code != 0:
            return desk.no(client, header, message_status(code), message_error(code).decode())
        if desk.view is None:
            return desk.no(client, header, STATUS_NOT_READY, "this node does not know the cluster yet; try again or ask another")
        policy = desk.policy_of(message.bucket, message.bucket_bytes)
        if policy is None:
            return desk.no(client, header, STATUS_NO_SUCH_BUCKET, "no such bucket; make it with `dynamo-fast bucket set`")
        try:
            plan = policy.plan(message.r, 0, -1, (message.flags & GET_STRICT) != 0 if message.flags & GET_STRICT_GIVEN else -1,
                               message.deadline_ms, desk.view.ring.replicas)
        except OptionsError as error:
            return desk.no(client, header, STATUS_BAD_REQUEST, str(error))
        if desk.overloaded():
            return desk.no(client, header, STATUS_OVERLOAD, "too many requests under way on this node; slow down")
        desk.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
        address.partition = desk.view.ring.partition_of(address.position)
        slot = desk.view.slot_of(address.partition, desk.view.own_index)
        if slot < 0:
            return desk.forward(client, header, body, address.partition, plan.deadline_ms, DEADLINE_AT)
        request = GetRequest.__new__(GetRequest)
        if message.session_context_bytes:
            request.session = PyBytes_FromStringAndSize(<const char *>message.session_context, message.session_context_bytes)
            if context_open(desk.replica.mac_key, desk.cluster_id, address.position, <const uint8_t *><const char *>request.session,
                            message.session_context_bytes, &request.seen, &request.seen_count, &request.seen_dot) != 0:
                return desk.no(client, header, STATUS_BAD_CONTEXT, "the session's context is not of this key and cluster, or damaged")
        quorum_begin(&request.quorum, desk.view.hosts_of(address.partition), desk.view.ring.replicas, plan.r, 0)
        status = desk.replica.find(&address, &own)
        if status == STATUS_KEY_COLLISION:
            return desk.no(client, header, status, "another key has the same position and hash; this one cannot be stored")
        self.started += 1
        desk.start(request, client, header, address.partition, plan.deadline_ms)
        desk.count_unreachable(request)
        request.bucket = PyBytes_FromStringAndSize(<const char *>message.bucket, message.bucket_bytes)
        request.key = PyBytes_FromStringAndSize(<const char *>message.key, message.key_bytes)
        if status == DAMAGED:
            # Not "nothing here": our copy may have been the only one that knew. It does not count.
            request.quorum.failed |= 1u << slot
            request.reasons[slot] = DAMAGED
        else:
            if own.data != NULL:
                request.replace(own.data, own.n)
            request.quorum.acked |= 1u << slot
        request.version_of[slot] = 0 if status != DAMAGED else -1
        self.send(request, &address, own.hash)
        return self.settle(request)

    cdef int send(self, GetRequest request, const Address *address, uint64_t known_hash) except -1:
        """READ to every other home; it names the hash of our copy, so that an equal one need not travel."""
        cdef Desk desk = self.desk
        cdef const uint16_t *homes = desk.view.ring.homes(address.partition)
        cdef ReadMessage message
        cdef Connection peer
        cdef uint8_t *out
        cdef int slot
        message.placement = desk.view.placement
        message.known_hash = known_hash
        message.flags = 0
        message.bucket, message.bucket_bytes = address.bucket, <uint8_t>address.bucket_bytes
        message.key, message.key_bytes = address.key, <uint16_t>address.key_bytes
        for slot in range(request.quorum.homes):
            if request.quorum.failed & (1u << slot) or homes[slot] == desk.view.own_index:
                continue
            peer = <Connection>desk.view.connections[homes[slot]]
            try:
                out = peer.begin(MESSAGE_READ, 0, 0, request.token, read_body_bytes(&message))
            except OutgoingFull:
                request.quorum.failed |= 1u << slot
                request.reasons[slot] = STATUS_OVERLOAD
                continue
            write_read(out, &message)
            peer.finish()
        return 0

    cdef int answered(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """READ_REPLY: what one home holds."""
        cdef Desk desk = self.desk
        cdef Request found = desk.requests.get(header.request_id)
        cdef GetRequest request
        cdef int slot
        if type(found) is not GetRequest:
            return 0
        request = <GetRequest>found
        slot = found.view.slot_of(found.partition, found.view.index_of.get(peer.peer, -1))
        if slot < 0 or request.quorum.acked & (1u << slot):
            return 0
        if header.status == STATUS_NOT_FOUND:
            request.take(slot, NULL, 0)
        elif header.status == STATUS_OK and header.flags & FRAME_SAME:
            request.version_of[slot] = 0
        elif (header.status != STATUS_OK or object_check(body, header.body_bytes) != 0
              or not request.take(slot, body, header.body_bytes)):
            request.quorum.failed |= 1u << slot
            # Of a record that it cannot read a home says READ_ONLY, since a status for that alone would tell clients nothing more.
            request.reasons[slot] = DAMAGED if header.status == STATUS_OK or header.status == STATUS_READ_ONLY else header.status
            return self.settle(request)
        request.quorum.failed &= ~(1u << slot)
        request.quorum.acked |= 1u << slot
        return self.settle(request)

    cdef bint covers_session(self, GetRequest request) noexcept:
        """Does the merge cover everything that the client's session has seen? Then it may be shown: reads are monotonic."""
        cdef const uint8_t *dot = request.seen_dot
        if request.session is None:
            return True
        if request.merged == NULL:
            return request.seen_count == 0 and dot == NULL
        if dot != NULL and object_counter(request.merged, request.merged_n, dot, load_u64(dot + 16)) < load_u64(dot + 24):
            return False
        return clock_descends(object_clock(request.merged), object_clock_count(request.merged), request.seen, request.seen_count)

    cdef int settle(self, GetRequest request) except -1:
        """Answer with R answers that cover the session; stay for the late ones, and repair whoever lags (paper 5)."""
        cdef Desk desk = self.desk
        cdef bint complete = request.complete()
        cdef Address address
        if not request.answered and quorum_reached(&request.quorum) and self.covers_session(request):
            self.latency_us.record(desk.now_us - request.started_us)
            desk.replica.locate(<const uint8_t *><const char *>request.bucket, len(request.bucket),
                                <const uint8_t *><const char *>request.key, len(request.key), &address)
            if request.merged != NULL and object_sibling_count(request.merged) > 1:
                self.siblings_seen += 1
            answer_get(request, desk.replica.mac_key, desk.cluster_id, address.position)
            desk.requests.mark_answered(request)
        if not request.answered and (complete or not quorum_possible(&request.quorum)):
            desk.failed += 1
            refuse(request.client, MESSAGE_GET_REPLY, request.client_request_id, STATUS_QUORUM_FAILED,
                   f"not enough replicas ({shortfall(request, 'has not answered')})" if not quorum_reached(&request.quorum)
                   else "no replica has yet seen what this session has; try again")
            desk.requests.mark_answered(request)
        return self.finish(request) if complete else 0

    cdef int finish(self, GetRequest request) except -1:
        """Nothing more will come, or nothing more is waited for: repair who lags, and forget."""
        self.repairs += read_repair(self.desk, request)
        return self.desk.requests.release(request)
