"""Nodes in virtual time that hold records: the real data plane and engine under the real control plane, on the virtual network."""

from __future__ import annotations

import trio

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.data_messages import encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType
from tests.node.virtual import VirtualNode, World
from tests.node.virtual_network import End, VirtualReactor

ROUND_S = 10


class PassReactor(VirtualReactor):
    """Carries bytes in passes: all that one node sends at a time reaches another as one pass of it."""

    def hand(self, other: End, data: bytes) -> None:
        if other.reactor is not None and other.connection in other.reactor.ends:
            other.reactor.deliver(other.connection, data)

    def deliver(self, connection, data: bytes) -> None:
        self.outbox.start_pass()
        self.handler.start_pass(int(self.env.now() * 1e6), self.env.wall_ms())
        try:
            connection.feed(data)
        except Exception as error:
            connection.close(str(error))
        if self.handler.finish_pass() != 0:
            self.outbox.drop_pass()


class ExchangingNode(VirtualNode):
    """A node whose records outlive a crash; `wipe` loses them, and no more than them."""

    def __init__(self, world: World, address: str, **flags: object) -> None:
        super().__init__(world, address, **flags)
        self.wipe()

    def wipe(self) -> None:
        self.records: Engine = FaultyEngine(MemoryEngine(partitions=64))

    async def restart(self, *, wiped: bool = False, away_s: float = 1.0) -> None:
        """kill -9, and a start `away_s` later; on an empty disk if its records are wiped."""
        self.crash()
        await trio.sleep(away_s)
        if wiped:
            self.wipe()
        await self.world.start(self)

    def make_engine(self) -> Engine:
        return self.records

    def build_loop(self, config, env, node_id, engine, control, storage_failed):
        data_plane = DataPlane(
            node_id=node_id, nonce=self.starts, engine=engine, limits=config.limits, requests=config.requests,
            cluster_defaults=config.defaults, random_bytes=env.random_bytes, now_ms=int(env.now() * 1000), control=control,
            storage_failed=storage_failed,
        )  # fmt: skip
        reactor = PassReactor(data_plane, self.world.network)
        reactor.env = env
        return data_plane, reactor

    def store_key(self, key: bytes, bucket: bytes = b"") -> bytes:
        assert self.view is not None
        return encode_store_key(self.view.mac_key, key_position(key, bucket), key, bucket)

    def packed(self, key: bytes, bucket: bytes = b"") -> bytes | None:
        """This node's copy, None when it has none."""
        record = self.records.get(self.store_key(key, bucket))
        return None if record is None else decode_record(record).packed

    def write(self, key: bytes, packed: bytes) -> None:
        """The node comes to hold an object, whoever it has it from, as if it had merged it."""
        ((status, _),) = self.told.merge_entries([(b"", key, packed)])
        assert status == 0

    def client(self) -> Connection:
        """A connection of a client that reads none of its answers; `ask` uses it."""
        made = Connection(self.told, self.node.reactor.outbox, label="a client")
        made.hello_done = True
        return made

    def put(self, client: Connection, key: bytes, value: bytes, number: int, **options: object) -> None:
        """A client's put, coordinated here; the put's id is made of the number."""
        body = encode_put(key, value, put_id=number.to_bytes(16, "little"), **options)  # type: ignore[arg-type]
        self.node.reactor.deliver(client, encode_frame(MessageType.PUT, body, request_id=number))
        client.take()

    def session_to(self, other: ExchangingNode):
        return self.node.peers.up[other.id]


def same(nodes: list[ExchangingNode]) -> bool:
    """Whether every partition has the same tree on all its homes."""
    placement = nodes[0].node.cluster.placement
    by_id = {node.id: node for node in nodes}
    return all(
        len({by_id[placement.node_ids[index]].records.forest.leaves(partition) for index in row[: placement.replicas]}) == 1
        for partition, row in enumerate(placement.table)
    )


def version(value: bytes, *, node: int = 1, counter: int = 1) -> bytes:
    """An object that a put at some coordinator made: equal arguments make equal bytes."""
    siblings = Siblings()
    for _ in range(counter):
        siblings = siblings.put(value, node=bytes([node]) * 16, epoch=node, context=siblings.clock, request_id=bytes([node]) * 16)
    return siblings.packed


async def cluster_of(world: World, count: int, **flags: object) -> list[ExchangingNode]:
    """That many nodes, born and connected."""
    names = [f"n{number}:7400" for number in range(1, count + 1)]
    nodes = [ExchangingNode(world, name, node__bootstrap=names, **flags) for name in names]
    await world.start(*nodes)
    await world.until(lambda: all(node.view is not None and len(node.peers) == count - 1 for node in nodes))
    return nodes


def moved(nodes: list[ExchangingNode]) -> int:
    """Objects that exchanges have sent, either way, in the life of the nodes that live."""
    return sum(node.node.anti_entropy.total.keys_pulled + node.node.anti_entropy.total.keys_pushed for node in nodes)


def everywhere(nodes: list[ExchangingNode], count: int, **of: int) -> list[bytes]:
    keys = [b"key%d" % number for number in range(count)]
    for key in keys:
        for node in nodes:
            node.write(key, version(b"of " + key, **of))
    return keys


async def at_rest(world: World, count: int, **flags: object) -> list[ExchangingNode]:
    """A cluster whose members have met, each pair from both sides."""
    nodes = await cluster_of(world, count, **flags)
    await world.until(lambda: all(len(node.node.anti_entropy.met_s) == count - 1 for node in nodes))
    await trio.sleep(5)
    return nodes


async def at_rest_again(world: World, nodes: list[ExchangingNode]) -> None:
    """What is under way has come to its end and is counted."""
    await world.until(lambda: not any(node.node.anti_entropy.meeting for node in nodes))


def sums(nodes: list[ExchangingNode], name: str) -> int:
    return sum(getattr(node.node.anti_entropy.total, name) for node in nodes)
