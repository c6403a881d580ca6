"""A node that answers at once, always the same, to measure what a client costs: `python -m bench.canned_node` prints its address."""

from __future__ import annotations

import selectors
import socket
import struct

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.wire import control_messages as control
from dynamo_fast.wire.data_messages import encode_get_reply
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType

PARTITIONS = 1024
VALUE = b"x" * 100
CONTEXT = struct.pack("<BBHI16s16s", 1, 0, 3, 0, bytes(16), bytes(16)) + b"".join(bytes([n]) * 24 + bytes(16) for n in range(3)) + bytes(8)
GET_REPLY = encode_get_reply(CONTEXT, [(VALUE, False, 0)])


def placement(addresses: list[str]) -> control.PlacementReply:
    order = list(range(len(addresses)))
    table = b"".join(struct.pack(f"<{len(order)}H", *(order[p % len(order) :] + order[: p % len(order)])) for p in range(PARTITIONS))
    return control.PlacementReply(
        number=1, name=1, digest=bytes(16), cluster_id=bytes(16), partitions=PARTITIONS, replicas=len(order),
        nodes=[NodeEntry(id=bytes([n]) * 16, address=address, host=address) for n, address in enumerate(addresses)],
        table=table, buckets=[], defaults=ClusterDefaults(),
        limits=control.ClientLimits(key_bytes_max=4096, value_bytes_max=1 << 20, frame_bytes_max=2 << 20),
    )  # fmt: skip


def answer(frame: Frame, addresses: list[str]) -> bytes:
    if frame.type == MessageType.GET:
        body = GET_REPLY
    elif frame.type == MessageType.PUT:
        body = CONTEXT
    elif frame.type == MessageType.HELLO:
        body = control.encode(control.HelloReply(version=1, cluster_id=bytes(16), node_id=bytes(16)))
    else:
        body = control.encode(placement(addresses))
    return encode_frame(frame.type + 1, body, frame.request_id)


def main(nodes: int = 3) -> None:
    """Serves until stdin closes."""
    selector = selectors.DefaultSelector()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(nodes)]
    addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ, None)
    selector.register(0, selectors.EVENT_READ, "stdin")
    print(",".join(addresses), flush=True)
    while True:
        for key, _ in selector.select():
            if key.data == "stdin":
                return
            if key.data is None:
                connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, FrameCutter())
                continue
            stream: socket.socket = key.fileobj  # type: ignore[assignment]
            data = stream.recv(1 << 18)
            if not data:
                selector.unregister(stream)
                stream.close()
                continue
            stream.sendall(b"".join([answer(frame, addresses) for frame in key.data.feed(data)]))


if __name__ == "__main__":
    main()
