"""A cluster that exists only in this process, to test the client: real frames, memory streams, virtual time, misbehaviour on order.

All nodes share one store of siblings with dots (the model is small and sequential), so that what is tested is the client: where it
sends, what it retries, what it reports. Each node can be told to answer with a status, to say nothing, to break, or to be away.
"""

from __future__ import annotations

import functools
import struct
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import trio
import trio.testing

from dynamo_fast.client.client import Client, connect
from dynamo_fast.client.context import Seen, seen_in
from dynamo_fast.client.settings import Settings
from dynamo_fast.core.digest import key_position, md5
from dynamo_fast.core.membership import Join, Leave, NodeEntry, Replace, WeightChange
from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.core.ring import Ring
from dynamo_fast.wire import control_messages as control
from dynamo_fast.wire.data_messages import decode_get, decode_put, encode_get_reply
from dynamo_fast.wire.frame import STALE_PLACEMENT, Frame, FrameCutter, encode_frame
from dynamo_fast.wire.key_page import KeyPageWriter
from dynamo_fast.wire.membership_messages import ChangeReply, ChangeRequest
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_store import CLUSTER_ID, Object, context_of

PARTITIONS = 64


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test on trio with a clock that jumps over every wait; a test that hangs fails after a virtual hour."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            with trio.fail_after(3600):
                await test(*args, **kwargs)

        trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


