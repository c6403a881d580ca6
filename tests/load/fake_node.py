"""A node as the generator sees it: hello, placement, put and get over a dict, strict about contexts."""

from __future__ import annotations

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.wire.control_messages import ClientLimits, HelloReply, PlacementReply, PlacementRequest, decode_request, encode
from dynamo_fast.wire.data_messages import Put, decode_get, decode_put, encode_get_reply
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status


class FakeNode:
    """Keeps every version of a key that a put's context did not cover, as a real node would. A test may replace `reply`."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.versions: dict[bytes, list[tuple[int, bytes]]] = {}
        self.events = 0
        self.puts: list[Put] = []
        self.members: list[tuple[str, int]] = []
        self.backwards = False       # answer what came together in the opposite order

    def __call__(self, pending: bytearray) -> tuple[int, bytes]:
        cutter = FrameCutter()
        answers = [self.reply(frame) for frame in cutter.feed(bytes(pending))]
        return len(pending) - cutter.pending_bytes, b"".join(reversed(answers) if self.backwards else answers)

    def reply(self, frame: Frame) -> bytes:
        status, body = Status.OK, b""
        match frame.type:
            case MessageType.HELLO:
                body = encode(HelloReply(version=1, node_id=bytes(16)))
            case MessageType.CONTROL:
                assert isinstance(decode_request(frame.body), PlacementRequest)
                body = encode(self.placement())
            case MessageType.PUT:
                body = self.put(decode_put(frame.body))
            case MessageType.GET:
                key = decode_get(frame.body).key
                versions = self.versions.get(key, [])
                status = Status.OK if versions else Status.NOT_FOUND
                body = encode_get_reply(self.context(key), [(value, False, 0) for _, value in versions])
        return encode_frame(frame.type + 1, body, request_id=frame.request_id, status=status)

    def put(self, put: Put) -> bytes:
        assert len(put.put_id) == 16
        self.puts.append(put)
        seen = int.from_bytes(put.context[-8:], "big") if put.context else 0
        kept = [] if put.overwrite else [version for version in self.versions.get(put.key, []) if version[0] > seen]
        self.events += 1
        self.versions[put.key] = [*kept, (self.events, put.value)]
        return self.context(put.key)

    def context(self, key: bytes) -> bytes:
        """Grows with the versions seen, as clocks do; its last eight bytes are the newest event it covers."""
        return b"c" * (40 + 8 * (self.events % 3)) + max((event for event, _ in self.versions.get(key, [])), default=0).to_bytes(8, "big")

    def placement(self) -> PlacementReply:
        """Partitions 0, 1, 2 ... have the members as first home in turn."""
        nodes = [
            NodeEntry(id=bytes([number]) * 16, address=f"{host}:{port}", host=str(number))
            for number, (host, port) in enumerate(self.members)
        ]
        order = [(first + step) % len(nodes) for first in range(8) for step in range(len(nodes))]
        return PlacementReply(
            number=1, name=1, digest=bytes(16), cluster_id=bytes(16), partitions=8, replicas=len(nodes), nodes=nodes,
            table=b"".join(node.to_bytes(2, "little") for node in order), buckets=[], defaults=ClusterDefaults(),
            limits=ClientLimits(key_bytes_max=4096, value_bytes_max=1 << 20, frame_bytes_max=1 << 24),
        )
