"""Forgetting: deletes are reaped and long clocks settled when all homes agree and nothing old is about, and not before."""

from __future__ import annotations

import msgspec
import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.digest import key_position
from dynamo_fast.core.merkle import entry_hash
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.cluster import UnderWay
from dynamo_fast.node.forgetting import CLOCK_ENTRIES_KEPT, Forgetting, packed
from dynamo_fast.node.sessions import CallFailed
from dynamo_fast.node.unrest import unrest
from dynamo_fast.storage.schema import encode_record, encode_store_key, record_hash
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.changing import hold_still
from tests.node.exchanging import ExchangingNode
from tests.node.hinted import KEYS, ask, back, born, down, homes, put
from tests.node.virtual import World, in_virtual_time

GRACE_S = 8


async def delete(world: World, node: ExchangingNode, key: bytes, context: bytes, **options: object) -> bytes:
    return await put(world, node, key, b"", context=context, tombstone=True, **options)


async def deleted(world: World) -> tuple[list[ExchangingNode], bytes, list[ExchangingNode], bytes]:
    """Five nodes, a key that was put and deleted on all its homes, these homes, and the context after that."""
    nodes = await born(world, limits__grace_s=GRACE_S)
    key = KEYS[0]
    there = homes(nodes, key)
    return nodes, key, there, await delete(world, there[0], key, await put(world, there[0], key, w=3), w=3)


def copies(nodes: list[ExchangingNode], key: bytes) -> int:
    return sum(node.packed(key) is not None for node in nodes if node.node is not None)


def reaped(nodes: list[ExchangingNode]) -> int:
    return sum(node.node.forgetting.reaped for node in nodes)


def test_a_delete_is_forgotten_by_all_homes_after_the_grace() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__grace_s=GRACE_S)
        for key in KEYS[:10]:
            home = homes(nodes, key)[1]
            await delete(world, home, key, await put(world, home, key, w=3), w=3)
        await put(world, homes(nodes, KEYS[10])[0], KEYS[10], w=3)
        await trio.sleep(GRACE_S - 1)
        assert all(copies(nodes, key) == 3 for key in KEYS[:10])
        await world.until(lambda: all(copies(nodes, key) == 0 for key in KEYS[:10]), within_s=3 * GRACE_S)
        assert copies(nodes, KEYS[10]) == 3, "what is not deleted stays"
        assert reaped(nodes) == 30

    in_virtual_time(scenario)


def test_a_delete_waits_for_a_member_that_is_away() -> None:
    """Whoever it is: it may hold a copy, or a hint."""

    async def scenario(world: World) -> None:
        nodes, key, there, _ = await deleted(world)
        outsider = next(node for node in nodes if node not in there)
        await down(world, nodes, outsider)
        await trio.sleep(5 * GRACE_S)
        assert copies(nodes, key) == 3
        assert there[0].node.forgetting.postponed > 0
        await back(world, outsider)
        await world.until(lambda: copies(nodes, key) == 0, within_s=3 * GRACE_S)

    in_virtual_time(scenario)


def test_a_delete_waits_while_somebody_keeps_a_hint() -> None:
    async def scenario(world: World) -> None:
        nodes, key, there, _ = await deleted(world)
        keeper = next(node for node in nodes if node not in there)
        there[1].records.failure = "no space left"  # so that the hint cannot go home
        for other in KEYS[1:]:  # by one of which it is found out
            await put(world, next(home for home in homes(nodes, other) if home is not there[1]), other, w=1)
        await world.until(lambda: there[1].records.read_only is not None)
        keeper.records.put(keeper.store_key(key), hint_of(keeper, key, there[0].packed(key)))
        await trio.sleep(4 * GRACE_S)
        assert keeper.packed(key) is not None
        assert all(node.packed(key) is not None for node in there)

    in_virtual_time(scenario)


def test_a_delete_waits_for_a_hint_that_does_not_move() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__grace_s=GRACE_S)
        key = KEYS[0]
        there = homes(nodes, key)
        keeper = next(node for node in nodes if node not in there)
        keeper.node.handoff.round = trio.sleep_forever
        await trio.sleep(2)  # a round that had begun is over
        context = await put(world, there[0], key, w=3)
        store_key = keeper.store_key(key)
        keeper.records.put(store_key, hint_of(keeper, key, there[0].packed(key)))
        await delete(world, there[0], key, context, w=3)
        await trio.sleep(4 * GRACE_S)
        assert copies(there, key) == 3
        keeper.records.delete(store_key)
        await world.until(lambda: copies(nodes, key) == 0, within_s=3 * GRACE_S)

    in_virtual_time(scenario)