class FakeNode:
    """One node. `away`: refuses connections. `silent`: accepts them and answers nothing. `script`: what happens to the next puts and
    gets, one by one: a Status to answer without applying, "break" to close the connection, "silence" to never answer, ("apply", any of
    these) to apply first, or seconds to wait before doing it properly."""

    def __init__(self, cluster: FakeCluster, index: int) -> None:
        self.cluster = cluster
        self.id = bytes([index + 1]) * 16
        self.address = f"10.0.0.{index + 1}:7400"
        self.state: Literal["waiting", "starting", "ready", "leaving", "left"] = "ready"
        self.member = True
        self.weight = 100
        self.reports: deque[dict[str, Any]] = deque()  # for its next statuses, one by one: fields that are other than usual
        self.behind: control.PlacementReply | None = None  # the placement by which it still works, if it has not heard of the cluster's
        self.host = ""  # empty: its address
        self.away = False
        self.silent = False
        self.statistics: dict[str, Any] = {}  # groups of figures that its status shows beside its own
        self.unheard = False  # nothing comes back from its address: a dialling never ends
        self.fragment_bytes = 0  # answers are cut into pieces of so many bytes; 0: not at all
        self.cluster_id: bytes | None = CLUSTER_ID
        self.version = 1
        self.stale = False  # marks every answer
        self.script: deque[Any] = deque()
        self.received: list[Frame] = []  # every put and get that arrived
        self.lacks: set[bytes] = set()  # keys that its listing does not show
        self.suspects: set[int] = set()  # partitions of which it says that it has lost records
        self.pages: deque[Any] = deque()  # for its next pages, one by one: a Status to answer, or what to make of the page; None: nothing
        self.listed: list[control.KeysPageRequest] = []  # every question for a page that arrived
        self.connections = 0
        self.most_at_once = 0  # puts and gets being answered
        self.streams: list[trio.abc.Stream] = []
        self._at_once = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        if self.away:
            await stream.aclose()
            return
        self.connections += 1
        self.streams.append(stream)
        cutter = FrameCutter()
        try:
            async with trio.open_nursery() as nursery:
                while data := await stream.receive_some():
                    for frame in cutter.feed(bytes(data)):
                        nursery.start_soon(self._answer, stream, frame)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await stream.aclose()
        if stream in self.streams:
            self.streams.remove(stream)

    def status(self) -> control.StatusReply:
        status = control.StatusReply(
            node_id=self.id, address=self.address, host=self.host or self.address, zone="", weight=self.weight, state=self.state,
            member=self.member, software="fake", uptime_s=1.0, cluster_id=self.cluster_id,
            placement_number=self.cluster.placement(self).number, placement_name=1,
            members=len(self.cluster.nodes), peers_up=[], history_digest=b"h" * 16,
            statistics={"requests": {"puts": len(self.received)}, **self.statistics},
        )  # fmt: skip
        return msgspec.structs.replace(status, **self.reports.popleft()) if self.reports else status

    async def say(self, data: bytes) -> None:
        """Sends bytes that nobody asked for on every connection."""
        for stream in self.streams:
            await stream.send_all(data)

    async def kill(self) -> None:
        """Breaks every connection and refuses new ones."""
        self.away = True
        for stream in list(self.streams):
            await stream.aclose()

    async def _answer(self, stream: trio.abc.Stream, frame: Frame) -> None:
        if self.silent:
            return
        status, body = await self._handle(frame, stream)
        if status is None:
            return
        flags = STALE_PLACEMENT if self.stale else 0
        answer = encode_frame(frame.type + 1, body, frame.request_id, status, flags)
        step = self.fragment_bytes or len(answer)
        async with self.cluster.lock_of(stream):
            for start in range(0, len(answer), step):
                await stream.send_all(answer[start : start + step])

    async def _handle(self, frame: Frame, stream: trio.abc.Stream) -> tuple[int | None, bytes]:
        if frame.type == MessageType.HELLO:
            if self.version != 1:
                return Status.UNSUPPORTED_VERSION, b"speak version 2"
            return Status.OK, control.encode(control.HelloReply(version=1, cluster_id=self.cluster_id, node_id=self.id))
        if frame.type == MessageType.CONTROL:
            return self.cluster.answer_control(self, frame)
        self.received.append(frame)
        order = self.script.popleft() if self.script else None
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await trio.sleep(order if isinstance(order, float) else 0)
        self._at_once -= 1
        if isinstance(order, float):
            order = None
        answer: tuple[int, bytes] = (Status.OK, b"")
        if order is None or isinstance(order, tuple):
            answer = self._put(frame) if frame.type == MessageType.PUT else self._get(frame)
            order = order[1] if isinstance(order, tuple) else None
        if order == "break":
            await stream.aclose()
            return None, b""
        if order == "silence":
            return None, b""
        return (order, f"told to answer {order.name}".encode()) if order is not None else answer

    def _put(self, frame: Frame) -> tuple[int, bytes]:
        put = decode_put(frame.body)
        stored = self.cluster.objects[put.bucket, put.key]
        seen = stored.put(self.id + b"e" * 8, seen_in(put.context), put.put_id, put.value, put.tombstone, put.overwrite)
        return Status.OK, context_of(key_position(put.key, put.bucket), seen)

    def _get(self, frame: Frame) -> tuple[int, bytes]:
        get = decode_get(frame.body)
        stored = self.cluster.objects[get.bucket, get.key]
        clock = self.cluster.forgetful.get(self.address, stored.clock)
        context = context_of(key_position(get.key, get.bucket), Seen(clock, None))
        siblings = [(version.value, version.tombstone, 1000) for version in stored.siblings]
        return (Status.OK if siblings else Status.NOT_FOUND), encode_get_reply(context, siblings)


