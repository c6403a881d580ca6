"""Coordinating a put (paper 4.5, 4.6): refuse what cannot be done, apply it here, send the whole object, count the answers.

Read it from top to bottom: `begin` is the client's frame, `apply` the point of no return, `send` the other homes; their answers come
in through `replicated`, our own disk's through `durable_here`, and `settle` answers the client. A home that cannot be had has a
substitute (`sloppy_quorum.pyx`): from the start, or through `fail_over` once it refuses, falls silent or goes away.

What holds everywhere:
  * Nothing leaves this node before the log write of its pass: frames appended here are sent after `end_pass`, or not at all. So
    this node's own copy counts towards W from the moment it is applied, and towards DW when the log says it is on disk.
  * An answer of "certainly not applied" is given only before `replica.put`; after it, the answer is OK or "unknown".
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy

from dynamo_fast.core.options import OptionsError
from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.core.bytes cimport load_u64, store_u64
from dynamo_fast.core.context cimport CONTEXT_DOT_BYTES, CONTEXT_ENTRIES_MAX, context_bytes, context_open, context_seal
from dynamo_fast.core.put_ids cimport retry_id_of
from dynamo_fast.core.quorum cimport Quorum, quorum_possible, quorum_reached
from dynamo_fast.core.siblings cimport SiblingView, object_clock, object_clock_count, object_next, object_sibling_count
from dynamo_fast.storage.engine cimport FIND_RECORD, ROOM_NONE, ROOM_PLENTY
from dynamo_fast.storage.schema cimport RecordView
from dynamo_fast.node.answers cimport answer_bytes, refuse, shortfall
from dynamo_fast.node.failure_detector cimport Peer
from dynamo_fast.node.requests cimport ask_homes, node_in
from dynamo_fast.node.sloppy_quorum cimport choose_substitute, look_around, substitute, take_own_slot
from dynamo_fast.wire.data_messages cimport *

cdef extern from *:
    int popcount "__builtin_popcount"(unsigned int) noexcept nogil

cdef enum:
    HOLD_SLOPE = 8     # an answer is held a millisecond longer for every so many that storage has been behind,
    HOLD_MS_MAX = 100  # up to this


cdef uint32_t who_syncs(const Quorum *quorum, int own_slot, int w, int dw) noexcept:
    """The slots that are to answer only when what they were sent is on disk: a copy that is needed there costs its answer an fdatasync.

    Our own copy does for one on disk. Between two placements it may be one in one of them alone; then one of those that count in both is
    to tell the other, and the rest need not wait for their disks. Provided that nothing can succeed without one of those: without them
    there are fewer than W in the other placement, and if we are made to count there in place of one of them (`quorum_cover`), our own
    copy does again. Else all are asked.
    """
    cdef uint32_t both = quorum.first & quorum.second
    cdef int in_both = popcount(both)
    cdef bint in_first = quorum.first >> own_slot & 1
    cdef int here = popcount(quorum.first if in_first else quorum.second), there = popcount(quorum.second if in_first else quorum.first)
    if dw == 0 or (dw == 1 and (quorum.second == 0 or both >> own_slot & 1)):
        return 0
    return both if dw == 1 and in_both >= 2 and there - in_both < w and here - in_both <= in_both else 0xffffffff


cdef uint8_t hint_flags(PutRequest request, int slot) noexcept:
    """Whom a hint is for that somebody keeps in place of the home in that slot. Between two placements it is for all homes, of the one in
    which whoever takes it counts slots."""
    return REPLICATE_HINT | (<uint8_t>(slot << REPLICATE_SLOT_SHIFT) if request.quorum.second == 0 else REPLICATE_FOR_ALL)


cdef class PutCoordinator:
    """PutCoordinator(desk, limits, requests, cluster_defaults, salt)."""

    def __cinit__(self, Desk desk not None, limits, requests, cluster_defaults, uint64_t salt):
        self.desk = desk
        self.put_ids = PutIds(salt, requests.put_ids_max)
        desk.lookahead.put_ids = self.put_ids
        self.patient_ids = PutIds(salt, requests.put_ids_max)
        self.usual_deadline_ms = cluster_defaults.deadline_ms
        # What merges make is not refused, so this is what bounds them: of the siblings that one node has made no object holds more than that
        # node held when it made the last of them, and all nodes' together are at most that many times this. What N homes have taken apart
        # from each other still fits one frame, which every client can read; what more nodes have, goes in pieces (wire/long_message.pyx).
        self.object_bytes_max = limits.frame_bytes_max // (cluster_defaults.n + 1)
        self.siblings_max = limits.siblings_max
        self.hint_bytes_max = limits.hint_bytes_max
        self.awaiting_sync = []
        self.latency_us = Histogram()

    cdef int begin(self, Connection client, const FrameHeader *header, const uint8_t *body) except -1:
        """PUT: refuse what cannot be done, apply here, send the whole object to the other homes."""
        cdef Desk desk = self.desk
        cdef PutMessage message
        cdef Address address
        cdef Policy policy
        cdef Plan plan
        cdef uint8_t made_up_id[16]
        cdef int code = parse_put(body, header.body_bytes, &message)
        if code != 0:
            return desk.no(client, header, message_status(code), message_error(code).decode())
        if desk.view is None:
            return desk.no(client, header, STATUS_NOT_READY, "this node does not know the cluster yet; try again or ask another")
        if message.key_bytes > desk.key_bytes_max:
            return desk.no(client, header, STATUS_TOO_LARGE, f"a key of {message.key_bytes} bytes: at most {desk.key_bytes_max}")
        if message.value_bytes > desk.value_bytes_max:
            return desk.no(client, header, STATUS_TOO_LARGE, f"a value of {message.value_bytes} bytes: at most {desk.value_bytes_max}")
        policy = desk.policy_of(message.bucket, message.bucket_bytes)
        if policy is None:
            return desk.no(client, header, STATUS_NO_SUCH_BUCKET, "no such bucket; make it with `dynamo-fast bucket set`")
        try:
            plan = policy.plan(0, message.w, -1 if message.dw == MESSAGE_DW_DEFAULT else message.dw,
                               (message.flags & PUT_STRICT) != 0 if message.flags & PUT_STRICT_GIVEN else -1,
                               message.deadline_ms, desk.view.writes.replicas)
        except OptionsError as error:
            return desk.no(client, header, STATUS_BAD_REQUEST, str(error))
        if desk.overloaded():
            return desk.no(client, header, STATUS_OVERLOAD, "too many requests under way on this node; slow down")
        desk.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
        address.partition = desk.view.reads.ring.partition_of(address.position)
        if not desk.coordinates(header, desk.view.writes, address.partition, plan.strict):
            return desk.forward(client, header, body, address.partition, plan.deadline_ms, PUT_DEADLINE_AT)
        if load_u64(message.put_id) == 0 and load_u64(message.put_id + 8) == 0:
            # No id, so no retry of it is known; but two such puts of one key must not be taken for one (!).
            store_u64(made_up_id, desk.replica.fresh_epoch())
            store_u64(made_up_id + 8, desk.replica.fresh_epoch())
            message.put_id = made_up_id
        return self.apply(PutRequest.__new__(PutRequest), &address, &message, policy, plan, header, client)

    cdef int apply(self, PutRequest request, Address *address, const PutMessage *message, Policy policy, Plan plan,
                       const FrameHeader *header, Connection client) except -1:
        """A put that this node coordinates: the last refusals, then the point of no return."""
        cdef Desk desk = self.desk
        cdef ObjectView made
        cdef uint8_t retry_id[16]
        cdef const uint8_t *context = NULL
        cdef const uint8_t *dot = NULL
        cdef uint32_t entries = 0
        cdef int status
        cdef bint seen
        cdef PutIds ids = self.put_ids if plan.deadline_ms <= self.usual_deadline_ms else self.patient_ids
        if message.context_bytes and context_open(desk.replica.mac_key, desk.cluster_id, address.position, message.context,
                                                  message.context_bytes, &context, &entries, &dot) != 0:
            return desk.no(client, header, STATUS_BAD_CONTEXT, "the context is not of this key and cluster, or damaged; get the key again")
        if desk.replica.engine.room() == ROOM_NONE:
            if desk.replica.engine.read_only is not None:
                return desk.no(client, header, STATUS_READ_ONLY, f"this node takes no writes: {desk.replica.engine.read_only}")
            return desk.no(client, header, STATUS_OVERLOAD, "this node's log is full and its disk is behind; slow down")
        retry_id_of(message.put_id, address.position, retry_id)
        seen = self.put_ids.seen(retry_id) or self.patient_ids.seen(retry_id)
        if not ids.room(plan.deadline_ms, desk.now_ms) and not seen:
            return desk.no(client, header, STATUS_OVERLOAD, "too many puts to remember for retries; slow down")
        ask_homes(request, desk.view, desk.view.writes, address.partition, plan.w, plan.dw)
        request.strict = plan.strict
        take_own_slot(desk, request)
        request.syncing = who_syncs(&request.quorum, request.own_slot, plan.w, plan.dw)
        if self.owed_here(request) and desk.replica.hint_bytes + <int64_t>message.value_bytes > self.hint_bytes_max:
            return desk.no(client, header, STATUS_OVERLOAD, "this node keeps as many hints as it may, and no home of the key can be "
                           "reached from here; nothing was written, ask another node or raise hint_bytes_max")
        look_around(desk, request)
        if not quorum_possible(&request.quorum):
            return desk.no(client, header, STATUS_NOT_ENOUGH_REPLICAS,
                           f"not enough replicas ({shortfall(request, 'was not asked')}); nothing was written, try again")

        status = desk.replica.put(address, message, context, entries, dot, policy.last_write_wins, seen, self.siblings_max,
                                  self.object_bytes_max, desk.wall_ms, self.owed_here(request), &made)
        if status != STATUS_OK:
            return desk.no(client, header, status, f"this node takes no writes: {desk.replica.engine.read_only}"
                           if status == STATUS_READ_ONLY else REFUSALS[status])
        if not seen:
            ids.add(retry_id)
        self.applied += 1
        request.context = self.new_context(address, message, &made, context, entries)
        desk.start(request, client, header, plan.deadline_ms)
        request.quorum.acked |= 1u << request.own_slot
        memcpy(request.store_key, address.store_key, sizeof(request.store_key))
        if plan.dw:
            self.awaiting_sync.append(request.token)
        self.send(request, address, &made)
        self.hold(request)
        return self.settle(request)

    cdef int hold(self, PutRequest request) except -1:
        """Slows down who writes faster than LMDB takes it: while storage is behind, answers wait, the longer the longer it lasts.

        Memory then stays within its limit without a refusal, and reads do not wait. Replicas' writes are never held.
        """
        cdef Desk desk = self.desk
        if desk.replica.engine.room() == ROOM_PLENTY:
            self.slow_since_ms = 0
            return 0
        if self.slow_since_ms == 0:
            self.slow_since_ms = desk.now_ms
        request.held_until_ms = desk.now_ms + min(1 + (desk.now_ms - self.slow_since_ms) // HOLD_SLOPE, HOLD_MS_MAX)
        self.held += 1
        return desk.deadlines.add(request.held_until_ms, request.token)

    cdef bytes new_context(self, const Address *address, const PutMessage *message, const ObjectView *made, const uint8_t *context,
                           uint32_t entries):
        """What the writer has seen now, so that it need not read again: all there is, when its version is the only one; else what it
        had seen before, and the dot of its own version. A clock that covers that dot would cover siblings nobody has shown it. What has no
        room in a context is left out: merges may have made the clock that long since the put that is retried here."""
        cdef SiblingView sibling
        cdef uint8_t own[CONTEXT_DOT_BYTES]
        cdef const uint8_t *dot = NULL
        cdef size_t offset = 0
        while object_next(made.data, made.n, &offset, &sibling) == 1:
            if memcmp(sibling.request_id, message.put_id, 16) == 0:
                memcpy(own, sibling.node, 16)
                store_u64(own + 16, sibling.epoch)
                store_u64(own + 24, sibling.counter)
                store_u64(own + 32, sibling.timestamp_ms)
                dot = own
        if dot != NULL and object_sibling_count(made.data) == 1 and object_clock_count(made.data) <= CONTEXT_ENTRIES_MAX:
            context, entries, dot = object_clock(made.data), object_clock_count(made.data), NULL
        elif load_u64(message.put_id) == 0 and load_u64(message.put_id + 8) == 0:
            dot = NULL  # an id of zeros is nobody's: the sibling found by it may be another writer's (!)
        if entries == CONTEXT_ENTRIES_MAX:
            dot = NULL
        cdef bytes sealed = PyBytes_FromStringAndSize(NULL, context_bytes(entries, dot != NULL))
        context_seal(self.desk.replica.mac_key, self.desk.cluster_id, address.position, context, entries, dot,
                     <uint8_t *><char *>sealed)
        return sealed

    cdef uint16_t owed_here(self, PutRequest request) noexcept:
        """For which homes our own copy is a hint: none, when this node is a home itself; else for the one it stands in for, and for
        those that nobody stands in for. Between two placements all are owed, as `hint_flags` has it."""
        if not request.standins & (1u << request.own_slot):
            return 0
        if request.quorum.second != 0:
            return self.desk.replica.all_homes
        return <uint16_t>((1u << request.own_slot) | request.quorum.failed)

    cdef int send(self, PutRequest request, const Address *address, const ObjectView *made) except -1:
        """REPLICATE to the home in every other slot, or to who stands in for it."""
        cdef ReplicateMessage message
        cdef int slot
        message.placement = request.view.placement
        message.bucket, message.bucket_bytes = address.bucket, <uint8_t>address.bucket_bytes
        message.key, message.key_bytes = address.key, <uint16_t>address.key_bytes
        message.object, message.object_bytes = made.data, <uint32_t>made.n
        for slot in range(request.quorum.homes):
            if slot != request.own_slot and not request.quorum.failed & (1u << slot):
                self.send_to(request, slot, &message)
        return self.keep_for_absent(request, &message) if request.strict and request.quorum.failed else 0

    cdef int send_to(self, PutRequest request, int slot, ReplicateMessage *message) except -1:
        """REPLICATE to whoever is asked in that slot; one whose queue is full has failed, and the next one is asked."""
        cdef Peer peer
        cdef uint8_t *out
        while True:
            peer = <Peer>request.view.peers[node_in(request, slot)]
            message.flags = REPLICATE_ACK_DURABLE if request.syncing >> slot & 1 else 0
            if request.standins & (1u << slot):
                message.flags |= hint_flags(request, slot)
            request.reasons[slot] = 0
            if peer is not None:
                try:
                    out = peer.connection.begin(MESSAGE_REPLICATE, 0, 0, request.token, replicate_body_bytes(message))
                except OutgoingFull:
                    request.reasons[slot] = STATUS_OVERLOAD
                else:
                    write_replicate(out, message)
                    peer.suspicion.asked += 1
                    return peer.connection.finish()
            request.quorum.failed |= 1u << slot
            if not substitute(self.desk, request, slot):
                return 0

    cdef int keep_for_absent(self, PutRequest request, ReplicateMessage *message) except -1:
        """A strict put counts homes alone; an absent home's copy still finds a keeper, who does not answer and does not count."""
        cdef int slot, index
        cdef Peer peer
        cdef uint8_t *out
        for slot in range(request.quorum.homes):
            if not request.quorum.failed & (1u << slot):
                continue
            index = choose_substitute(self.desk, request)
            if index < 0:
                return 0
            peer = <Peer>request.view.peers[index]
            message.flags = REPLICATE_NO_REPLY | hint_flags(request, slot)
            try:
                out = peer.connection.begin(MESSAGE_REPLICATE, 0, 0, 0, replicate_body_bytes(message))
            except OutgoingFull:
                continue
            write_replicate(out, message)
            peer.connection.finish()
        return 0

    cdef int fail_over(self, PutRequest request, int slot, uint16_t reason, bint hopeless) except -1:
        """Whoever was asked in that slot does not answer: refused, gone, or (unless `hopeless`) merely silent. Somebody else is sent what we
        hold of the key now, which is this put's object or one that has it merged in."""
        cdef ReplicateMessage message
        cdef RecordView view
        cdef unsigned int bit = 1u << slot
        if request.quorum.acked & bit:
            return 0
        request.quorum.failed |= bit
        request.reasons[slot] = reason
        if (self.desk.replica.engine.find(request.store_key, &view) == FIND_RECORD and substitute(self.desk, request, slot)):
            message.placement = request.view.placement
            message.bucket, message.bucket_bytes = view.bucket, view.bucket_n
            message.key, message.key_bytes = view.key, view.key_n
            message.object, message.object_bytes = view.object, view.object_n
            self.send_to(request, slot, &message)
        elif not hopeless:
            request.quorum.failed &= ~bit
        return self.settle(request)

    cdef int replicated(self, Connection peer, const FrameHeader *header) except -1:
        """REPLICATE_REPLY: one more copy, or one that will not come."""
        cdef Desk desk = self.desk
        cdef Request found = desk.requests.get(header.request_id)
        cdef int slot
        if type(found) is not PutRequest:
            return 0
        slot = desk.slot_of_answer(found, peer)
        if slot < 0:
            return 0
        if header.status == STATUS_OK:
            found.quorum.failed &= ~(1u << slot)
            found.quorum.acked |= 1u << slot
            found.quorum.durable |= (<PutRequest>found).syncing & (1u << slot)
            return self.settle(<PutRequest>found)
        if found.view.index_of.get(peer.peer, -1) != node_in(found, slot):
            return 0  # a home that has a substitute by now: what that one says counts
        return self.fail_over(<PutRequest>found, slot, header.status, True)

    cdef int durable_here(self, uint64_t token) except -1:
        """Our own copy of that put is on disk."""
        cdef Desk desk = self.desk
        cdef Request found = desk.requests.get(token)
        if type(found) is not PutRequest:
            return 0
        found.quorum.durable |= 1u << found.own_slot
        return self.settle(<PutRequest>found)

    cdef int settle(self, PutRequest request) except -1:
        """Answer when W and DW are there, or cannot come any more. Late replies find the request gone."""
        cdef Desk desk = self.desk
        if quorum_reached(&request.quorum):
            if desk.now_ms < request.held_until_ms:
                return 0
            self.latency_us.record(desk.now_us - request.started_us)
            answer_bytes(request.client, MESSAGE_PUT_REPLY, 0, STATUS_OK, request.client_request_id,
                         <const uint8_t *><const char *>request.context, len(request.context))
            return desk.requests.release(request)
        if quorum_possible(&request.quorum):
            return 0
        desk.failed += 1
        refuse(request.client, MESSAGE_PUT_REPLY, request.client_request_id, STATUS_QUORUM_FAILED,
               f"not enough replicas ({shortfall(request, 'has not answered')}); some hold the write: put again with the same id")
        return desk.requests.release(request)


REFUSALS = {
    STATUS_TOO_MANY_SIBLINGS: "the key has too many siblings; get it, resolve them, and put with the context",
    STATUS_CLOCK_FULL: "the key's clock is full; try again when it has been settled",
    STATUS_TOO_LARGE: "the key's siblings together are too large; get it, resolve them, and put with the context",
    STATUS_KEY_COLLISION: "another key has the same position and hash; this one cannot be stored",
    STATUS_BAD_REQUEST: "the put makes no valid object",
}