def hint_of(keeper: ExchangingNode, key: bytes, packed: bytes | None) -> bytes:
    assert packed is not None
    return encode_record(key, packed, hash=entry_hash(key_position(key), packed), owed=0b010, placement_number=1)


async def never(*about: object) -> None:
    await trio.sleep_forever()


def test_a_delete_that_not_all_homes_have_stays() -> None:
    async def scenario(world: World) -> None:
        nodes, key, there, _ = await deleted(world)
        for node in nodes:  # an exchange would bring the version back, and then all have it
            node.node.anti_entropy.exchange = never
        there[2].records.damage(there[2].store_key(key))
        await trio.sleep(4 * GRACE_S)
        assert there[0].packed(key) is not None
        assert there[1].packed(key) is not None

    in_virtual_time(scenario)


def test_a_delete_waits_for_what_is_being_carried() -> None:
    """A batch that was read before the delete came may still arrive somewhere."""

    async def scenario(world: World) -> None:
        nodes = await born(world, limits__grace_s=GRACE_S)
        key = KEYS[0]
        there = homes(nodes, key)
        with there[1].node.delivery.flights.flight():
            await delete(world, there[0], key, await put(world, there[0], key, w=3), w=3)
            await trio.sleep(4 * GRACE_S)
            assert copies(nodes, key) == 3
        await world.until(lambda: copies(nodes, key) == 0, within_s=3 * GRACE_S)

    in_virtual_time(scenario)


def test_a_home_that_holds_another_version_than_was_agreed_on_keeps_it() -> None:
    async def scenario(world: World) -> None:
        _, key, (home, *_), _ = await deleted(world)
        store_key = home.store_key(key)
        held = record_hash(home.records.get(store_key))
        plane, now_ms = home.node.data_plane, home.node.env.wall_ms()
        assert plane.forget(packed([(store_key, held ^ 1)]), now_ms, CLOCK_ENTRIES_KEPT) == (0, 0)
        assert home.packed(key) is not None
        assert plane.forget(packed([(store_key, held)]), now_ms, CLOCK_ENTRIES_KEPT) == (1, 0)
        assert home.packed(key) is None

    in_virtual_time(scenario)


def test_a_key_written_again_is_not_eaten() -> None:
    async def scenario(world: World) -> None:
        nodes, key, there, context = await deleted(world)
        await world.until(lambda: copies(nodes, key) == 0, within_s=4 * GRACE_S)
        again = await put(world, there[1], key, b"born again", context=context, w=3)
        assert all(Siblings(node.packed(key)).values == (b"born again",) for node in there)
        await put(world, there[2], key, b"and on", context=again, w=3)
        await trio.sleep(4 * GRACE_S)
        assert all(Siblings(node.packed(key)).values == (b"and on",) for node in there)

    in_virtual_time(scenario)


def test_a_session_that_has_seen_what_is_forgotten_reads_on() -> None:
    async def scenario(world: World) -> None:
        nodes, key, there, context = await deleted(world)
        await world.until(lambda: copies(nodes, key) == 0, within_s=4 * GRACE_S)
        frame = await ask(world, there[1], MessageType.GET, encode_get(key, session_context=context, r=3))
        assert frame.status == Status.NOT_FOUND
        assert decode_get_reply(frame.body)[1] == []

    in_virtual_time(scenario)


def test_a_long_clock_is_settled_alike_everywhere() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__grace_s=GRACE_S)
        key = KEYS[0]
        there = homes(nodes, key)
        context = b""
        for number in range(CLOCK_ENTRIES_KEPT + 4):
            home = there[number % 3]
            context = await put(world, home, key, b"%d" % number, context=context, w=3)
            await down(world, nodes, home)  # every start of a process is another epoch
            await back(world, home)
        last = Siblings(there[0].packed(key))
        assert len(last.clock) == CLOCK_ENTRIES_KEPT + 4
        await world.until(lambda: all(len(Siblings(node.packed(key)).clock) == CLOCK_ENTRIES_KEPT for node in there), within_s=6 * GRACE_S)
        assert len({node.packed(key) for node in there}) == 1
        assert Siblings(there[0].packed(key)).siblings == last.siblings
        frame = await ask(world, there[1], MessageType.GET, encode_get(key, session_context=context, r=3))
        assert frame.status == Status.OK
        await put(world, there[2], key, b"next", context=context, w=3)
        assert all(Siblings(node.packed(key)).values == (b"next",) for node in there)

    in_virtual_time(scenario)


