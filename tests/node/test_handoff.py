"""Hints go home (paper 4.6): to their owner, once, whole, however often somebody dies on the way."""

from __future__ import annotations

import pytest
import trio

from dynamo_fast.core.placement import Placement
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.control_messages import HintsReply, HintsRequest
from dynamo_fast.wire.status import Status
from tests.node.changing import placement_over, settle
from tests.node.exchanging import ExchangingNode, version
from tests.node.hinted import KEYS, answer_to_put, back, born, down, homes, keys_of, put
from tests.node.virtual import World, in_virtual_time


def kept(nodes: list[ExchangingNode]) -> int:
    """Records that are kept for others."""
    return sum(decode_record(record).owed != 0 for node in nodes for _, record in node.records.scan(bytes(24), b"\xff" * 24, 10_000))


def kept_bytes(node: ExchangingNode) -> int:
    """Of the records that it keeps for others."""
    return sum(len(record) for _, record in node.records.scan(bytes(24), b"\xff" * 24, 10_000) if decode_record(record).owed)


async def one_kept(world: World, nodes: list[ExchangingNode]) -> tuple[bytes, ExchangingNode, ExchangingNode]:
    """The first node is down and has missed a put: its key, another home of it, and who keeps a hint."""
    owner = nodes[0]
    key, other = keys_of(nodes, owner)[0]
    await down(world, nodes, owner)
    await put(world, other, key, w=3)
    (keeper,) = [node for node in nodes if node is not owner and kept([node])]
    return key, other, keeper


@pytest.mark.parametrize("seed", range(5))
def test_what_was_kept_goes_home_and_is_gone(seed: int) -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[seed]
        theirs = keys_of(nodes, owner)
        await down(world, nodes, owner)
        for key, other in theirs:
            await put(world, other, key, b"while you were out", w=3)
        assert kept(nodes) == len(theirs) > 0
        assert all(owner.packed(key) is None for key, _ in theirs)
        await back(world, owner)
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        assert all(owner.packed(key) == other.packed(key) for key, other in theirs)
        assert all(sum(node.packed(key) is not None for node in nodes) == 3 for key, _ in theirs), "three homes, and no one else"
        assert sum(node.node.handoff.delivered for node in nodes if node is not owner) == len(theirs)

    in_virtual_time(scenario, seed=seed)


def test_keepers_that_restart_deliver_all_the_same() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        theirs = keys_of(nodes, owner)
        await down(world, nodes, owner)
        for key, other in theirs:
            await put(world, other, key, w=3)
        for node in nodes[1:]:
            node.crash()
        await world.until(lambda: not any(node.disk.locks for node in nodes))
        await world.start(*nodes)
        await world.until(lambda: kept(nodes) == 0, within_s=30)
        assert all(owner.packed(key) == other.packed(key) for key, other in theirs)

    in_virtual_time(scenario)


def test_hints_from_before_a_restart_count_towards_the_limit_until_they_are_home() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__hint_bytes_max=8000)
        owner, *others = nodes
        theirs = keys_of(nodes, owner)

        async def status_of_put(key: bytes, other: ExchangingNode, value: bytes) -> Status:
            return Status((await answer_to_put(world, other, key, value, w=3)).status)

        def hint_bytes() -> list[int]:
            return [node.told.statistics()["hint_bytes"] for node in others]

        await down(world, nodes, owner)
        assert [await status_of_put(*one, bytes(300)) for one in theirs] == [Status.OK] * len(theirs)
        before = hint_bytes()
        assert before == [kept_bytes(node) for node in others]
        assert min(before) > 1000
        for node in others:
            node.crash()
        await world.until(lambda: not any(node.disk.locks for node in nodes))
        await world.start(*others)
        await world.until(lambda: all(node.node is not None and len(node.peers) == 3 for node in others))
        await trio.sleep(3)
        assert hint_bytes() == before
        assert await status_of_put(*theirs[0], bytes(7000)) == Status.QUORUM_FAILED, "nobody has room for it"
        assert hint_bytes() == before
        await back(world, owner)
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        assert hint_bytes() == [0, 0, 0, 0]
        await down(world, nodes, owner)
        assert await status_of_put(*theirs[1], bytes(7000)) == Status.OK

    in_virtual_time(scenario)


def test_hints_that_go_before_they_were_counted_are_not_less_than_none_and_a_round_that_finds_none_says_so() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        key, other, keeper = await one_kept(world, nodes)
        keeper.told.count_hints(0)
        await back(world, owner)
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        await trio.sleep(3)
        assert keeper.told.statistics()["hint_bytes"] == 0
        keeper.told.count_hints(1000)
        await trio.sleep(3)
        assert keeper.told.statistics()["hint_bytes"] == 1000, "nobody looks while nothing comes"
        await down(world, nodes, owner)
        await put(world, other, key, b"w", w=3)
        await back(world, owner)
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        await trio.sleep(3)
        assert keeper.told.statistics()["hint_bytes"] == 0

    in_virtual_time(scenario)


