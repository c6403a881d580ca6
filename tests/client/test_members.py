"""A client while the members change: it goes to new homes at once, loses no answer of those that leave, and outlives all its seeds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import trio

import dynamo_fast
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_node import FakeCluster, FakeNode, fake_cluster, in_virtual_time

KEYS = sorted(b"k%d" % number for number in range(300))


def by_id(*nodes: FakeNode) -> list[FakeNode]:
    return sorted(nodes, key=lambda node: node.id)


@pytest.mark.parametrize("kind", [MessageType.PUT, MessageType.GET])
@in_virtual_time
async def test_a_stale_placement_is_renewed_before_the_next_attempt(kind: MessageType) -> None:
    async with fake_cluster(nodes=6) as (cluster, db):
        key = next(key for key in KEYS if cluster.nodes[0] in cluster.homes(key))
        await trio.sleep(0.5)
        before = cluster.homes(key)
        for node in before:
            node.script.extend([Status.STALE_PLACEMENT] * 10)
        cluster.turn_homes()
        began_s = trio.current_time()
        await (db.put(key, b"v") if kind == MessageType.PUT else db.get(key))
        assert trio.current_time() - began_s < 0.05
        assert (await db.cluster.placement()).number == 2
        asked = [node for node in cluster.nodes if node.received]
        assert len(set(asked) & set(before)) == 1
        assert len(set(asked) & set(cluster.homes(key))) == 1
        assert db.statistics()["retries"] == 1


@in_virtual_time
async def test_a_node_that_is_behind_everybody_else_does_not_keep_the_client_there() -> None:
    async with fake_cluster(nodes=4) as (cluster, db):
        lagging = cluster.nodes[0]
        lagging.behind = cluster.placement()
        lagging.stale = True
        cluster.become(cluster.nodes)
        for node in cluster.nodes[1:]:
            node.script.extend([0.001] * 1000)  # so that the one behind is the fastest
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        await trio.sleep(0.5)
        assert (await db.cluster.placement()).number == 2


@in_virtual_time
async def test_new_nodes_are_connected_and_those_that_left_are_let_go() -> None:
    async with fake_cluster(nodes=3) as (cluster, db):
        new, left = cluster.stranger(), cluster.nodes[0]
        cluster.become(by_id(*cluster.nodes[1:], new))
        cluster.strangers = [left]
        for node in cluster.nodes:
            node.stale = True
        await db.put_many(dict.fromkeys(KEYS, b"v"), overwrite=True)
        await trio.sleep(0.5)
        assert new.connections == 1
        assert set(db.statistics()["nodes"]) == {*cluster.addresses, left.address}, "a seed is kept, for want of better"
        asked = len(left.received)
        await db.get_many(KEYS)
        assert len(left.received) == asked
        assert new.received


@in_virtual_time
async def test_an_answer_that_a_node_owes_is_awaited_when_it_has_left() -> None:
    """Otherwise nobody could tell whether a put was applied, and a second try elsewhere would make a sibling."""
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, nodes=4)
        async with dynamo_fast.connect(cluster.addresses[1:], settings=cluster.settings(refresh_s=0.2, deadline_s=5.0)) as db:
            left = cluster.nodes[0]
            key = next(key for key in KEYS if left in cluster.homes(key))
            for node in cluster.homes(key):
                node.script.append(1.0)
            for node in cluster.homes(key):
                if node is not left:
                    db._shared.pool.node(node.address).latency_s = 100.0
            async with trio.open_nursery() as putting:
                putting.start_soon(db.put, key, b"v")
                await trio.sleep(0.1)
                assert left.received
                cluster.become(cluster.nodes[1:])
                await trio.sleep(0.5)
                assert left.address not in db.statistics()["nodes"]
                assert left.streams
            assert db.statistics()["retries"] == 0
            await trio.sleep(0.2)
            assert not left.streams
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_client_outlives_all_its_seeds() -> None:
    async with fake_cluster(nodes=3) as (cluster, db):
        await db.put("k", b"v")
        for _ in range(3):
            left = cluster.nodes[0]
            cluster.nodes = [*cluster.nodes]
            new = cluster.stranger()
            new.id, new.address = bytes([cluster.placement_number + 100]) * 16, f"10.0.1.{cluster.placement_number}:7400"
            cluster.strangers = []
            cluster.become([*cluster.nodes[1:], new])
            await trio.sleep(11)
            await left.kill()
        assert not {node.address for node in cluster.nodes} & {f"10.0.0.{number}:7400" for number in (1, 2, 3)}
        assert (await db.get("k")).value == b"v"
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        assert list(await db.cluster.status()) == cluster.addresses


@in_virtual_time
async def test_a_seed_that_was_left_behind_is_not_asked_while_members_answer() -> None:
    async with fake_cluster(nodes=4) as (cluster, db):
        left = cluster.nodes[0]
        left.behind = cluster.placement()
        cluster.become(cluster.nodes[1:])
        cluster.strangers = [left]
        await trio.sleep(25)
        for number in range(3, 6):
            cluster.become(cluster.nodes)
            await trio.sleep(11)
            assert (await db.cluster.placement()).number == number


async def the_rest(listing: AsyncIterator[bytes], cluster: FakeCluster, behind_s: float) -> list[bytes]:
    """What is still told, while the nodes that are behind catch up after a while."""

    async def catch_up() -> None:
        await trio.sleep(behind_s)
        for node in cluster.nodes:
            node.behind = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(catch_up)
        return [key async for key in listing]


@pytest.mark.parametrize("seed", range(8))
@in_virtual_time
async def test_a_key_is_told_by_homes_of_one_placement(seed: int) -> None:
    """Each key is at two of its three homes in either placement: two homes of one show it, one home of each may both lack it."""
    async with fake_cluster(nodes=6) as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        before = cluster.placement()
        chance = random.Random(seed)
        homes = {key: [cluster.homes(key)] for key in KEYS}
        cluster.turn_homes()  # no home of before is one afterwards
        for key in KEYS:
            for group in (*homes[key], cluster.homes(key)):
                chance.choice(group).lacks.add(key)
        for node in cluster.nodes:
            node.behind = before
        listing = db.keys(page=chance.randrange(3, 20))
        told = await listing.take(chance.randrange(1, 200))
        for node in chance.sample(cluster.nodes, 3):
            node.behind = None
        told += await the_rest(listing, cluster, 1)
        assert (sorted(told), len(told)) == (KEYS, len(KEYS))


@in_virtual_time
async def test_a_listing_waits_for_a_home_that_is_a_step_behind() -> None:
    async with fake_cluster(nodes=6) as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        before = cluster.placement()
        listing = db.keys(page=10)
        told = await listing.take(50)
        cluster.turn_homes()
        for node in cluster.nodes[2:]:
            node.behind = before
        told += await the_rest(listing, cluster, 1.5)
        assert (sorted(told), len(told)) == (KEYS, len(KEYS))


@in_virtual_time
async def test_a_listing_goes_on_when_the_homes_it_knew_are_gone_altogether() -> None:
    async with fake_cluster(nodes=6) as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        listing = db.keys(page=10)
        told = await listing.take(50)
        gone = cluster.nodes[:2]
        cluster.become(cluster.nodes[2:])
        for node in gone:
            await node.kill()
        told += [key async for key in listing]
        assert (sorted(told), len(told)) == (KEYS, len(KEYS))
