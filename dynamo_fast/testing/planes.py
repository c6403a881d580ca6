"""Data planes of several nodes in one process, and the connections between them: requests alone, without trio and without a control plane.

Whoever drives them decides everything else: when a pass is made, what becomes of the bytes that a node has to send (`carry`), what the time
is. The tests of `tests/node/` carry frames by hand; `core/world.py` carries bytes through a network in virtual time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from dynamo_fast.core.change import Step
from dynamo_fast.core.digest import key_position
from dynamo_fast.core.in_force import InForce, in_force, ring_over
from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.core.placement import Member, Placement, first_placement
from dynamo_fast.core.ring import Ring
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.succession import next_placement
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.wire.connection import Connection, Outbox

MAC_KEY = bytes(range(16))
WALL_MS = 1_700_000_000_000
START_US = 1_000_000
SHORT_EVERY, SHORT_WHOLE_BYTES, SHORT_PIECE_BYTES = 3, 300, 100


def new_engine(partitions: int, *, journal: bool = False, dots: DotRegistry | None = None) -> FaultyEngine:
    """The engine of a node that never held anything, and so has lost nothing."""
    engine = FaultyEngine(MemoryEngine(partitions=partitions), journal=journal, dots=dots)
    for partition in range(partitions):
        engine.forgive(partition)
    return engine


class End:
    """One end of a connection, at a node. `other`: the end at the other node, None when a client is there, or whatever speaks as one."""

    __slots__ = ("connection", "number", "other")

    def __init__(self, number: int, connection: Connection) -> None:
        self.number, self.connection = number, connection
        self.other: End | None = None


class Works(NamedTuple):
    """By what a node works: one placement, or that which goes, that which comes, and the step that it does on the way (core/change.py)."""

    old: Placement
    new: Placement | None = None
    step: Step = Step.NONE


class PlaneNode:
    """One process: a data plane and its outbox over an engine, which can outlive it."""

    def __init__(self, cluster: Planes, number: int, engine: FaultyEngine, nonce: int) -> None:
        self.number, self.engine, self.nonce = number, engine, nonce
        self.node_id = cluster.node_ids[number]
        self.outbox = Outbox()
        self.plane = DataPlane(
            node_id=self.node_id, nonce=nonce, engine=engine, limits=cluster.limits, requests=cluster.requests,
            cluster_defaults=cluster.defaults, random_bytes=cluster.chance.randbytes, now_ms=cluster.now_us // 1000,
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
        """One whose HELLO is over, with that node at the other end, or with a client."""
        made = Connection(self.plane, self.outbox, outgoing_bytes_max=outgoing_bytes_max, label=f"node {self.number}'s")
        made.hello_done = True
        made.peer = peer
        return made

    def suspects(self, other: PlaneNode) -> bool:
        return self.plane.suspects(other.node_id)

    def count(self, name: str) -> int:
        """One of the plane's counters."""
        value = self.plane.statistics()[name]
        assert isinstance(value, int)
        return value


