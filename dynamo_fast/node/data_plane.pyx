"""The data plane: every frame of every connection comes in here, and every pass ends here.

A *pass* is what the reactor (or the simulator's) does between two waits: it hands over all frames that have arrived, then calls
`end_pass`, then sends. `end_pass` makes one log write for all that the pass has stored; if that fails it says so, and the reactor
drops whatever the pass had appended to any connection: the pass answers nothing.

Clients' frames go to the coordinator, other nodes' to `copies.pyx`, which this builds on, everything else to the control plane.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

import trio

from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire.errors import OutgoingFull, ProtocolError

from dynamo_fast.core.suspicion cimport suspicion_trusts
from dynamo_fast.node.answers cimport answer_bytes
from dynamo_fast.node.copies cimport SyncWaiter, waiter
from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.failure_detector cimport Peer
from dynamo_fast.node.logged_puts cimport LoggedPuts
from dynamo_fast.node.requests cimport Request
from dynamo_fast.node.view cimport ClusterView
from dynamo_fast.storage.engine cimport Engine
from dynamo_fast.wire.connection cimport Connection
from dynamo_fast.wire.data_messages cimport *
from dynamo_fast.wire.frame cimport FrameHeader

FLUSH_S = 10.0  # for another node to read what it was sent


cdef class DataPlane(Copies):
    """DataPlane(node_id, nonce, engine, limits, requests, cluster_defaults, random_bytes, now_ms, control, storage_failed).

    `control(connection, type, status, request_id, body)` gets HELLO and CONTROL frames and every frame type not known here, at once and
    in order, and type 0 for a connection that is gone; it must not block. `storage_failed(error)` hears of a pass that could not be
    written, after which nothing of that pass is answered. The rest is explained at Replica and Coordinator. One DataPlane serves one
    node for its life; it answers "not ready" until it has been told of a cluster and a placement.
    """

    def __init__(self, *, bytes node_id not None, uint64_t nonce, Engine engine not None, limits, requests, cluster_defaults,
                 random_bytes, int64_t now_ms, control, storage_failed):
        self.node_id = node_id
        self.set_up(engine, node_id, nonce, random_bytes, limits, requests, storage_failed)
        salt = int.from_bytes(random_bytes(8), "little")
        self.detector = FailureDetector(requests.suspect_ms, requests.silence_ms_max)
        self.coordinator = Coordinator(self.replica, self.lookahead, self.detector, bytes(16), limits, requests, cluster_defaults, salt,
                                       now_ms)
        self.control = control
        self.cluster_defaults = cluster_defaults
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

    def close(self):
        """Lets go of every request, unheard: it is asked nothing any more. Requests are no business of the garbage collector's (they come
        and go too fast), so a data plane that is dropped while some are under way would stay, with all that it holds, for ever."""
        self.coordinator.desk.requests.clear()

    @property
    def requests_in_flight(self):
        """Requests coordinated here that have no answer yet."""
        return self.coordinator.desk.requests.active - self.coordinator.desk.requests.answered

    def set_placement(self, in_force, hosts, labels):
        """By which placements to work (an InForce), and per node index the host label and a name for messages.

        Peers that are up and in it are in use from now on. Requests under way go on by what was in force when they began.
        """
        cdef ClusterView view = ClusterView(in_force, hosts, labels, self.node_id)
        for node_id, peer in self.detector.peers.items():
            if node_id in view.index_of:
                view.peers[view.index_of[node_id]] = peer
        self.view = view
        self.coordinator.desk.view = view
        self.replica.placement_number = <uint16_t>in_force.hint_number
        self.replica.all_homes = <uint16_t>((1u << <unsigned int>in_force.hint_replicas) - 1)

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

    # Before something is forgotten (forgetting.py) --------------------------------------------------------------------------------

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
            # In order: a message that goes in pieces would be passed by else, and read after the answer (!).
            peer.connection.send(MESSAGE_PING, b"", request_id=ping, in_order=True)
            peer.suspicion.asked += 1
            with trio.move_on_after(FLUSH_S):
                await answered.wait()
        except OutgoingFull:
            return False
        finally:
            del self.pings[ping]
        return answered.is_set()

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
