"""Nodes that are told of having departed: they believe whoever can prove it, and nobody else."""

import logging

import msgspec
import pytest
import trio

from dynamo_fast.core.departure import Departure, departure_of
from dynamo_fast.core.membership import History, Leave, make_record
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.frame import FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.asking import ready
from tests.node.exchanging import ExchangingNode
from tests.node.virtual import World, in_virtual_time
from tests.node.virtual_network import End


class Stranger:
    """Listens at an address that was a member's, and answers every HELLO with DEPARTED and that body. A reactor, as the network sees it."""

    def __init__(self, world: World, address: str, body: bytes) -> None:
        self.body = body
        self.asked = 0
        self.ends: dict[FrameCutter, End] = {}
        world.network.listening[address] = self  # type: ignore[assignment]

    def accept(self, end: End) -> None:
        end.connection, end.reactor = FrameCutter(), self  # type: ignore[assignment]
        self.ends[end.connection] = end  # type: ignore[index]

    def deliver(self, cutter: FrameCutter, data: bytes) -> None:
        caller = self.ends[cutter].other
        for frame in cutter.feed(data):
            assert frame.type == MessageType.HELLO
            self.asked += 1
            caller.reactor.deliver(
                caller.connection, encode_frame(MessageType.HELLO_REPLY, self.body, request_id=frame.request_id, status=Status.DEPARTED)
            )

    def end(self, cutter: FrameCutter, reason: str) -> None:
        del self.ends[cutter]


async def one_address_lost(world: World) -> tuple[ExchangingNode, ExchangingNode]:
    """A member, and another one of three that is down; the third is a member too."""
    members, _ = await ready(world)
    members[2].crash()
    await world.until(lambda: all(len(one.peers) == 1 for one in members[:2]))
    return members[0], members[2]


def said_of(node: ExchangingNode, history: History) -> Departure:
    departure = departure_of(node.id, history)
    assert departure is not None
    return departure


def declared_dead(node: ExchangingNode, whom: bytes) -> History:
    """The node's history, and what an operator would add to it."""
    history = node.node.cluster.history.copy()
    history.merge([make_record(Leave(node_id=whom, dead=True), author=node.id, time=history.last_time + 1)])
    return history


def forged(node: ExchangingNode, kind: str) -> bytes:
    """What somebody might say who does not have the secret, but has been listening."""
    true = said_of(node, declared_dead(node, node.id))
    other = departure_of(b"o" * 16, declared_dead(node, b"o" * 16))
    assert other is not None
    bodies = {
        "a sentence": b"you have departed",
        "no mac": messages.encode(msgspec.structs.replace(true, mac=0)),
        "a mac of others": messages.encode(msgspec.structs.replace(true, mac=other.mac)),
        "said of another": messages.encode(other),
        "nothing": b"",
    }
    return bodies[kind]


@pytest.mark.parametrize("kind", ["a sentence", "no mac", "a mac of others", "said of another", "nothing"])
def test_what_nobody_vouches_for_stops_no_node(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "dynamo_fast.node")

    async def scenario(world: World) -> None:
        node, lost = await one_address_lost(world)
        stranger = Stranger(world, lost.address, forged(node, kind))
        records = len(node.node.cluster.history)
        await world.until(lambda: stranger.asked > 10)
        assert node.node.state() == "ready"
        assert not node.node.cluster.removed
        assert len(node.node.cluster.history) == records
        told = [record for record in caplog.records if "shows no proof" in record.message]
        assert len(told) <= 2, "once on each node that dials"
        assert bool(told) == (kind not in ("a sentence", "nothing"))

    in_virtual_time(scenario)


def test_records_that_do_not_say_so_stop_no_node_though_they_are_vouched_for() -> None:
    """As of a member whose version takes them for something else."""

    async def scenario(world: World) -> None:
        node, lost = await one_address_lost(world)
        history = node.node.cluster.history.copy()
        history._departures = {node.id: [make_record(Leave(node_id=node.id), author=lost.id, time=history.last_time + 1)]}
        stranger = Stranger(world, lost.address, messages.encode(said_of(node, history)))
        await world.until(lambda: stranger.asked > 10)
        assert not node.node.cluster.removed

    in_virtual_time(scenario)


def test_who_was_declared_dead_is_told_by_whomever_it_dials_and_knows_it_from_then_on() -> None:
    async def scenario(world: World) -> None:
        members, _ = await ready(world)
        dead = members[2]
        dead_id = dead.id
        dead.crash()
        await world.until(lambda: all(len(one.peers) == 1 for one in members[:2]))
        await members[0].node.cluster.add(Leave(node_id=dead_id, dead=True))
        await world.until(lambda: members[1].node.cluster.refuses(dead_id))
        await world.start(dead)
        assert not dead.node.cluster.refuses(dead_id)
        await world.until(lambda: dead.node.state() == "left")
        assert dead.node.cluster.refuses(dead_id), "its own history says so"
        dead.crash()
        await trio.sleep(1)
        for one in members[:2]:
            one.crash()
        await world.start(dead)
        assert dead.node.cluster.refuses(dead_id)

    in_virtual_time(scenario)


def test_a_disk_that_refuses_what_it_is_told_only_delays_it() -> None:
    async def scenario(world: World) -> None:
        members, _ = await ready(world)
        dead = members[2]
        dead_id = dead.id
        dead.disk.refuse = OSError(28, "No space left on device")
        await members[0].node.cluster.add(Leave(node_id=dead_id, dead=True))
        await world.until(lambda: all(dead_id not in one.peers for one in members[:2]))
        await trio.sleep(10)
        assert not dead.node.cluster.removed
        assert dead.failure is None
        dead.disk.refuse = None
        await world.until(lambda: dead.node.state() == "left")

    in_virtual_time(scenario)