class Planes:
    """A cluster of data planes. Node numbers are indices into `nodes` and places in the sorted ids alike.

    `before`, `after`: the members that it goes from and to, of which each node does the step that stands in `steps` (core/change.py).
    """

    nodes: list[PlaneNode]  # made by whoever drives them

    def __init__(
        self, nodes: int = 3, *, partitions: int = 64, replicas: int = 3, hosts: Sequence[str] | None = None,
        requests: RequestsSection | None = None, limits: LimitsSection | None = None, buckets: Mapping[bytes, BucketSettings] | None = None,
        chance: random.Random, peer_outgoing_bytes_max: int = 1 << 24, cluster_id: bytes = b"C" * 16, ask_all_every: int = 1,
        before: Sequence[int] | None = None, after: Sequence[int] | None = None, step: Step = Step.NONE,
    ) -> None:  # fmt: skip
        self.chance = chance
        self.partitions = partitions
        self.cluster_id = cluster_id
        self.requests = msgspec.structs.replace(requests or RequestsSection(dw=0), ask_all_every=ask_all_every)
        self.limits = limits or LimitsSection()
        self.defaults = ClusterDefaults(
            n=replicas, r=self.requests.r, w=self.requests.w, dw=self.requests.dw, deadline_ms=self.requests.deadline_ms,
            deadline_ms_max=self.requests.deadline_ms_max,
        )  # fmt: skip
        self.buckets = dict(buckets or {})
        self.now_us = START_US
        self.wall_ms = WALL_MS
        self.peer_outgoing_bytes_max = peer_outgoing_bytes_max
        self.node_ids = [node_id_of(number) for number in range(nodes)]
        self.hosts = list(hosts or (f"host{number}" for number in range(nodes)))
        self.steps = [step] * nodes
        were = tuple(range(nodes) if before is None else before)
        self.old, self.new = placements(tuple(self.hosts), were, None if after is None else tuple(after), partitions, replicas)
        self.ring = ring_over(self.old, self.node_ids)
        self._in_force: dict[tuple[bytes, bytes, Step], tuple[InForce, list[str], list[str]]] = {}
        self.ends: dict[Connection, End] = {}
        self.between: dict[tuple[int, int], End] = {}  # by the node it is at and the node it leads to

    # Who is there -----------------------------------------------------------------------------------------------------------------

    def works_by(self, number: int) -> Works:
        """The placement that a node works by; during a change that which goes and that which comes, and the step that it does."""
        return Works(self.old, self.new, self.steps[number])

    def introduce(self, node: PlaneNode) -> None:
        """Tells a node by which placements to work at its step."""
        old, new, step = self.works_by(node.number)
        works = (old.digest, b"" if new is None else new.digest, step)
        if works not in self._in_force:
            known = in_force(old, new, step)
            numbers = [self.node_ids.index(node_id) for node_id in known.node_ids]
            self._in_force[works] = known, [self.hosts[number] for number in numbers], [f"node {number}" for number in numbers]
        node.plane.set_placement(*self._in_force[works])
        node.plane.set_buckets(self.buckets)

    def link(self, one: int, two: int) -> None:
        """A connection between two nodes, which both have in use from now on."""
        here, there = self.end(one, two), self.end(two, one)
        here.other, there.other = there, here
        for end, peer in ((here, two), (there, one)):
            self.between[end.number, peer] = end
            self.nodes[end.number].plane.peer_up(self.node_ids[peer], end.connection)

    def end(self, number: int, peer: int | None = None, outgoing_bytes_max: int | None = None) -> End:
        """A new one at that node; without a peer, a client's."""
        node_id = None if peer is None else self.node_ids[peer]
        connection = self.nodes[number].connection(node_id, outgoing_bytes_max or self.peer_outgoing_bytes_max)
        made = self.ends[connection] = self.new_end(number, connection)
        return made

    def new_end(self, number: int, connection: Connection) -> End:
        return End(number, connection)

    def lose(self, end: End, reason: str) -> None:
        """The node finds that its end is none any more; a node that it led to has no connection until there is another."""
        del self.ends[end.connection]
        node = self.nodes[end.number]
        end.connection.close(reason)
        end.connection.notify_closed()
        if end.other is not None and self.between.get((end.number, end.other.number)) is end:
            del self.between[end.number, end.other.number]
            node.plane.peer_down(self.node_ids[end.other.number])
        self.collect(node)

    # Which keys ---------------------------------------------------------------------------------------------------------------------

    def homes(self, key: bytes, bucket: bytes = b"") -> tuple[int, ...]:
        """By the placement that goes, when there are two."""
        return self.ring.preference_list(key, bucket)

    def store_key(self, key: bytes, bucket: bytes = b"") -> bytes:
        return encode_store_key(MAC_KEY, key_position(key, bucket), key, bucket)

    def record(self, node: int, key: bytes, bucket: bytes = b"") -> bytes | None:
        return self.nodes[node].engine.get(self.store_key(key, bucket))

    def packed(self, node: int, key: bytes, bucket: bytes = b"") -> bytes | None:
        """The node's copy as replicas exchange it."""
        record = self.record(node, key, bucket)
        return None if record is None else decode_record(record).packed

    def copy(self, node: int, key: bytes, bucket: bytes = b"") -> Siblings:
        """The node's copy, unpacked; there is one."""
        packed = self.packed(node, key, bucket)
        assert packed is not None
        return Siblings(packed)

    # Passes -----------------------------------------------------------------------------------------------------------------------

    def make_pass(
        self, node: PlaneNode, arrived: Sequence[tuple[Connection, bytes]], *, wall_offset_ms: int = 0, synced: bool = False
    ) -> None:
        """One pass of a node, with what has arrived for it; what it says stays in its outbox; nothing, if its log write failed.

        `wall_offset_ms`: how far its clock on the wall is ahead; `synced`: its disk has finished a sync.
        """
        outbox, plane = node.outbox, node.plane
        outbox.start_pass()
        plane.start_pass(self.now_us, self.wall_ms + wall_offset_ms)
        if synced:
            plane.disk_synced()
        for connection, data in arrived:
            try:
                connection.feed(data)
            except Exception as error:
                node.errors.append(error)
                connection.close(str(error))
        if plane.finish_pass() != 0:
            outbox.drop_pass()

    def collect(self, node: PlaneNode) -> None:
        """Takes up what a node has to send."""
        outbox, ends = node.outbox, self.ends
        while len(outbox):
            for connection in outbox.take():
                end = ends.get(connection)
                if end is not None:
                    self.carry(end)

    def carry(self, end: End) -> None:
        """That end has something to send, or wants to be closed."""
        raise NotImplementedError("who drives data planes says what becomes of their bytes")


def cut_short(connection: Connection, number: int) -> None:
    """One connection in SHORT_EVERY, by their numbers, cuts all but short messages into pieces: what long ones can meet, all do."""
    if number % SHORT_EVERY == 0:
        connection.whole_bytes_max, connection.piece_bytes = SHORT_WHOLE_BYTES, SHORT_PIECE_BYTES


def node_id_of(number: int) -> bytes:
    return bytes([number + 1]) * 16


@lru_cache(256)
def placements(
    hosts: tuple[str, ...], before: tuple[int, ...], after: tuple[int, ...] | None, partitions: int, replicas: int
) -> tuple[Placement, Placement | None]:
    """Over the nodes with these numbers before and after a change of members; there is none, if nothing comes after."""
    members = [Member(node_id_of(number), host, "", 100) for number, host in enumerate(hosts)]
    were = [members[number] for number in before]
    old = first_placement(were, partitions, replicas)
    if after is None:
        return old, None
    return old, next_placement(old, were, [members[number] for number in after], replicas, unsafe=True)


def in_slots(ring: Ring, partition: int, owed: int) -> list[int]:
    """The homes of a partition for which a hint is kept: a bit for each slot."""
    return [home for slot, home in enumerate(ring.homes_of(partition)) if owed >> slot & 1]
