"""N data planes in one process, whose frames, clocks, disks and links are in the test's hand.

A request is played in three steps: a client sends, `run` carries frames from node to node until nothing is under way, the client has
its answer. In between a test may hold back, drop or repeat frames, cut and mend links, let time pass, make a disk fail. Whole frames
travel one by one and every delivery is a pass of the node that receives it, so a test chooses among orders, never among timings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.core.placement import Member, Placement, first_placement
from dynamo_fast.core.ring import Ring
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.wire.connection import Connection, Outbox
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status

MAC_KEY = bytes(range(16))
PARTITIONS = 64
WALL_MS = 1_700_000_000_000


@dataclass
class Answer:
    """What a client got: for an OK the context and, of a get, the siblings; else the sentence."""

    status: Status
    flags: int
    context: bytes = b""
    siblings: list[tuple[bytes, bool, int]] = field(default_factory=list)
    text: str = ""

    @property
    def values(self) -> list[bytes]:
        return sorted(value for value, tombstone, _ in self.siblings if not tombstone)


def answer_of(frame: Frame) -> Answer:
    status = Status(frame.status)
    if status not in (Status.OK, Status.NOT_FOUND):
        return Answer(status, frame.flags, text=frame.body.decode())
    if frame.type == MessageType.PUT_REPLY:
        return Answer(status, frame.flags, frame.body)
    context, siblings = decode_get_reply(frame.body)
    return Answer(status, frame.flags, context, siblings)


@dataclass
class Sent:
    """One frame under way, as `hold`, `drop` and `repeat` see it: from and to which node, and what."""

    origin: int
    target: int
    connection: Connection  # the end that receives it
    frame: Frame

    @property
    def type(self) -> int:
        return self.frame.type


Choice = Callable[[Sent], bool]


def frames(type: MessageType, *, target: int | None = None, origin: int | None = None) -> Choice:
    """A choice of frames by type and by node."""
    return lambda sent: sent.type == type and target in (None, sent.target) and origin in (None, sent.origin)


def new_engine() -> FaultyEngine:
    """The engine of a node that never held anything, and so has lost nothing."""
    engine = FaultyEngine(MemoryEngine(partitions=PARTITIONS))
    for partition in range(PARTITIONS):
        engine.forgive(partition)
    return engine


class PlaneNode:
    """One node: a data plane and its outbox over an engine, which can outlive it."""

    def __init__(self, cluster: Planes, number: int, engine: FaultyEngine, nonce: int) -> None:
        self.number, self.engine, self.nonce = number, engine, nonce
        self.node_id = cluster.node_ids[number]
        self.outbox = Outbox()
        self.plane = DataPlane(
            node_id=self.node_id, nonce=nonce, engine=engine, limits=cluster.limits, requests=cluster.requests,
            cluster_defaults=cluster.defaults, random_bytes=cluster.chance.randbytes, now_ms=cluster.now_ms,
            control=self._control, storage_failed=self._failed,
        )  # fmt: skip
        self.plane.set_cluster(cluster.cluster_id, MAC_KEY)
        self.closed: list[Connection] = []
        self.strange: list[int] = []  # types of frames that reached the control plane
        self.failures: list[StorageError] = []
        self.errors: list[Exception] = []  # what handling a frame has raised, each of which has ended its connection

    def _control(self, connection: Connection, type: int, status: int, request_id: int, body: bytes) -> None:
        if type == 0:
            self.closed.append(connection)
        else:
            self.strange.append(type)

    def _failed(self, error: StorageError) -> None:
        self.failures.append(error)

    def connection(self, peer: bytes | None, outgoing_bytes_max: int) -> Connection:
        made = Connection(self.plane, self.outbox, outgoing_bytes_max=outgoing_bytes_max, label=f"node {self.number}'s")
        made.hello_done = True
        made.peer = peer
        return made

    def count(self, name: str) -> int:
        """One of the plane's counters."""
        value = self.plane.statistics()[name]
        assert isinstance(value, int)
        return value


