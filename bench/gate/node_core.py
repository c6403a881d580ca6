"""Three node cores in one process, joined by connections that are byte strings: a put and a get without a system call.

What is counted is everything a request costs on all three nodes, from the client's frame to its answer; the few Python
calls that carry bytes from one to another are shared by the requests of a pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.wire.connection import Connection, Outbox
from dynamo_fast.wire.data_messages import encode_get, encode_put
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status

NODES = 3
PASS_REQUESTS = 50
PASS_US = 1000
VALUE = bytes(100)


class Nodes:
    """The cores of a cluster and one client's connection to the first."""

    def __init__(self) -> None:
        chance = random.Random(1)
        ids = [bytes([number + 1]) * 16 for number in range(NODES)]
        placement = first_placement([Member(node_id, f"host{node_id[0]}", "", 100) for node_id in ids], 1024, NODES)
        self.outboxes = [Outbox() for _ in ids]
        self.planes = [
            DataPlane(
                node_id=node_id, nonce=number + 1, engine=MemoryEngine(),
                limits=LimitsSection(), requests=RequestsSection(dw=0), cluster_defaults=ClusterDefaults(n=NODES, r=2, w=2, dw=0),
                random_bytes=chance.randbytes, now_ms=1, control=unexpected, storage_failed=failed,
            )
            for number, node_id in enumerate(ids)
        ]
        self.other_end: dict[Connection, tuple[int, Connection]] = {}
        for plane in self.planes:
            plane.set_cluster(bytes(16), bytes(range(16)))
            plane.set_placement(in_force(placement), [f"host{node_id[0]}" for node_id in ids], ["node"] * NODES)
            plane.set_buckets({})
        for one in range(NODES):
            for two in range(one + 1, NODES):
                ends = [self.connection(one, ids[two]), self.connection(two, ids[one])]
                self.planes[one].peer_up(ids[two], ends[0])
                self.planes[two].peer_up(ids[one], ends[1])
                self.other_end[ends[0]] = (two, ends[1])
                self.other_end[ends[1]] = (one, ends[0])
        self.client = self.connection(0, None)
        self.now_us = PASS_US
        self.answers: list[bytes] = []

    def connection(self, node: int, peer: bytes | None) -> Connection:
        made = Connection(self.planes[node], self.outboxes[node])
        made.hello_done = True
        made.peer = peer
        return made

    def run(self, requests: bytes) -> None:
        """What a client sent at once, in passes over all nodes until nothing is left to say; answers are kept."""
        arrived: list[list[tuple[Connection, bytes]]] = [[(self.client, requests)], [], []]
        while any(arrived):
            for node in range(NODES):
                frames, arrived[node] = arrived[node], []
                if not frames:
                    continue
                self.now_us += PASS_US
                self.planes[node].start_pass(self.now_us, self.now_us // 1000)
                for connection, data in frames:
                    connection.feed(data)
                assert self.planes[node].finish_pass() == 0
                for connection in self.outboxes[node].take():
                    if connection is self.client:
                        self.answers.append(connection.take())
                    else:
                        there, end = self.other_end[connection]
                        arrived[there].append((end, connection.take()))

    def taken(self, count: int) -> list[Frame]:
        """The answers so far, all OK, in the order of their requests' ids."""
        frames = FrameCutter().feed(b"".join(self.answers))
        self.answers.clear()
        assert len(frames) == count
        assert all(frame.status == Status.OK for frame in frames), {(frame.status, frame.body) for frame in frames}
        return sorted(frames, key=lambda frame: frame.request_id)


def unexpected(connection: Connection, type: int, status: int, request_id: int, body: bytes) -> None:
    raise AssertionError(f"a frame of type {type} reached the control plane")


def failed(error: StorageError) -> None:
    raise error


def passes(type: MessageType, bodies: Sequence[bytes]) -> list[bytes]:
    """Request frames, as many to a string as make one pass."""
    frames = [encode_frame(type, body, request_id=number) for number, body in enumerate(bodies)]
    return [b"".join(frames[at:at + PASS_REQUESTS]) for at in range(0, len(frames), PASS_REQUESTS)]


class Requests:
    """Stretches of puts and gets of keys that are all there already; each put carries its key's context."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.put_ids = 0
        self.keys = 0
        self.due = 0         # answers of the last stretch, not yet looked at

    def puts(self, keys: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        bodies = []
        for key, context in zip(keys, contexts, strict=True):
            self.put_ids += 1
            bodies.append(encode_put(key, VALUE, put_id=self.put_ids.to_bytes(16, "little"), context=context))
        return passes(MessageType.PUT, bodies)

    def filled(self, count: int) -> tuple[list[bytes], list[bytes]]:
        """New keys, put once, and their contexts."""
        self.nodes.taken(self.due)
        keys = [f"key:{self.keys + number:012d}".encode() for number in range(count)]
        self.keys += count
        self.play(self.puts(keys, [b""] * count))
        self.due = 0
        return keys, [frame.body for frame in self.nodes.taken(count)]

    def play(self, sent: Sequence[bytes]) -> None:
        for requests in sent:
            self.nodes.run(requests)

    def put_stretch(self, count: int) -> Callable[[], None]:
        """A put of each of `count` keys."""
        return self.stretch(self.puts(*self.filled(count)), count)

    def get_stretch(self, count: int) -> Callable[[], None]:
        """A get of each of `count` keys."""
        keys, _ = self.filled(count)
        return self.stretch(passes(MessageType.GET, [encode_get(key) for key in keys]), count)

    def stretch(self, sent: Sequence[bytes], count: int) -> Callable[[], None]:
        def play() -> None:
            self.play(sent)
            self.due = count

        return play