def test_an_owner_that_dies_again_in_the_middle_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        theirs = keys_of(nodes, owner)
        await down(world, nodes, owner)
        for key, other in theirs:
            await put(world, other, key, w=3)
        for _ in range(3):
            await back(world, owner)
            await world.until(lambda: any(owner.packed(key) for key, _ in theirs), within_s=10)
            await down(world, nodes, owner)
        await back(world, owner)
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        assert all(owner.packed(key) == other.packed(key) for key, other in theirs)

    in_virtual_time(scenario)


def test_an_owner_whose_disk_is_full_keeps_its_hints_waiting() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        key, other, _ = await one_kept(world, nodes)
        owner.records.failure = "no space left"
        await back(world, owner)
        await world.until(lambda: owner.records.read_only is not None, within_s=10)
        assert kept(nodes) == 1
        owner.records.heal()
        await world.until(lambda: kept(nodes) == 0, within_s=10)
        assert owner.packed(key) == other.packed(key)

    in_virtual_time(scenario)


def test_a_hint_too_old_is_handed_to_the_homes_that_are_there() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__hint_age_max_s=60)
        owner = nodes[0]
        key = next(key for key in KEYS if owner in homes(nodes, key))
        others = [home for home in homes(nodes, key) if home is not owner]
        await down(world, nodes, owner)
        await put(world, others[0], key, w=3)
        assert kept(nodes) == 1
        await world.until(lambda: kept(nodes) == 0, within_s=300)
        assert all(home.packed(key) is not None for home in others)

    in_virtual_time(scenario)


def test_an_old_hint_waits_while_fewer_than_w_homes_are_there() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world, limits__hint_age_max_s=60)
        key = KEYS[0]
        absent, away, there = homes(nodes, key)
        await down(world, nodes, absent)
        await down(world, nodes, away)
        await put(world, there, key, w=3)
        assert kept(nodes) == 2
        await trio.sleep(400)
        assert kept(nodes) == 2
        await world.start(away)
        await world.until(lambda: away.packed(key) is not None, within_s=30)
        await world.until(lambda: kept(nodes) == 0, within_s=300)

    in_virtual_time(scenario)


def test_nodes_tell_what_they_keep_for_whom() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        owner_id = owner.id
        key, _, keeper = await one_kept(world, nodes)
        await trio.sleep(7)
        reply = await next(node for node in nodes if node not in (owner, keeper)).session_to(keeper).call(HintsRequest())
        assert isinstance(reply, HintsReply)
        (found,) = reply.owners
        assert (found.node_id, found.hints, found.size_bytes > len(key)) == (owner_id, 1, True)
        assert 7 <= found.oldest_s < 10

    in_virtual_time(scenario)


def test_no_partition_stays_suspect_for_ever() -> None:
    """Neither those of which a node is a home, once they have been compared, nor those that are none of its business."""

    async def scenario(world: World) -> None:
        nodes = await born(world)
        for node in nodes:
            for partition in range(64):
                node.records.suspect(partition)
        await world.until(lambda: not any(node.records.suspects for node in nodes), within_s=120)

    in_virtual_time(scenario)


# While members change -------------------------------------------------------------------------------------------------


def test_a_keeper_that_has_left_delivers_all_the_same() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        key, _, keeper = await one_kept(world, nodes)
        stay = [node for node in nodes if node is not keeper]
        new = placement_over(stay, keeper.view)
        settle([node for node in nodes if node is not owner], new)
        await world.start(owner)
        await world.until(lambda: len(owner.peers) == 4)
        settle([owner], new)
        reply = await keeper.node.handoff.answer(None, HintsRequest())
        assert sum(one.hints for one in reply.owners) >= 1
        await world.until(lambda: keeper.packed(key) is None, within_s=10)
        holders = [node for node in stay if node.packed(key) is not None]
        assert {node.id for node in holders} >= {new.node_ids[index] for index in new.ring().preference_list(key)}

    in_virtual_time(scenario)


def test_what_was_confirmed_in_slots_that_count_no_more_is_delivered_again() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        owner = nodes[0]
        key, _, keeper = await one_kept(world, nodes)
        await back(world, owner)
        placement = keeper.node.cluster.placement
        other = Placement.made(2, placement.digest, (), 3, placement.node_ids, placement.table)
        push = keeper.node.delivery.push

        async def and_then(session, name, entries, settled):
            await push(session, name, entries, settled)
            settle([keeper], other)

        keeper.node.delivery.push = and_then
        await keeper.node.handoff.round()
        keeper.node.delivery.push = push
        assert owner.packed(key) is not None
        assert keeper.packed(key) is not None, "it may be owed to others by now"
        settle([keeper], placement)
        await world.until(lambda: keeper.packed(key) is None, within_s=10)

    in_virtual_time(scenario)


def test_old_copies_are_passed_by_and_looked_through_once() -> None:
    async def scenario(world: World) -> None:
        nodes = await born(world)
        holder = nodes[0]
        mine = [key for key in KEYS if holder in homes(nodes, key)]
        for key in mine:
            holder.write(key, version(b"old"))
        settle(nodes, placement_over(nodes[1:], holder.view))
        await trio.sleep(5)
        assert all(holder.packed(key) is not None for key in mine)
        assert holder.node.handoff._partitions == []
        rounds = holder.node.handoff.rounds
        await trio.sleep(30)
        assert holder.node.handoff.rounds == rounds, "there is nothing to look at"

    in_virtual_time(scenario)