class Client:
    """A connection to one node; answers by request id."""

    def __init__(self, cluster: Planes, node: int, outgoing_bytes_max: int) -> None:
        self.cluster, self.node = cluster, node
        self.connection = cluster.nodes[node].connection(None, outgoing_bytes_max)
        self.answers: dict[int, Answer] = {}
        self.sent = 0
        self.reads = True  # False: its answers stay where they are
        self._cutter = FrameCutter()

    def send(self, type: MessageType, body: bytes) -> int:
        """Hands a request to the node in a pass of its own; the request's id."""
        self.sent += 1
        self.cluster.deliver(self.node, [(self.connection, encode_frame(type, body, request_id=self.sent))])
        return self.sent

    def put(self, key: bytes, value: bytes = b"", *, put_id: bytes | None = None, **options: object) -> int:
        body = encode_put(key, value, put_id=put_id or self.cluster.chance.randbytes(16), **options)  # type: ignore[arg-type]
        return self.send(MessageType.PUT, body)

    def get(self, key: bytes, **options: object) -> int:
        return self.send(MessageType.GET, encode_get(key, **options))  # type: ignore[arg-type]

    def take(self) -> None:
        for frame in self._cutter.feed(self.connection.take()):
            assert frame.request_id not in self.answers, "a request is answered once"
            self.answers[frame.request_id] = answer_of(frame)