def test_clients_may_ask_for_none_of_this() -> None:
    """It is for members alone: a stranger could make the store forget."""

    async def scenario(world: World) -> None:
        _, _, there, _ = await deleted(world)
        name = there[0].node.cluster.placement.name
        version = encode_store_key(there[0].view.mac_key, bytes(16), b"k") + bytes(8)
        for request in (
            replica.ForgetCheckRequest(placement=name, versions=version), replica.QuiesceRequest(),
            replica.StraysRequest(placement=name, partitions=[1]),
            replica.ForgetRequest(placement=name, versions=version, before_ms=0, entries_max=0),
        ):  # fmt: skip
            client = Connection(there[0].told, there[0].node.reactor.outbox)
            there[0].node.reactor.deliver(client, hello() + encode_frame(MessageType.CONTROL, messages.encode(request), request_id=1))
            answers: list[Frame] = []
            await world.until(lambda client=client, answers=answers: answers.extend(FrameCutter().feed(client.take())) or len(answers) > 1)
            assert [frame.status for frame in answers if frame.type == MessageType.CONTROL_REPLY] == [Status.BAD_REQUEST]

    def hello() -> bytes:
        return encode_frame(MessageType.HELLO, messages.encode(messages.Hello(versions=[messages.VERSION], role="client")))

    in_virtual_time(scenario)


# While members change -------------------------------------------------------------------------------------------------


def unsettled(node: ExchangingNode, how: str) -> None:
    """The node comes to know of something that is not settled."""
    cluster = node.node.cluster
    if how == "changing":
        cluster.change = UnderWay(cluster.placement, cluster.placement, Step.KNOWN)
    else:
        of_view = {"leaving": {"departed": frozenset([b"x" * 16])}, "to come": {"member_changes": (b"y" * 16,)}}[how]
        cluster.history._view = msgspec.structs.replace(cluster.history.view, **of_view)


@pytest.mark.parametrize("how", ["changing", "leaving", "to come"])
@pytest.mark.parametrize("who", [0, 1, 4])
def test_nothing_is_forgotten_while_anybody_knows_that_members_change(how: str, who: int) -> None:
    """The one that would begin, another home, and one that is no home."""

    async def scenario(world: World) -> None:
        nodes, key, there, _ = await deleted(world)
        order = there + [node for node in nodes if node not in there]
        for node in nodes:
            hold_still(node)
        history = order[who].node.cluster.history._view
        unsettled(order[who], how)
        await trio.sleep(5 * GRACE_S)
        assert copies(nodes, key) == 3
        order[who].node.cluster.history._view, order[who].node.cluster.change = history, None
        await world.until(lambda: copies(nodes, key) == 0, within_s=3 * GRACE_S)

    in_virtual_time(scenario)


def test_changes_that_the_placements_have_taken_in_are_no_unrest() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        cluster = nodes[0].node.cluster
        first = cluster.placement
        ids = [bytes([number]) * 16 for number in range(3)]
        second = Placement.made(2, first.digest, ids[:2], 3, first.node_ids, first.table)
        third = Placement.made(3, second.digest, ids[2:], 3, first.node_ids, first.table)
        view = msgspec.structs.replace(cluster.history.view, member_changes=tuple(ids), announced=(second.record, third.record))
        cluster.history._view = view
        assert unrest(cluster) is not None
        cluster.placement = second
        assert unrest(cluster) is not None
        cluster.placement = third
        assert unrest(cluster) is None

    in_virtual_time(scenario)


def test_who_is_cancelled_while_others_fail_is_cancelled_and_nothing_else() -> None:
    """As at the end of a node, which is not to die of it."""

    async def ask(index: int, what: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if index:
                raise CallFailed("this node is shutting down")

    async def cancelled() -> bool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await Forgetting._side_by_side(ask, [(0, None), (1, None)])
        return scope.cancelled_caught

    assert trio.run(cancelled)
