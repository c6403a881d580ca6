"""N data planes whose frames, clocks, disks and links are in the test's hand.

A request is played in three steps: a client sends, `run` carries frames from node to node until nothing is under way, the client has
its answer. In between a test may hold back, drop or repeat frames, cut and mend links, let time pass, make a disk fail. Whole frames
travel one by one and every delivery is a pass of the node that receives it, so a test chooses among orders, never among timings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.ring import Ring
from dynamo_fast.testing import planes
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.testing.planes import MAC_KEY, WALL_MS, End, PlaneNode, new_engine
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status

__all__ = ["MAC_KEY", "PARTITIONS", "WALL_MS", "Answer", "Client", "PlaneNode", "Planes", "Sent", "frames"]

PARTITIONS = 64


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


class Client:
    """A connection to one node; answers by request id."""

    def __init__(self, cluster: Planes, node: int, outgoing_bytes_max: int) -> None:
        self.cluster, self.node = cluster, node
        self.connection = cluster.end(node, outgoing_bytes_max=outgoing_bytes_max).connection
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


class Planes(planes.Planes):
    """A cluster of data planes, their clients, and the frames under way."""

    def __init__(self, nodes: int = 3, *, seed: int = 1, **options: Any) -> None:
        # Every get asks all homes, so that a test knows whom; test_spared.py has the others.
        super().__init__(nodes, partitions=PARTITIONS, chance=random.Random(seed), **options)
        self.under_way: list[Sent] = []
        self.held: list[tuple[Choice, list[Sent]]] = []
        self.dropped: list[Choice] = []
        self.repeated: list[Choice] = []
        self.cutters: dict[Connection, FrameCutter] = {}
        self.clients: dict[Connection, Client] = {}
        self.nodes = [PlaneNode(self, number, new_engine(PARTITIONS), number + 1) for number in range(nodes)]
        for node in self.nodes:
            self.introduce(node)
        for one in range(nodes):
            for two in range(one + 1, nodes):
                self.link(one, two)

    @property
    def placement(self) -> Placement:
        """The one that goes, when there are two."""
        return self.old

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    # Who is there -----------------------------------------------------------------------------------------------------------------

    def introduce_as(self, node: PlaneNode, *, name: int | None = None, ring: Ring | None = None) -> None:
        """Tells a node of the placement by another name or with other homes."""
        known = in_force(self.placement)
        name, ring = known.name if name is None else name, ring or self.ring
        known = replace(known, name=name, accepted=(name,), reads=ring, writes=(ring,), homes=(ring,))
        node.plane.set_placement(known, self.hosts, [f"node {number}" for number in range(len(self.node_ids))])

    def linked(self, one: int, two: int) -> bool:
        return (one, two) in self.between

    def end_of(self, here: int, there: int) -> Connection:
        return self.between[here, there].connection

    def cut(self, one: int, two: int) -> None:
        """The link breaks: what is under way on it is lost, and both ends notice."""
        self.break_link(self.between[one, two])

    def break_link(self, end: End) -> None:
        assert end.other is not None, "a link is between nodes"
        both = (end.connection, end.other.connection)
        for waiting in (self.under_way, *(kept for _, kept in self.held)):
            waiting[:] = [sent for sent in waiting if sent.connection not in both]
        for one in (end, end.other):
            if one.connection in self.ends:
                self.lose(one, "cut")

    def isolate(self, number: int) -> None:
        """The node loses all its links."""
        for other in range(len(self.nodes)):
            if self.linked(number, other):
                self.cut(number, other)

    def restart(self, number: int, engine: FaultyEngine | None = None) -> PlaneNode:
        """The process ends and another one begins over the same records, or those of `engine`; links come up again."""
        self.isolate(number)
        old = self.nodes[number]
        for connection in [one.connection for one in self.clients.values() if one.node == number]:
            del self.clients[connection], self.ends[connection]
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

    def key_of(self, *homes: int, stem: str = "key") -> bytes:
        """A key whose first homes are these, in this order."""
        return next(
            key for key in (f"{stem}{number}".encode() for number in range(100_000)) if self.homes(key)[: len(homes)] == homes
        )

    def key_away_from(self, node: int) -> bytes:
        """A key that the node is no home of."""
        return next(key for key in (f"key{number}".encode() for number in range(100_000)) if node not in self.homes(key))

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
        self.make_pass(self.nodes[number], arrived)
        self.collect(self.nodes[number])

    def carry(self, end: End) -> None:
        if end.connection in self.clients:
            self.serve(self.clients[end.connection])
        else:
            self.send(end)

    def serve(self, client: Client) -> None:
        if client.reads:
            client.take()
        if client.connection.closing:
            del self.clients[client.connection], self.ends[client.connection]
            client.connection.notify_closed()

    def send(self, end: End) -> None:
        assert end.other is not None, "a link is between nodes"
        for frame in self.cutters.setdefault(end.connection, FrameCutter()).feed(end.connection.take()):
            sent = Sent(end.number, end.other.number, end.other.connection, frame)
            if any(choice(sent) for choice in self.dropped):
                continue
            kept = next((kept for choice, kept in self.held if choice(sent)), self.under_way)
            kept.append(sent)
            if any(choice(sent) for choice in self.repeated):
                kept.append(sent)
        if end.connection.closing:
            self.break_link(end)

    def run(self) -> None:
        """Carries frames, each in a pass of its own, until none is under way."""
        while self.under_way:
            sent = self.under_way.pop(0)
            frame = sent.frame
            data = encode_frame(MessageType(frame.type), frame.body, request_id=frame.request_id, status=frame.status, flags=frame.flags)
            self.deliver(sent.target, [(sent.connection, data)])

    def pass_time(self, ms: int) -> None:
        """Time goes on, every node notices, and what they say about it is carried."""
        self.now_us += 1000 * ms
        self.wall_ms += ms
        for number in range(len(self.nodes)):
            self.deliver(number, [])
        self.run()

    def finish_syncs(self, number: int) -> None:
        """The node's disk catches up, and says so."""
        self.nodes[number].engine.finish_syncs()
        self.nodes[number].plane.disk_synced()
        self.collect(self.nodes[number])
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