class Planes:
    """A cluster of data planes. Node numbers are indices into `nodes` and places in the placement alike."""

    def __init__(
        self, nodes: int = 3, *, replicas: int = 3, hosts: Sequence[str] | None = None, requests: RequestsSection | None = None,
        limits: LimitsSection | None = None, buckets: Mapping[bytes, BucketSettings] | None = None, seed: int = 1,
        peer_outgoing_bytes_max: int = 1 << 24, cluster_id: bytes = b"C" * 16, ask_all_every: int = 1,
    ) -> None:  # fmt: skip
        self.chance = random.Random(seed)
        self.cluster_id = cluster_id
        # Every get asks all homes, so that a test knows whom; test_spared.py has the others.
        self.requests = msgspec.structs.replace(requests or RequestsSection(dw=0), ask_all_every=ask_all_every)
        self.limits = limits or LimitsSection()
        self.defaults = ClusterDefaults(
            n=replicas, r=self.requests.r, w=self.requests.w, dw=self.requests.dw, deadline_ms=self.requests.deadline_ms,
            deadline_ms_max=self.requests.deadline_ms_max,
        )  # fmt: skip
        self.buckets = dict(buckets or {})
        self.now_ms = 1000
        self.wall_ms = WALL_MS
        self.peer_outgoing_bytes_max = peer_outgoing_bytes_max
        self.node_ids = [bytes([number + 1]) * 16 for number in range(nodes)]
        self.hosts = list(hosts or (f"host{number}" for number in range(nodes)))
        self.placement = self.place()
        self.ring = self.placement.ring()
        self.under_way: list[Sent] = []
        self.held: list[tuple[Choice, list[Sent]]] = []
        self.dropped: list[Choice] = []
        self.repeated: list[Choice] = []
        self.ends: dict[Connection, tuple[int, int, Connection]] = {}  # an end -> its node, the other node, the other end
        self.cutters: dict[Connection, FrameCutter] = {}
        self.clients: dict[Connection, Client] = {}
        self.nodes = [PlaneNode(self, number, new_engine(), number + 1) for number in range(nodes)]
        for node in self.nodes:
            self.introduce(node)
        for one in range(nodes):
            for two in range(one + 1, nodes):
                self.link(one, two)

    # Who is there -----------------------------------------------------------------------------------------------------------------

    def place(self) -> Placement:
        members = [Member(node_id, host, "", 100) for node_id, host in zip(self.node_ids, self.hosts, strict=True)]
        return first_placement(members, PARTITIONS, self.defaults.n)

    def introduce(self, node: PlaneNode, *, name: int | None = None, ring: Ring | None = None) -> None:
        """Tells a node of the placement, by another name or with other homes if the test says so."""
        labels = [f"node {number}" for number in range(len(self.node_ids))]
        known = in_force(self.placement)
        name, ring = known.name if name is None else name, ring or self.ring
        node.plane.set_placement(replace(known, name=name, accepted=(name,), reads=ring, writes=(ring,), homes=(ring,)), self.hosts, labels)
        node.plane.set_buckets(self.buckets)

    def link(self, one: int, two: int) -> None:
        here = self.nodes[one].connection(self.node_ids[two], self.peer_outgoing_bytes_max)
        there = self.nodes[two].connection(self.node_ids[one], self.peer_outgoing_bytes_max)
        self.ends[here], self.ends[there] = (one, two, there), (two, one, here)
        self.nodes[one].plane.peer_up(self.node_ids[two], here)
        self.nodes[two].plane.peer_up(self.node_ids[one], there)

    def end_of(self, here: int, there: int) -> Connection:
        return next(end for end, (one, two, _) in self.ends.items() if (one, two) == (here, there))

    def cut(self, one: int, two: int) -> None:
        """The link breaks: what is under way on it is lost, and both ends notice."""
        self.break_link(self.end_of(one, two))

    def break_link(self, end: Connection) -> None:
        one, two, other = self.ends.pop(end)
        del self.ends[other]
        for waiting in (self.under_way, *(kept for _, kept in self.held)):
            waiting[:] = [sent for sent in waiting if sent.connection is not end and sent.connection is not other]
        for number, lost, peer in ((one, end, two), (two, other, one)):
            lost.close("cut")
            lost.notify_closed()
            self.nodes[number].plane.peer_down(self.node_ids[peer])
            self.collect(number)

    def isolate(self, number: int) -> None:
        """The node loses all its links."""
        for other in range(len(self.nodes)):
            if any((one, two) == (number, other) for one, two, _ in self.ends.values()):
                self.cut(number, other)

    def restart(self, number: int, engine: FaultyEngine | None = None) -> PlaneNode:
        """The process ends and another one begins over the same records, or those of `engine`; links come up again."""
        self.isolate(number)
        old = self.nodes[number]
        self.clients = {connection: client for connection, client in self.clients.items() if client.node != number}
        node = self.nodes[number] = PlaneNode(self, number, engine or old.engine, old.nonce + 1000)
        self.introduce(node)
        for other in range(len(self.nodes)):
            if other != number:
                self.link(number, other)
        return node

    def client(self, node: int, *, outgoing_bytes_max: int = 1 << 24) -> Client:
        client = Client(self, node, outgoing_bytes_max)
        self.clients[client.connection] = client
        return client

    # Which keys ---------------------------------------------------------------------------------------------------------------------

    def homes(self, key: bytes, bucket: bytes = b"") -> tuple[int, ...]:
        return self.ring.preference_list(key, bucket)

    def key_of(self, *homes: int, stem: str = "key") -> bytes:
        """A key whose first homes are these, in this order."""
        return next(
            key for key in (f"{stem}{number}".encode() for number in range(100_000)) if self.homes(key)[: len(homes)] == homes
        )

    def key_away_from(self, node: int) -> bytes:
        """A key that the node is no home of."""
        return next(key for key in (f"key{number}".encode() for number in range(100_000)) if node not in self.homes(key))

    def copy(self, node: int, key: bytes, bucket: bytes = b"") -> Siblings:
        """The node's copy, unpacked; there is one."""
        packed = self.packed(node, key, bucket)
        assert packed is not None
        return Siblings(packed)

    def store_key(self, key: bytes, bucket: bytes = b"") -> bytes:
        return encode_store_key(MAC_KEY, key_position(key, bucket), key, bucket)

    def record(self, node: int, key: bytes, bucket: bytes = b"") -> bytes | None:
        return self.nodes[node].engine.get(self.store_key(key, bucket))

    def packed(self, node: int, key: bytes, bucket: bytes = b"") -> bytes | None:
        """The node's copy as replicas exchange it."""
        record = self.record(node, key, bucket)
        return None if record is None else decode_record(record).packed

    # What happens to frames -------------------------------------------------------------------------------------------------------

    def hold(self, choice: Choice) -> list[Sent]:
        """Such frames wait, in the list returned, until `release`."""
        kept: list[Sent] = []
        self.held.append((choice, kept))
        return kept

    def drop(self, choice: Choice) -> None:
        """Such frames are lost from now on, while their links stay up."""
        self.dropped.append(choice)

    def repeat(self, choice: Choice) -> None:
        """Such frames arrive twice from now on."""
        self.repeated.append(choice)

    def release(self, *, backwards: bool = False) -> None:
        """All that was held back goes on; nothing is held, dropped or repeated any more."""
        for _, kept in self.held:
            self.under_way += reversed(kept) if backwards else kept
        self.held.clear()
        self.dropped.clear()
        self.repeated.clear()

    def inject(self, target: int, origin: int, type: MessageType, body: bytes, **header: int) -> None:
        """A frame that the node at `origin` never sent arrives at `target`."""
        frame = FrameCutter().feed(encode_frame(type, body, **header))[0]
        self.under_way.append(Sent(origin, target, self.end_of(target, origin), frame))

    # Passes -----------------------------------------------------------------------------------------------------------------------

    def deliver(self, number: int, arrived: Sequence[tuple[Connection, bytes]]) -> None:
        """One pass of a node, with what has arrived for it; then its answers are under way, unless its log write failed."""
        node = self.nodes[number]
        node.outbox.start_pass()
        node.plane.start_pass(self.now_ms * 1000, self.wall_ms)
        for connection, data in arrived:
            try:
                connection.feed(data)
            except Exception as error:
                node.errors.append(error)
                connection.close(str(error))
        if node.plane.finish_pass() != 0:
            node.outbox.drop_pass()
        self.collect(number)

    def collect(self, number: int) -> None:
        """Takes up what a node has to send, and ends connections that it wants ended."""
        while len(self.nodes[number].outbox):
            for connection in self.nodes[number].outbox.take():
                if connection in self.clients:
                    self.serve(self.clients[connection])
                elif connection in self.ends:
                    self.send(connection)

    def serve(self, client: Client) -> None:
        if client.reads:
            client.take()
        if client.connection.closing:
            del self.clients[client.connection]
            client.connection.notify_closed()

    def send(self, connection: Connection) -> None:
        origin, target, other = self.ends[connection]
        for frame in self.cutters.setdefault(connection, FrameCutter()).feed(connection.take()):
            sent = Sent(origin, target, other, frame)
            if any(choice(sent) for choice in self.dropped):
                continue
            kept = next((kept for choice, kept in self.held if choice(sent)), self.under_way)
            kept.append(sent)
            if any(choice(sent) for choice in self.repeated):
                kept.append(sent)
        if connection.closing:
            self.break_link(connection)

    def run(self) -> None:
        """Carries frames, each in a pass of its own, until none is under way."""
        while self.under_way:
            sent = self.under_way.pop(0)
            frame = sent.frame
            data = encode_frame(MessageType(frame.type), frame.body, request_id=frame.request_id, status=frame.status, flags=frame.flags)
            self.deliver(sent.target, [(sent.connection, data)])

    def pass_time(self, ms: int) -> None:
        """Time goes on, every node notices, and what they say about it is carried."""
        self.now_ms += ms
        self.wall_ms += ms
        for number in range(len(self.nodes)):
            self.deliver(number, [])
        self.run()

    def finish_syncs(self, number: int) -> None:
        """The node's disk catches up, and says so."""
        self.nodes[number].engine.finish_syncs()
        self.nodes[number].plane.disk_synced()
        self.collect(number)
        self.run()

    def fill_disk(self, number: int, reason: str) -> None:
        """The node's disk takes nothing any more, and the node has found out."""
        self.nodes[number].engine.failure = reason
        self.client(number).put(b"found out by this", w=1)
        assert self.nodes[number].engine.read_only == reason

    # Whole requests -----------------------------------------------------------------------------------------------------------------

    def put(self, node: int, key: bytes, value: bytes = b"", **options: object) -> Answer:
        """A put through that node, carried to its end."""
        return self.ask(self.client(node), MessageType.PUT, key, value=value, **options)

    def get(self, node: int, key: bytes, **options: object) -> Answer:
        return self.ask(self.client(node), MessageType.GET, key, **options)

    def ask(self, client: Client, type: MessageType, key: bytes, **options: object) -> Answer:
        request_id = client.put(key, **options) if type == MessageType.PUT else client.get(key, **options)  # type: ignore[arg-type]
        self.run()
        return client.answers[request_id]