class FakeCluster:
    """Nodes under one placement. Give `settings()` to `connect`, and `addresses` as seeds."""

    def __init__(self, nursery: trio.Nursery, nodes: int = 3, replicas: int = 3) -> None:
        self.objects: dict[tuple[bytes, bytes], Object] = defaultdict(Object)
        self.forgetful: dict[str, dict[bytes, int]] = {}  # node -> the clock it answers gets with, instead of the true one
        self.strangers: list[FakeNode] = []  # nodes that run and are no members: they wait to join, or have left
        self.changes: list[tuple[FakeNode, ChangeRequest]] = []  # that were asked for, and of whom
        self.refusals: deque[tuple[Status, str]] = deque()  # what the next ones are answered with
        self.placement_number = 0
        self._replicas = replicas
        self.become([FakeNode(self, index) for index in range(nodes)])
        self.placements_told = 0
        self.ready = True
        self.buckets: dict[bytes, BucketSettings] = {}
        self._nursery = nursery
        self._locks: dict[int, trio.Lock] = defaultdict(trio.Lock)
        self._chance = 0

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    def settings(self, **changes: Any) -> Settings:
        return Settings(dial=self.dial, random_bytes=self._random_bytes, **changes)

    def open_streams(self) -> int:
        return sum(len(node.streams) for node in self.nodes)

    def served(self, kind: int) -> list[Frame]:
        """Every request of that type which reached a node, node by node."""
        return [frame for node in self.nodes for frame in node.received if frame.type == kind]

    def order(self, key: bytes, bucket: bytes = b"") -> list[FakeNode]:
        """The homes of a key and then its fallbacks."""
        return [self.nodes[index] for index in self.ring.order_of(self.ring.partition(key, bucket))]

    def homes(self, key: bytes, bucket: bytes = b"") -> list[FakeNode]:
        return [self.nodes[index] for index in self.ring.preference_list(key, bucket)]

    def become(self, nodes: list[FakeNode]) -> None:
        """A newer placement, of these nodes."""
        self.nodes = nodes
        self.lists = [tuple((partition + step) % len(nodes) for step in range(len(nodes))) for partition in range(PARTITIONS)]
        self.ring = Ring(PARTITIONS, min(self._replicas, len(nodes)), self.lists)
        self.placement_number += 1

    def stranger(self) -> FakeNode:
        """One more node that runs and is no member."""
        node = FakeNode(self, len(self.nodes) + len(self.strangers))
        node.member, node.state = False, "waiting"
        self.strangers.append(node)
        return node

    def move_homes(self) -> None:
        """A newer placement, in which every partition has the nodes of the next one."""
        self.placement_number += 1
        self.lists = self.lists[1:] + self.lists[:1]
        self.ring = Ring(PARTITIONS, self.ring.replicas, self.lists)

    def turn_homes(self) -> None:
        """A newer placement, in which the homes of every partition are its last nodes of before."""
        self.placement_number += 1
        replicas = self.ring.replicas
        self.lists = [(*order[-replicas:], *order[:-replicas]) for order in self.lists]
        self.ring = Ring(PARTITIONS, replicas, self.lists)

    def lock_of(self, stream: object) -> trio.Lock:
        return self._locks[id(stream)]

    def _random_bytes(self, n: int) -> bytes:
        self._chance += 1
        return self._chance.to_bytes(8, "big")[-n:].rjust(n, b"\0")

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        node = next((node for node in (*self.nodes, *self.strangers) if node.address == f"{host}:{port}"), None)
        if node is not None and node.unheard:
            await trio.sleep_forever()
        if node is None or node.away:
            raise ConnectionRefusedError(f"nobody at {host}:{port}")
        client, server = trio.testing.memory_stream_pair()
        self._nursery.start_soon(node.serve, server)
        return client

    def answer_control(self, node: FakeNode, frame: Frame) -> tuple[int, bytes]:
        request = control.decode_request(frame.body)
        if isinstance(request, control.PlacementRequest):
            if not self.ready:
                return Status.NOT_READY, b"no cluster yet"
            self.placements_told += 1
            return Status.OK, control.encode(self.placement(node))
        if isinstance(request, control.KeysPageRequest):
            return self._page(node, request)
        if isinstance(request, control.BucketSetRequest):
            self.buckets[request.name] = request.settings
            return Status.OK, control.encode(control.BucketSetReply())
        if isinstance(request, control.BucketListRequest):
            return Status.OK, control.encode(control.BucketListReply(buckets=self._bucket_entries(), defaults=ClusterDefaults()))
        if isinstance(request, control.StatusRequest):
            return Status.OK, control.encode(node.status())
        if isinstance(request, ChangeRequest):
            return self._change(node, request)
        if isinstance(request, control.RingInfoRequest):
            shares = [control.MemberShare(node=entry, partitions_first=PARTITIONS // len(self.nodes), partitions_owned=PARTITIONS,
                                          share=1 / len(self.nodes), up=True) for entry in self.placement().nodes]  # fmt: skip
            replicas = self.ring.replicas
            return Status.OK, control.encode(
                control.RingInfoReply(number=1, name=1, digest=b"d" * 16, partitions=PARTITIONS, replicas=replicas, members=shares)
            )
        return Status.BAD_REQUEST, b"the fake node does not know that"

    def _change(self, node: FakeNode, request: ChangeRequest) -> tuple[int, bytes]:
        """What was asked for is so at once, unless `refusals` has a status and a sentence for it."""
        self.changes.append((node, request))
        if self.refusals:
            status, text = self.refusals.popleft()
            return status, text.encode()
        everyone = {node.id: node for node in (*self.nodes, *self.strangers)}
        ids = {node.id for node in self.nodes}
        for change in request.changes:
            ids |= {change.member.id} if isinstance(change, Join | Replace) else set()
            ids -= {change.node_id} if isinstance(change, Leave) else {change.old} if isinstance(change, Replace) else set()
            if isinstance(change, WeightChange):
                everyone[change.node_id].weight = change.weight
        for one in everyone.values():
            one.member = one.id in ids
            one.state = "ready" if one.member else "left" if one in self.nodes else one.state
        self.strangers = [one for one in everyone.values() if not one.member]
        self.become(sorted((everyone[node_id] for node_id in ids), key=lambda node: node.id))
        reply = ChangeReply(ids=[md5(msgspec.msgpack.encode(change)) for change in request.changes], number=self.placement_number)
        return Status.OK, control.encode(reply)

    def _bucket_entries(self) -> list[control.BucketEntry]:
        return [control.BucketEntry(name=name, settings=settings) for name, settings in self.buckets.items()]

    def placement(self, node: FakeNode | None = None) -> control.PlacementReply:
        """The placement in force, or the one that this node takes for that."""
        if node is not None and node.behind is not None:
            return node.behind
        return control.PlacementReply(
            number=self.placement_number, name=self.placement_number, digest=b"d" * 16, cluster_id=CLUSTER_ID, partitions=PARTITIONS,
            replicas=self.ring.replicas,
            nodes=[NodeEntry(id=node.id, address=node.address, host=node.host or node.address, weight=node.weight) for node in self.nodes],
            table=b"".join(struct.pack(f"<{len(order)}H", *order) for order in self.lists),
            buckets=self._bucket_entries(), defaults=ClusterDefaults(),
            limits=control.ClientLimits(key_bytes_max=4096, value_bytes_max=1 << 20, frame_bytes_max=2 << 20),
        )  # fmt: skip

    def _page(self, node: FakeNode, request: control.KeysPageRequest) -> tuple[int, bytes]:
        node.listed.append(request)
        order = node.pages.popleft() if node.pages else None
        if isinstance(order, Status):
            return order, f"told to answer {order.name}".encode()
        placement = self.placement(node)
        homes = [[placement.nodes[index].id for index in order[: placement.replicas]] for order in placement.preference_lists()]
        strange = [partition for partition in request.partitions if node.id not in homes[partition]]
        if strange:
            return Status.STALE_PLACEMENT, f"no home of {strange}".encode()
        held = sorted(
            (key_position(key, bucket) + bytes(8), key)
            for (bucket, key), stored in self.objects.items()
            if bucket == request.bucket and self.ring.partition(key, bucket) in request.partitions and key not in node.lacks
            and not all(version.tombstone for version in stored.siblings)
        )  # fmt: skip
        later = [entry for entry in held if entry[0] > request.after]
        page = KeyPageWriter()
        for store_key, key in later[: request.limit]:
            page.push(store_key, key)
        done = len(later) == page.count
        following = ((request.partitions[-1] + 1 << 192) // PARTITIONS - 1).to_bytes(24, "big")
        reply = control.KeysPageReply(
            entries=bytes(page), next=following if done else later[page.count - 1][0], done=done,
            suspects=[partition for partition in request.partitions if partition in node.suspects],
        )  # fmt: skip
        return Status.OK, control.encode(reply if order is None else order(reply))


@asynccontextmanager
async def fake_cluster(nodes: int = 3, replicas: int = 3, **changes: Any) -> AsyncIterator[tuple[FakeCluster, Client]]:
    """A cluster and a client of it; changes: fields of the client's settings and options."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, nodes, replicas)
        try:
            async with connect(cluster.addresses, settings=cluster.settings(), **changes) as db:
                yield cluster, db
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
