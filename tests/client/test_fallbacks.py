"""Requests whose homes are away, silent, not ready or overloaded: who is asked next, how long it takes, and how the end is told."""

from __future__ import annotations

import pytest
import trio

import dynamo_fast
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_node import FakeCluster, fake_cluster, in_virtual_time

KEYS = [b"k%d" % number for number in range(12)]
NODES = 7  # three homes and four fallbacks of each key


def asked(cluster: FakeCluster, key: bytes) -> list[str]:
    """Who received a put, in the order of the key's list."""
    return [node.address for node in cluster.order(key) for frame in node.received if frame.type == MessageType.PUT]


def forget(cluster: FakeCluster) -> None:
    for node in cluster.nodes:
        node.received.clear()


async def seconds_of(db: dynamo_fast.Client, key: bytes) -> float:
    began_s = trio.current_time()
    await db.put(key, b"v", overwrite=True)
    return trio.current_time() - began_s


@pytest.mark.parametrize("key", KEYS)
@in_virtual_time
async def test_when_no_home_can_be_reached_the_first_fallback_is_asked_at_once(key: bytes) -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        for home in cluster.homes(key):
            await home.kill()
        await trio.sleep(0.5)  # long enough for the client to have found out
        assert await seconds_of(db, key) < 0.001
        assert asked(cluster, key) == [cluster.order(key)[3].address]
        assert (await db.get(key)).value == b"v"


@in_virtual_time
async def test_fallbacks_are_asked_in_the_order_of_the_key_and_not_by_their_speed() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        for key in KEYS:
            order = cluster.order(key)
            order[3].script.extend([0.05] * 2)  # slow, and still the first
            for home in cluster.homes(key):
                home.script.append(Status.NOT_READY)
            await db.put(key, b"v", overwrite=True)
            assert asked(cluster, key) == [node.address for node in order[:4]]
            order[3].script.clear()
            forget(cluster)


@pytest.mark.parametrize("status", [Status.NOT_READY, Status.OVERLOAD, Status.READ_ONLY, Status.NOT_ENOUGH_REPLICAS])
@in_virtual_time
async def test_homes_that_refuse_are_followed_by_fallbacks_within_the_deadline(status: Status) -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        for key in KEYS:
            for node in cluster.order(key)[:5]:
                node.script.append(status)
            assert await seconds_of(db, key) < 0.3
            assert asked(cluster, key) == [node.address for node in cluster.order(key)[:6]]
            forget(cluster)


@in_virtual_time
async def test_homes_of_which_nothing_is_heard_cost_time_once() -> None:
    """Dialling them ends only with the deadline of the dialling; whoever comes while it lasts does not wait for it again."""
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, nodes=NODES)
        key = KEYS[0]
        for home in cluster.homes(key):
            home.unheard = True
        seeds = [node.address for node in cluster.order(key)[3:]]
        async with dynamo_fast.connect(seeds, settings=cluster.settings()) as db:
            assert await seconds_of(db, key) < 1.0
            await trio.sleep(2.5)  # the first dialling has failed
            for _ in range(40):
                assert await seconds_of(db, key) < 0.001
                await trio.sleep(0.3)
            assert set(asked(cluster, key)) == {cluster.order(key)[3].address}
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_homes_that_are_back_are_asked_again() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        key = KEYS[0]
        for home in cluster.homes(key):
            await home.kill()
        await trio.sleep(1)
        await db.put(key, b"v")
        for home in cluster.homes(key):
            home.away = False
        await trio.sleep(5)
        forget(cluster)
        await db.put(key, b"w")
        assert set(asked(cluster, key)) <= {home.address for home in cluster.homes(key)}


@in_virtual_time
async def test_when_all_that_are_there_have_been_tried_they_are_tried_again_rather_than_those_who_are_not() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        key = KEYS[0]
        for home in cluster.homes(key):
            await home.kill()
        await trio.sleep(0.5)
        for node in cluster.order(key)[3:]:
            node.script.append(Status.NOT_READY)  # once
        assert await seconds_of(db, key) < 0.5
        assert len(asked(cluster, key)) == 5, "all four fallbacks, and the first again"


# How the end is told ------------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_refused_everywhere_is_certainly_not_applied() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        for node in cluster.nodes:
            node.script.extend([Status.NOT_READY] * 20)
        with pytest.raises(dynamo_fast.NotReady, match="10 attempts"):
            await db.put(b"k", b"v")
        assert set(asked(cluster, b"k")) == set(cluster.addresses)
        assert not cluster.objects


@in_virtual_time
async def test_nobody_to_reach_is_certainly_not_applied_and_soon_said() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        for node in cluster.nodes:
            await node.kill()
        await trio.sleep(1)
        with pytest.raises(dynamo_fast.Unreachable):
            await db.put(b"k", b"v", deadline_s=5.0)


@pytest.mark.parametrize("applied", [True, False])
@in_virtual_time
async def test_one_attempt_of_unknown_fate_makes_the_end_unknown(applied: bool) -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        fate = ("apply", "break") if applied else "break"
        for place, node in enumerate(cluster.order(b"k")):
            node.script.extend([Status.NOT_READY] * 20 if place != 3 else [fate] + [Status.NOT_READY] * 20)
        with pytest.raises(dynamo_fast.ConnectionLost, match="tried again"):
            await db.put(b"k", b"v")
        assert bool(cluster.objects[b"", b"k"].siblings) == applied


@in_virtual_time
async def test_a_put_that_a_lost_home_had_applied_and_a_fallback_applies_again_is_one_value() -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        order = cluster.order(b"k")
        for home in order[:3]:
            home.script.extend([("apply", "break"), *[Status.NOT_READY] * 20])
        await db.put(b"k", b"v")
        assert (await db.get(b"k")).value == b"v"
        assert len({frame.body[16:32] for frame in cluster.served(MessageType.PUT)}) == 1, "one id on every attempt"


# The placement ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", ["homes", "fallbacks"])
@in_virtual_time
async def test_only_what_a_supposed_home_says_of_the_placement_is_news(stale: str) -> None:
    async with fake_cluster(nodes=NODES) as (cluster, db):
        order = cluster.order(b"k")
        for node in order[:3] if stale == "homes" else order[3:]:
            node.stale = True
        if stale == "fallbacks":
            for home in order[:3]:
                await home.kill()
            await trio.sleep(0.5)
        before = db.statistics()["refreshes"]
        for _ in range(5):
            await db.put(b"k", b"v", overwrite=True)
            await trio.sleep(0.2)
        assert (db.statistics()["refreshes"] > before) == (stale == "homes")
