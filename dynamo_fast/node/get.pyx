"""Coordinating a get (paper 4.5, 5): our own copy, questions to other homes, and the merge of what they answer.

`begin` is the client's frame, `ask` one question, `answered` one home's answer; `settle` answers the client once R homes have
answered and the merge covers the client's session, then stays for the late ones and hands whoever lags to read repair. For a home
that cannot be had its substitute is asked (`sloppy_quorum.pyx`), which may hold what the home has missed.

Who is asked: as many as R needs, the others are spared. They are asked after all when an answer differs from our copy, somebody
fails or refuses, the answers will not do, or an answer is later than usual (a hedge). One get in `ask_all_every` asks all at once, and so
does every get while a home is away, since who stands in for it may hold what the others have missed. What is spared is only work:
read repair of homes that nobody asked is anti-entropy's.

What an answer proves:
  * an object is always true: it is merged, whoever it comes from;
  * "nothing" from a home proves that the key was not there; from substitutes alone it proves nothing, and the client is told so;
  * what a damaged record, or for a strict get a home that may have lost data, does not show may have been there: it does not count.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize

from dynamo_fast.core.options import OptionsError
from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.core.context cimport context_open
from dynamo_fast.core.quorum cimport quorum_possible, quorum_reached
from dynamo_fast.core.siblings cimport object_check, object_clock, object_clock_count, object_covers, object_reach, object_sibling_count
from dynamo_fast.core.vector_clock cimport CLOCK_ENTRY_BYTES, clock_counter, clock_descends, clock_epoch, clock_timestamp
from dynamo_fast.node.answers cimport UNSURE, answer_get, refuse, shortfall
from dynamo_fast.node.failure_detector cimport Peer
from dynamo_fast.node.read_repair cimport read_repair
from dynamo_fast.node.replica cimport DAMAGED
from dynamo_fast.node.requests cimport STALE, ask_homes, node_in
from dynamo_fast.node.sloppy_quorum cimport look_around, substitute, take_own_slot
from dynamo_fast.wire.data_messages cimport *
from dynamo_fast.wire.frame cimport FRAME_SAME, FRAME_UNSURE

cdef enum:
    HEDGE_MS_MIN = 2   # an answer that is sooner than this is not late
    HEDGE_MS_MAX = 200


cdef class GetCoordinator:
    """GetCoordinator(desk, grace_ms, ask_all_every): what is older than so many milliseconds may have been forgotten; one get in so
    many asks all homes."""

    def __cinit__(self, Desk desk not None, int64_t grace_ms, uint32_t ask_all_every):
        self.desk = desk
        self.grace_ms = grace_ms
        self.ask_all_every = ask_all_every
        self.usual_us, self.spread_us = HEDGE_MS_MIN * 1000.0, 0.0
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
                               message.deadline_ms, desk.view.reads.replicas)
        except OptionsError as error:
            return desk.no(client, header, STATUS_BAD_REQUEST, str(error))
        if desk.overloaded():
            return desk.no(client, header, STATUS_OVERLOAD, "too many requests under way on this node; slow down")
        desk.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
        address.partition = desk.view.reads.ring.partition_of(address.position)
        if not desk.coordinates(header, desk.view.reads, address.partition, plan.strict):
            return desk.forward(client, header, body, address.partition, plan.deadline_ms, GET_DEADLINE_AT)
        request = GetRequest.__new__(GetRequest)
        if message.session_context_bytes:
            request.session = PyBytes_FromStringAndSize(<const char *>message.session_context, message.session_context_bytes)
            if context_open(desk.replica.mac_key, desk.cluster_id, address.position, <const uint8_t *><const char *>request.session,
                            message.session_context_bytes, &request.seen, &request.seen_count, &request.seen_dot) != 0:
                return desk.no(client, header, STATUS_BAD_CONTEXT, "the session's context is not of this key and cluster, or damaged")
        ask_homes(request, desk.view, desk.view.reads, address.partition, plan.r, 0)
        status = desk.replica.find(&address, &own)
        if status == STATUS_KEY_COLLISION:
            return desk.no(client, header, status, "another key has the same position and hash; this one cannot be stored")
        self.started += 1
        desk.start(request, client, header, plan.deadline_ms)
        request.strict = plan.strict
        request.bucket = PyBytes_FromStringAndSize(<const char *>message.bucket, message.bucket_bytes)
        request.key = PyBytes_FromStringAndSize(<const char *>message.key, message.key_bytes)
        take_own_slot(desk, request)
        look_around(desk, request)
        self.take_own(request, status, &own)
        self.ask_enough(request, plan.r)
        return self.settle(request)

    cdef int ask_enough(self, GetRequest request, uint8_t wanted) except -1:
        """Asks the homes that R needs, now these, now those; all of them when it is their turn, or when one is away."""
        cdef int others = request.quorum.homes - 1, first, i, slot
        cdef int needed = wanted - (request.quorum.acked != 0)
        if request.standins or request.quorum.failed & ~(1u << request.own_slot) or self.started % self.ask_all_every == 0:
            needed = others
        first = <int>(self.started % <uint64_t>others) if others else 0
        for i in range(others):
            slot = (request.own_slot + 1 + (first + i) % others) % request.quorum.homes
            if request.quorum.failed & (1u << slot):
                continue
            if i < needed:
                self.ask(request, slot)
            else:
                request.spared |= 1u << slot
        if request.spared and needed > 0:
            self.desk.deadlines.add(self.desk.now_ms + <int64_t>min(max(self.usual_us + 4 * self.spread_us, HEDGE_MS_MIN * 1000.0),
                                                                    HEDGE_MS_MAX * 1000.0) // 1000, request.token)
        return 0

    cdef bint hopeful(self, GetRequest request) noexcept:
        """Could R be reached without those that were spared?"""
        cdef uint32_t failed = request.quorum.failed
        request.quorum.failed |= request.spared
        cdef bint possible = quorum_possible(&request.quorum)
        request.quorum.failed = failed
        return possible

    cdef int ask_spared(self, GetRequest request) except -1:
        cdef int slot
        for slot in range(request.quorum.homes):
            if request.spared & (1u << slot):
                request.spared &= ~(1u << slot)
                self.ask(request, slot)
        return 0

    cdef int hedge(self, GetRequest request) except -1:
        """An answer is later than answers usually are: the others are asked, and whoever is first counts."""
        if request.answered or not request.spared:
            return 0
        self.hedged += 1
        self.ask_spared(request)
        return self.settle(request)

    cdef int take_own(self, GetRequest request, int status, const ObjectView *own) except -1:
        """Our own copy is the first answer."""
        cdef unsigned int bit = 1u << request.own_slot
        request.known_hash = own.hash
        request.version_of[request.own_slot] = 0
        if own.data != NULL:
            request.replace(own.data, own.n)
        if status == DAMAGED:
            request.reasons[request.own_slot] = DAMAGED
            request.version_of[request.own_slot] = STALE
        elif request.strict and self.desk.replica.engine.is_suspect(request.partition):
            request.reasons[request.own_slot] = UNSURE
        else:
            request.quorum.acked |= bit
            return 0
        request.quorum.failed |= bit
        return 0

    cdef int ask(self, GetRequest request, int slot) except -1:
        """READ to whoever is asked in that slot; it names the hash of our copy, so that an equal one need not travel."""
        cdef ReadMessage message
        cdef Peer peer
        cdef uint8_t *out
        message.placement = request.view.placement
        message.known_hash = request.known_hash
        message.flags = 0
        message.bucket, message.bucket_bytes = <const uint8_t *><const char *>request.bucket, <uint8_t>len(request.bucket)
        message.key, message.key_bytes = <const uint8_t *><const char *>request.key, <uint16_t>len(request.key)
        while True:
            peer = <Peer>request.view.peers[node_in(request, slot)]
            request.reasons[slot] = 0
            if peer is not None:
                try:
                    out = peer.connection.begin(MESSAGE_READ, 0, 0, request.token, read_body_bytes(&message))
                except OutgoingFull:
                    request.reasons[slot] = STATUS_OVERLOAD
                else:
                    write_read(out, &message)
                    peer.suspicion.asked += 1
                    return peer.connection.finish()
            request.quorum.failed |= 1u << slot
            if not substitute(self.desk, request, slot):
                return 0

    cdef int fail_over(self, GetRequest request, int slot, uint16_t reason, bint hopeless) except -1:
        """Whoever was asked in that slot does not answer: refused, gone, or (unless `hopeless`) merely silent. While the client waits,
        somebody else is asked; not for a home that is there and has a damaged copy, which read repair must find in its slot."""
        cdef unsigned int bit = 1u << slot
        if request.quorum.acked & bit:
            return 0
        request.spared &= ~bit
        request.quorum.failed |= bit
        request.reasons[slot] = reason
        if not request.answered and reason != DAMAGED and substitute(self.desk, request, slot):
            self.ask(request, slot)
        elif not hopeless:
            request.quorum.failed &= ~bit
        return self.settle(request)

    cdef int answered(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """READ_REPLY: what one home holds."""
        cdef Desk desk = self.desk
        cdef Request found = desk.requests.get(header.request_id)
        cdef GetRequest request
        cdef unsigned int bit
        cdef bint late
        cdef int slot
        if type(found) is not GetRequest:
            return 0
        request = <GetRequest>found
        slot = desk.slot_of_answer(request, peer)
        if slot < 0:
            return 0
        bit = 1u << slot
        # A home that has a substitute by now may answer after all.
        late = request.standins & bit and request.view.index_of.get(peer.peer, -1) != request.standin[slot]
        if request.quorum.acked & bit and not late:
            return 0
        if header.status == STATUS_NOT_FOUND:
            request.take(slot, NULL, 0)
        elif header.status == STATUS_OK and header.flags & FRAME_SAME:
            request.version_of[slot] = 0
        elif (header.status != STATUS_OK or object_check(body, header.body_bytes) != 0
              or not request.take(slot, body, header.body_bytes)):
            # Of a record that it cannot read a home says READ_ONLY, since a status for that alone would tell clients nothing more.
            return 0 if late else self.fail_over(request, slot, DAMAGED if header.status == STATUS_OK
                                                 or header.status == STATUS_READ_ONLY else header.status, True)
        if request.strict and header.flags & FRAME_UNSURE:
            return self.fail_over(request, slot, UNSURE, True)
        if late:
            request.standins &= ~bit  # its own answer proves more than the substitute's, and it may need repair
        request.quorum.failed &= ~bit
        request.quorum.acked |= bit
        if request.spared and (request.version != 0 or request.version_of[slot] != 0):
            self.ask_spared(request)  # copies differ: the newest is wanted, and all that are behind it are repaired
        return self.settle(request)

    cdef bint convincing(self, GetRequest request) noexcept:
        """May the client be answered with what we have? Not with "nothing" when no home has said so."""
        return request.merged != NULL or request.quorum.acked & ~request.standins

    cdef bint covers_session(self, GetRequest request) noexcept:
        """Does the merge cover everything that the client's session has seen? Then it may be shown: reads are monotonic.

        Events older than the grace may have been forgotten by all (`forgetting.py`), and then no answer would ever show them.
        """
        cdef const uint8_t *dot = request.seen_dot
        cdef const uint8_t *entry
        cdef uint32_t i
        if request.session is None:
            return True
        if dot != NULL and not object_covers(request.merged, request.merged_n, dot):
            return False
        if request.merged != NULL and clock_descends(object_clock(request.merged), object_clock_count(request.merged), request.seen,
                                                     request.seen_count):
            return True
        for i in range(request.seen_count):
            entry = request.seen + i * CLOCK_ENTRY_BYTES
            if (<int64_t>clock_timestamp(entry) >= self.desk.wall_ms - self.grace_ms
                    and object_reach(request.merged, request.merged_n, entry, clock_epoch(entry)) < clock_counter(entry)):
                return False
        return True

    cdef int settle(self, GetRequest request) except -1:
        """Answer with R answers that cover the session; stay for the late ones, and repair whoever lags (paper 5)."""
        cdef Desk desk = self.desk
        cdef bint complete = request.complete()
        cdef bint ready = (not request.answered and quorum_reached(&request.quorum) and self.convincing(request)
                           and self.covers_session(request))
        cdef Address address
        cdef double took_us
        if request.spared and not request.answered and not ready and (complete or not self.hopeful(request)):
            self.ask_spared(request)
            complete = request.complete()
        if ready:
            took_us = <double>(desk.now_us - request.started_us)
            self.spread_us += (abs(took_us - self.usual_us) - self.spread_us) / 64
            self.usual_us += (took_us - self.usual_us) / 64
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
                   else "no replica has yet seen what this session has; try again" if self.convincing(request)
                   else "no home of the key can be asked, and the nodes that stand in for them hold nothing: whether it exists is unknown")
            desk.requests.mark_answered(request)
        return self.finish(request) if complete else 0

    cdef int finish(self, GetRequest request) except -1:
        """Nothing more will come, or nothing more is waited for: repair who lags, and forget."""
        self.repairs += read_repair(self.desk, request)
        return self.desk.requests.release(request)
