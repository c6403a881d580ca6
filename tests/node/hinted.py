"""Five nodes that know each other, some of which go and come back, and what clients ask of the others meanwhile."""

from __future__ import annotations

import itertools

from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.data_messages import encode_put
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.exchanging import ExchangingNode
from tests.node.virtual import World

ADDRESSES = [f"10.0.0.{number}:7400" for number in range(1, 6)]
KEYS = [b"key %d" % number for number in range(40)]
PUT_IDS = itertools.count(1)


async def born(world: World, **flags: object) -> list[ExchangingNode]:
    """Five nodes that know each other."""
    nodes = [ExchangingNode(world, address, node__bootstrap=ADDRESSES, requests__dw=0, **flags) for address in ADDRESSES]
    await world.start(*nodes)
    await world.until(lambda: all(node.node is not None and len(node.peers) == 4 for node in nodes))
    return nodes


async def down(world: World, nodes: list[ExchangingNode], gone: ExchangingNode) -> None:
    gone_id = gone.id
    gone.crash()
    await world.until(lambda: all(gone_id not in node.peers for node in nodes if node is not gone))


async def back(world: World, gone: ExchangingNode) -> None:
    await world.start(gone)
    await world.until(lambda: len(gone.peers) == 4)


def homes(nodes: list[ExchangingNode], key: bytes) -> list[ExchangingNode]:
    placement = next(node for node in nodes if node.node is not None).node.cluster.placement
    by_id = {node.id: node for node in nodes if node.node is not None and node.node.cluster.placement}
    return [by_id[placement.node_ids[index]] for index in placement.ring().preference_list(key)]


def keys_of(nodes: list[ExchangingNode], owner: ExchangingNode) -> list[tuple[bytes, ExchangingNode]]:
    """Keys of which that node is a home, each with another home of it."""
    there = {key: homes(nodes, key) for key in KEYS}
    return [(key, next(home for home in there[key] if home is not owner)) for key in KEYS if owner in there[key]]


async def ask(world: World, node: ExchangingNode, type: MessageType, body: bytes) -> Frame:
    """One request of a client's through that node."""
    client = Connection(node.told, node.node.reactor.outbox)
    client.hello_done = True
    node.node.reactor.deliver(client, encode_frame(type, body, request_id=1))
    frames: list[Frame] = []

    def answered() -> bool:
        frames.extend(FrameCutter().feed(client.take()))
        return bool(frames)

    await world.until(answered)
    return frames[0]


async def answer_to_put(world: World, node: ExchangingNode, key: bytes, value: bytes = b"v", **options: object) -> Frame:
    body = encode_put(key, value, put_id=next(PUT_IDS).to_bytes(16, "big"), **options)  # type: ignore[arg-type]
    return await ask(world, node, MessageType.PUT, body)


async def put(world: World, node: ExchangingNode, key: bytes, value: bytes = b"v", **options: object) -> bytes:
    """The context after a put."""
    frame = await answer_to_put(world, node, key, value, **options)
    assert frame.status == Status.OK, frame.body
    return frame.body
