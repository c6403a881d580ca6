"""The data plane: every frame of every connection comes in here, and every pass ends here.

A *pass* is what the reactor (or the simulator's) does between two waits: it hands over all frames that have arrived, then calls
`end_pass`, then sends. `end_pass` makes one log write for all that the pass has stored; if that fails it says so, and the reactor
drops whatever the pass had appended to any connection: the pass answers nothing.

What asks for durability waits in `sync_queue`, in the order of log positions, until the group commit has passed it.

Here too is the replica's side of coordination: REPLICATE merges and acknowledges, READ shows what is here. Both carry the name of
the placement that the sender works by; another one than ours is refused, because we may not be a home in it.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

from collections import deque

import trio

from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire.errors import OutgoingFull, ProtocolError

from dynamo_fast.node.answers cimport answer_bytes
from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.core.suspicion cimport suspicion_trusts
from dynamo_fast.node.failure_detector cimport Peer
from dynamo_fast.node.logged_puts cimport LoggedPuts
from dynamo_fast.node.replica cimport DAMAGED, Address, ObjectView
from dynamo_fast.node.requests cimport Request
from dynamo_fast.storage.engine cimport FIND_RECORD
from dynamo_fast.storage.schema cimport BUCKET_BYTES_MAX, KEY_BYTES_MAX, STORE_KEY_BYTES, RecordView
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES, FRAME_SAME, FRAME_UNSURE
from dynamo_fast.wire.data_messages cimport *


FLUSH_S = 10.0  # for another node to read what it was sent

cdef enum:
    VERSION_BYTES = 32     # a store key and a hash
    SYNCS_PER_REQUEST = 4  # acknowledgements that wait for the disk at once, for every request that one node may have under way


@cython.final
@cython.freelist(1024)
cdef class SyncWaiter:
    """One acknowledgement that waits for the disk."""


cdef SyncWaiter waiter(Connection peer, uint64_t request_id):
    cdef SyncWaiter made = SyncWaiter.__new__(SyncWaiter)
    made.peer = peer
    made.request_id = request_id
    return made


cdef class DataPlane(PassHandler):
    """DataPlane(node_id, nonce, engine, limits, requests, cluster_defaults, random_bytes, now_ms, control, storage_failed).

    `control(connection, type, status, request_id, body)` gets HELLO and CONTROL frames and every frame type not known here, at once and
    in order, and type 0 for a connection that is gone; it must not block. `storage_failed(error)` hears of a pass that could not be
    written, after which nothing of that pass is answered. The rest is explained at Replica and Coordinator. One DataPlane serves one
    node for its life; it answers "not ready" until it has been told of a cluster and a placement.
    """

    def __init__(self, *, bytes node_id not None, uint64_t nonce, Engine engine not None, limits, requests, cluster_defaults,
                 random_bytes, int64_t now_ms, control, storage_failed):
        self.node_id = node_id
        self.engine = engine
        self.replica = Replica(engine, node_id, nonce, bytes(16), random_bytes)
        self.lookahead = Lookahead(self.replica)
        salt = int.from_bytes(random_bytes(8), "little")
        self.detector = FailureDetector(requests.suspect_ms, requests.silence_ms_max)
        self.coordinator = Coordinator(self.replica, self.lookahead, self.detector, bytes(16), limits, requests, cluster_defaults, salt,
                                       now_ms)
        self.control = control
        self.storage_failed = storage_failed
        self.cluster_defaults = cluster_defaults
        self.pass_waiters = []
        self.sync_queue = deque()
        self.sync_queue_max = SYNCS_PER_REQUEST * requests.requests_in_flight_max
        self.hint_bytes_max = limits.hint_bytes_max
        self.pings = {}

    # What the control plane tells ---------------------------------------------------------------------------------------------

    def set_cluster(self, bytes cluster_id not None, bytes mac_key not None):
        """Which cluster this is and its secret, 16 bytes each; told once, before the first placement."""
        if len(cluster_id) != 16 or len(mac_key) != 16:
            raise ValueError("a cluster id and its secret have 16 bytes each")
        if self.view is not None:
            raise ValueError("a node works for one cluster all its life")
        memcpy(self.replica.mac_key, <const char *>mac_key, 16)
        memcpy(self.coordinator.desk.cluster_id, <const char *>cluster_id, 16)

    def remember_puts(self, LoggedPuts logged not None):
        """What the log has seen lately is a retry when it comes again; told once, before the first request."""
        self.coordinator.puts.patient_ids = logged.ids

    def drain(self):
        """From now on clients' requests are refused as certainly not applied; what is under way is finished, replicas are served."""
        self.draining = True

    @property
    def requests_in_flight(self):
        """Requests coordinated here that have no answer yet."""
        return self.coordinator.desk.requests.active - self.coordinator.desk.requests.answered

    def set_placement(self, uint64_t name, ring, node_ids, hosts, labels):
        """The placement to work by: its 64-bit name, its Ring, and per node index the id, the host label and a name for messages.

        Peers that are up and in it are in use from now on.
        """
        cdef ClusterView view = ClusterView(name, ring, node_ids, hosts, labels, self.node_id)
        for node_id, peer in self.detector.peers.items():
            if node_id in view.index_of:
                view.peers[view.index_of[node_id]] = peer
        self.view = view
        self.coordinator.desk.view = view
        self.replica.placement_number = <uint16_t>(name >> 32)

    def set_buckets(self, settings):
        """All buckets with their BucketSettings, by name; the default bucket is named b''."""
        self.coordinator.set_buckets(settings, self.cluster_defaults)

    def peer_up(self, bytes node_id not None, Connection connection not None):
        """From now on `connection` reaches that node; its HELLO has been answered. Used as soon as a placement has the node."""
        cdef Peer before = self.detector.peers.get(node_id)
        if before is not None:
            if before.connection is connection:
                return
            self.peer_down(node_id)  # what waits for answers on that one would wait in vain
        self.detector.peers[node_id] = Peer(node_id, connection)
        if self.view is not None and node_id in self.view.index_of:
            self.view.peers[self.view.index_of[node_id]] = self.detector.peers[node_id]

    def peer_down(self, bytes node_id not None):
        """That node has no connection any more: requests that wait for it are settled without it."""
        self.detector.peers.pop(node_id, None)
        if self.view is not None and node_id in self.view.index_of:
            self.view.peers[self.view.index_of[node_id]] = None
        self.coordinator.peer_lost(node_id)

    def peers_up(self):
        """Ids of the other nodes of the placement that can be asked now."""
        if self.view is None:
            return []
        return [node_id for node_id, index in self.view.index_of.items() if self.view.peers[index] is not None]

    def suspects(self, bytes node_id not None):
        """Whether that node has a connection and is suspected of being dead all the same."""
        cdef Peer peer = self.detector.peers.get(node_id)
        return peer is not None and not suspicion_trusts(&peer.suspicion, peer.connection.frames)

    # What tasks merge -------------------------------------------------------------------------------------------------------------

    def merge_entries(self, list entries not None):
        """Merges (bucket, key, packed object) triples into this node's copies, in a pass of its own: one log write for all.

        A list of (status, hash) in their order: OK and the hash of what this node holds now; STALE_PLACEMENT for a partition of
        which it is no home; BAD_REQUEST for what is no object or no key; or why the two cannot be merged. Merged objects are
        visible, in the log, and not yet on disk: see `wait_durable`. Raises StorageError when the log cannot be written: then
        this node vouches for none of them.
        """
        cdef Address address
        cdef ObjectView kept
        cdef bytes bucket, key, packed
        cdef int status = STATUS_OK
        cdef list results = []
        for bucket, key, packed in entries:
            kept.hash = 0
            if not 1 <= len(key) <= KEY_BYTES_MAX or len(bucket) > BUCKET_BYTES_MAX:
                results.append((STATUS_BAD_REQUEST, 0))
                continue
            self.replica.locate(<const uint8_t *><const char *>bucket, len(bucket), <const uint8_t *><const char *>key, len(key), &address)
            if self.view is None or self.view.slot_of(self.engine.forest.partition_of(address.position), self.view.own_index) < 0:
                status = STATUS_STALE_PLACEMENT
            else:
                status = self.replica.merge(&address, <const uint8_t *><const char *>packed, len(packed), 0, &kept)
                if status == STATUS_READ_ONLY:
                    break
            results.append((status, kept.hash if status == STATUS_OK else 0))
        try:
            self.engine.end_pass()
        except StorageError as error:
            self.storage_failed(error)
            raise
        if status == STATUS_READ_ONLY:
            raise StorageError(self.engine.read_only or "the engine takes no more records")
        return results

    @property
    def hints_kept(self):
        """How often something has been stored for another node: unchanged means that there is no new hint."""
        return self.replica.hints_kept

    def settle_hints(self, list confirmed not None):
        """Takes note of (store key, hash, slots): the homes in those slots (a bit each) hold that version on disk. How many records are not
        needed any more and gone; whatever has changed since stays. Raises StorageError when the log cannot be written."""
        cdef bytes store_key
        cdef uint64_t hash
        cdef Py_ssize_t removed = 0
        for store_key, hash, slots in confirmed:
            if len(store_key) != 24:
                raise ValueError(f"a store key has 24 bytes, not {len(store_key)}")
            removed += self.replica.settle_owed(<const uint8_t *><const char *>store_key, hash, slots)
        try:
            self.engine.end_pass()
        except StorageError as error:
            self.storage_failed(error)
            raise
        return removed

    # What is forgotten ------------------------------------------------------------------------------------------------------------

    @property
    def oldest_request_us(self):
        """When the oldest request began that is under way here, late answers waited for included; 0: there is none."""
        cdef Request request
        cdef int64_t oldest = 0
        for request in self.coordinator.desk.requests.slots:
            if request is not None and (oldest == 0 or request.started_us < oldest):
                oldest = request.started_us
        return oldest

    async def flush(self, bytes node_id not None):
        """Returns whether that node has read everything that was sent to it before; False when it cannot be told."""
        cdef Peer peer = self.detector.peers.get(node_id)
        if peer is None:
            return False
        self.last_ping += 1
        ping = self.last_ping
        answered = self.pings[ping] = trio.Event()
        try:
            peer.connection.send(MESSAGE_PING, b"", request_id=ping)
            peer.suspicion.asked += 1
            with trio.move_on_after(FLUSH_S):
                await answered.wait()
        except OutgoingFull:
            return False
        finally:
            del self.pings[ping]
        return answered.is_set()

    def holds_versions(self, bytes versions not None):
        """Of (store key, hash) pairs of 32 bytes, the hash little-endian: a byte for each, 1 when the record here has that hash, else 0."""
        cdef const uint8_t *at = <const uint8_t *><const char *>versions
        cdef RecordView view
        cdef Py_ssize_t i, count = len(versions) // VERSION_BYTES
        cdef bytearray held = bytearray(count)
        for i in range(count):
            held[i] = (self.engine.find(at + VERSION_BYTES * i, &view) == FIND_RECORD
                       and view.hash == load_u64(at + VERSION_BYTES * i + STORE_KEY_BYTES))
        return bytes(held)

    def forget(self, bytes versions not None, uint64_t before_ms, uint32_t entries_max):
        """Drops those versions (pairs as in `holds_versions`) that are still held: a record of nothing but deletes goes, of others the
        clock is settled. (records removed, records settled); StorageError when the log cannot be written.

        Only what forgetting.py has made sure of may be dropped.
        """
        cdef const uint8_t *at = <const uint8_t *><const char *>versions
        cdef Py_ssize_t i, done, reaped = 0, settled = 0
        for i in range(len(versions) // VERSION_BYTES):
            done = self.replica.forget(at + VERSION_BYTES * i, load_u64(at + VERSION_BYTES * i + STORE_KEY_BYTES), before_ms, entries_max)
            reaped += done == 1
            settled += done == 2
        try:
            self.engine.end_pass()
        except StorageError as error:
            self.storage_failed(error)
            raise
        return reaped, settled

    async def wait_durable(self, uint64_t position):
        """Returns when the log is on disk up to `position`, a value that the engine's `position` has had.

        Raises StorageError when the disk will not get there, or too many wait for it already.
        """
        cdef SyncWaiter waiting
        await trio.lowlevel.checkpoint()
        self.engine.request_sync()
        if self.engine.durable_position() >= position:
            return
        if self.engine.failed_fsync or len(self.sync_queue) >= self.sync_queue_max:
            raise StorageError(self.engine.read_only or "too many wait for the disk already; try again later")
        waiting = SyncWaiter.__new__(SyncWaiter)
        waiting.event = trio.Event()
        # The queue is in the order of positions.
        waiting.position = max(position, (<SyncWaiter>self.sync_queue[len(self.sync_queue) - 1]).position) if self.sync_queue else position
        self.sync_queue.append(waiting)
        await waiting.event.wait()
        if waiting.failed:
            raise StorageError(self.engine.read_only or "the log could not be synced")

    # Frames -----------------------------------------------------------------------------------------------------------------------

    cdef int frame(self, Connection connection, const FrameHeader *header, const uint8_t *body) except -1:
        cdef int type = header.type
        if type >= MESSAGE_PUT and type <= MESSAGE_PONG:
            if not connection.hello_done:
                raise ProtocolError("the first frame of a connection is HELLO")
            if self.draining and (type == MESSAGE_PUT or type == MESSAGE_GET):
                return self.coordinator.desk.no(connection, header, STATUS_NOT_READY, "this node is stopping; ask another")
            if type == MESSAGE_PUT:
                return self.coordinator.puts.begin(connection, header, body)
            if type == MESSAGE_GET:
                return self.coordinator.gets.begin(connection, header, body)
            if connection.peer is None:
                self.strangers += 1
                raise ProtocolError("only nodes of the cluster send this kind of frame")
            if type == MESSAGE_REPLICATE:
                return self.replicate(connection, header, body)
            if type == MESSAGE_READ:
                return self.read(connection, header, body)
            if type == MESSAGE_PING:
                return self.reply(connection, header, STATUS_OK)
            connection.answers += 1
            if type == MESSAGE_REPLICATE_REPLY:
                return self.coordinator.puts.replicated(connection, header)
            if type == MESSAGE_READ_REPLY:
                return self.coordinator.gets.answered(connection, header, body)
            if type == MESSAGE_PONG:
                if self.pings and header.request_id in self.pings:
                    self.pings[header.request_id].set()
                    self.wants_loop = True
                return 0  # that it came is all it says
            if type == MESSAGE_PUT_REPLY or type == MESSAGE_GET_REPLY:
                return self.coordinator.desk.forwarded(connection, header, body)
        self.control_frames += 1
        self.wants_loop = True
        self.control(connection, type, header.status, header.request_id,
                     PyBytes_FromStringAndSize(<const char *>body, header.body_bytes))
        return 0

    cdef int foresee(self, const uint8_t *data, size_t n) except -1:
        return self.lookahead.foresee(data, n)

    cdef int reply(self, Connection peer, const FrameHeader *header, uint16_t status) except -1:
        return answer_bytes(peer, header.type + 1, 0, status, header.request_id, NULL, 0)

    cdef int replicate(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """REPLICATE: merge, then acknowledge, after the disk if asked to."""
        cdef ReplicateMessage message
        cdef Address address
        cdef ObjectView kept
        cdef int status, owed
        if parse_replicate(body, header.body_bytes, &message) != 0:
            raise ProtocolError("a REPLICATE that cannot be read")
        self.replicates += 1
        if self.view is None or message.placement != self.view.placement:
            status = STATUS_STALE_PLACEMENT
        else:
            self.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
            owed = self.keep_apart(&address, &message)
            status = -owed if owed < 0 else self.replica.merge(&address, message.object, message.object_bytes, <uint16_t>owed, &kept)
        if message.flags & REPLICATE_NO_REPLY:
            return 0
        if status == STATUS_OK and message.flags & REPLICATE_ACK_DURABLE:
            if len(self.sync_queue) + len(self.pass_waiters) >= self.sync_queue_max:
                return self.reply(peer, header, STATUS_OVERLOAD)
            self.pass_waiters.append(waiter(peer, header.request_id))
            return 0
        return self.reply(peer, header, status)

    cdef int keep_apart(self, const Address *address, const ReplicateMessage *message) except -2:
        """For which homes the object is to be kept as a hint: 0 when this node is a home itself; a status below 0: it must not be kept.

        A hint that was taken is never dropped, so one for which there is no room is refused, and not acknowledged (!).
        """
        cdef int slot = message.flags >> REPLICATE_SLOT_SHIFT
        if self.view.slot_of(self.view.ring.partition_of(address.position), self.view.own_index) >= 0:
            return 0
        if not message.flags & REPLICATE_HINT:
            return -STATUS_STALE_PLACEMENT
        if slot >= <int>self.view.ring.replicas:
            return -STATUS_BAD_REQUEST
        if self.replica.hint_bytes + <int64_t>message.object_bytes > self.hint_bytes_max:
            self.hints_refused += 1
            return -STATUS_OVERLOAD
        self.hints_taken += 1
        return 1 << slot

    cdef int read(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """READ: our copy, or SAME when it has the hash that the question names."""
        cdef ReadMessage message
        cdef Address address
        cdef ObjectView own
        cdef int status
        cdef uint8_t flags
        if parse_read(body, header.body_bytes, &message) != 0:
            raise ProtocolError("a READ that cannot be read")
        self.reads += 1
        if self.view is None or message.placement != self.view.placement:
            return self.reply(peer, header, STATUS_STALE_PLACEMENT)
        self.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
        flags = FRAME_UNSURE if self.engine.is_suspect(self.view.ring.partition_of(address.position)) else 0
        status = self.replica.find(&address, &own)
        if status == DAMAGED:
            # An answer of "nothing" would count towards R; a damaged copy proves nothing.
            return self.reply(peer, header, STATUS_READ_ONLY)
        if status != STATUS_OK:
            return answer_bytes(peer, MESSAGE_READ_REPLY, flags, status, header.request_id, NULL, 0)
        if own.hash == message.known_hash:
            return answer_bytes(peer, MESSAGE_READ_REPLY, flags | FRAME_SAME, STATUS_OK, header.request_id, NULL, 0)
        if peer.outgoing.size() + own.n + FRAME_HEADER_BYTES > peer.outgoing.limit:
            return self.reply(peer, header, STATUS_OVERLOAD)
        return answer_bytes(peer, MESSAGE_READ_REPLY, flags, STATUS_OK, header.request_id, own.data, own.n)

    cdef int closed(self, Connection connection) except -1:
        """The reactor has closed a connection; the control plane hears of it as a frame of type 0."""
        self.wants_loop = True
        self.control(connection, 0, 0, 0, b"")
        return 0

    # Passes -----------------------------------------------------------------------------------------------------------------------

    cdef int begin_pass(self, int64_t now_us, int64_t wall_ms) except -1:
        """A pass begins: `now_us` on a clock that never goes back, `wall_ms` since 1970 as this machine believes."""
        cdef Desk desk = self.coordinator.desk
        desk.now_us, desk.now_ms, desk.wall_ms = now_us, now_us // 1000, wall_ms
        return 0

    cdef int end_pass(self) except -1:
        """Deadlines, then one log write for everything stored in this pass. 0, or 1 when that failed: answer nothing."""
        cdef Coordinator coordinator = self.coordinator
        cdef SyncWaiter waiting
        cdef uint64_t position
        cdef Peer peer
        for peer in self.detector.look(coordinator.desk.now_ms):
            coordinator.peer_silent(peer.node_id)
        if coordinator.desk.deadlines.count:
            coordinator.expire()
        try:
            self.engine.end_pass()
        except StorageError as error:
            self.pass_waiters.clear()
            coordinator.pass_failed()
            self.wants_loop = True
            self.storage_failed(error)
            return 1
        if not self.pass_waiters and not coordinator.puts.awaiting_sync:
            return 0
        position = self.engine.log_position()
        for token in coordinator.puts.awaiting_sync:
            if len(self.sync_queue) + len(self.pass_waiters) < self.sync_queue_max:
                self.pass_waiters.append(waiter(None, token))
        coordinator.puts.awaiting_sync.clear()
        for waiting in self.pass_waiters:
            waiting.position = position
        self.sync_queue.extend(self.pass_waiters)
        self.pass_waiters.clear()
        if self.engine.durable_position() < position:
            self.engine.request_sync()
        # Where syncs are done at once nothing else would tell.
        return self.synced() if self.engine.durable_position() >= position else 0

    cdef int synced(self) except -1:
        """The disk has caught up with some of the log: acknowledge what waited for that, ask again for what is left."""
        cdef SyncWaiter waiting
        cdef uint64_t durable
        self.engine.sync_done()
        durable = self.engine.durable_position()
        while self.sync_queue and (<SyncWaiter>self.sync_queue[0]).position <= durable:
            waiting = <SyncWaiter>self.sync_queue.popleft()
            if waiting.event is not None:
                waiting.event.set()
                self.wants_loop = True
            elif waiting.peer is None:
                self.coordinator.puts.durable_here(waiting.request_id)
            else:
                # The connection is not the one whose event we are in: that it does not read must end it and no other (!).
                answer_bytes(waiting.peer, MESSAGE_REPLICATE_REPLY, 0, STATUS_OK, waiting.request_id, NULL, 0)
        if self.sync_queue:
            self.engine.request_sync()
            if self.engine.failed_fsync:
                for waiting in self.sync_queue:
                    if waiting.event is not None:
                        waiting.failed = True
                        waiting.event.set()
        return 0

    cdef bint needs_time(self) noexcept:
        """Is anything under way whose deadline could pass with no frame coming in?"""
        return self.coordinator.desk.requests.active > 0 or self.detector.suspects > 0

    @property
    def needs_ticks(self):
        """Python's `needs_time`, for the simulator."""
        return self.needs_time()

    def start_pass(self, int64_t now_us, int64_t wall_ms):
        """Python's `begin_pass`, for the simulator and for tests."""
        self.begin_pass(now_us, wall_ms)

    def finish_pass(self):
        """Python's `end_pass`: 0, or 1 when nothing of this pass may be answered."""
        return self.end_pass()

    def disk_synced(self):
        """Python's `synced`."""
        self.synced()

    def statistics(self):
        """Counters since the start, and latency histograms in microseconds; the engine's stand beside them."""
        return {
            **self.coordinator.statistics(),
            "replicates": self.replicates, "reads": self.reads, "hints_taken": self.hints_taken, "hints_refused": self.hints_refused,
            "hint_bytes": self.replica.hint_bytes, "control_frames": self.control_frames, "strangers": self.strangers,
            "merges": self.replica.merges, "stored": self.replica.stored, "retries": self.replica.retries,
            "epoch_alarms": self.replica.epoch_alarms, "damaged_records": self.replica.damaged, "sync_queue": len(self.sync_queue),
        }
