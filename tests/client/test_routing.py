"""Where requests go: starting from seeds, homes of the key, the faster of them, fresh placements, load balancers."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

import dynamo_fast
from dynamo_fast.core.ring import Ring
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_node import PARTITIONS, FakeCluster, fake_cluster, in_virtual_time

KEYS = [f"k{i}" for i in range(300)]


@in_virtual_time
async def test_every_request_goes_to_a_home_of_its_key() -> None:
    async with fake_cluster(nodes=6) as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        await db.get_many(KEYS)
        for bucket in (b"", b"carts"):
            for key in KEYS[:50]:
                for node in cluster.nodes:
                    node.received.clear()
                await db.bucket(bucket).get(key)
                (receiver,) = [node for node in cluster.nodes if node.received]
                assert receiver in cluster.homes(key.encode(), bucket)
        assert db.statistics()["retries"] == 0


@in_virtual_time
async def test_a_slow_home_gets_less_and_equal_homes_share() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        shares = Counter(node.address for node in cluster.nodes for frame in node.received)
        assert min(shares.values()) > len(KEYS) / 6
        cluster.nodes[1].script.extend([0.2] * 1000)
        for _ in range(5):
            await db.get_many(KEYS)
        gets = [sum(frame.type == MessageType.GET for frame in node.received) for node in cluster.nodes]
        assert gets[1] < min(gets[0], gets[2]) / 2


@in_virtual_time
async def test_any_one_living_seed_is_enough() -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        cluster.nodes[0].away = True
        cluster.nodes[1].silent = True
        async with dynamo_fast.connect(["10.9.9.9", *cluster.addresses], settings=cluster.settings()) as db:
            await db.put("k", b"v")
        async with dynamo_fast.connect("10.9.9.9:1, 10.0.0.3", settings=cluster.settings()) as db:
            assert (await db.get("k")).value == b"v"
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_starting_fails_with_the_reason_of_every_seed() -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)

        async def start(*seeds: str) -> None:
            async with dynamo_fast.connect(seeds, settings=cluster.settings()):
                raise AssertionError("must not start")

        cluster.nodes[0].away = True
        with pytest.raises(dynamo_fast.Unreachable, match=r"10\.0\.0\.1:7400: nobody at .*; 10\.9\.9\.9:7400: nobody at"):
            await start("10.0.0.1:7400", "10.9.9.9")
        cluster.nodes[1].version = 2
        with pytest.raises(dynamo_fast.Unreachable, match="speak version 2"):
            await start("10.0.0.2")
        cluster.ready = False
        with pytest.raises(dynamo_fast.NotReady, match="no cluster yet"):
            await start("10.0.0.3")
        for bad in ((), ("host:99999",), ("",)):
            with pytest.raises(ValueError, match=r"seed|address"):
                await start(*bad)
        with pytest.raises(TypeError, match="no option colour"):
            async with dynamo_fast.connect("10.0.0.3", colour="red"):
                pass
        with pytest.raises(ValueError, match="refresh_s=0 must be more than 0"):
            async with dynamo_fast.connect("10.0.0.3", refresh_s=0):
                pass
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_cluster_that_becomes_ready_is_waited_for() -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        cluster.ready = False

        async def become_ready() -> None:
            await trio.sleep(3)
            cluster.ready = True

        nursery.start_soon(become_ready)
        async with dynamo_fast.connect(cluster.addresses, settings=cluster.settings()) as db:
            await db.put("k", b"v")
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_node_of_another_cluster_is_never_used() -> None:
    async with fake_cluster() as (cluster, db):
        stranger = cluster.nodes[1]
        await stranger.kill()
        stranger.away, stranger.cluster_id = False, b"x" * 16
        received = len(stranger.received)
        await trio.sleep(20)
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        assert len(stranger.received) == received


@in_virtual_time
async def test_the_placement_is_refreshed_every_ten_seconds_and_at_once_when_stale() -> None:
    async with fake_cluster() as (cluster, db):
        assert cluster.placements_told == 1
        await trio.sleep(35)
        assert cluster.placements_told == 4
        for node in cluster.nodes:
            node.stale = True
        for _ in range(50):
            await db.put("k", b"v", overwrite=True)
        await trio.sleep(0.01)
        assert cluster.placements_told == 6  # by the node that said so, and since that one had nothing new, by another


@in_virtual_time
async def test_a_new_placement_moves_requests_and_drops_departed_nodes() -> None:
    async with fake_cluster(nodes=4) as (cluster, db):
        await db.put_many(dict.fromkeys(KEYS, b"v"))
        departed = cluster.nodes.pop()
        cluster.lists = [tuple((partition + step) % 3 for step in range(3)) for partition in range(PARTITIONS)]
        cluster.ring = Ring(PARTITIONS, 3, cluster.lists)
        cluster.placement_number = 2
        await trio.sleep(15)
        received = len(departed.received)
        await db.get_many(KEYS)
        assert len(departed.received) == received
        cluster.placement_number = 1  # a node that lags behind tells an old one: it changes nothing
        await trio.sleep(15)
        placement = await db.cluster.placement()
        assert placement.number == 2


@in_virtual_time
async def test_stale_placement_as_an_answer_leads_to_a_refresh_and_another_attempt() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.script.append(Status.STALE_PLACEMENT)
        await db.put("k", b"v")
        await trio.sleep(0.2)
        assert cluster.placements_told >= 2


@in_virtual_time
async def test_behind_a_load_balancer_only_the_seeds_are_used_and_no_placement_is_asked_for() -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        async with dynamo_fast.connect("10.0.0.2", settings=cluster.settings(), partition_aware=False) as db:
            await db.put_many(dict.fromkeys(KEYS, b"v"))
            assert (await db.get("k1")).value == b"v"
            await trio.sleep(30)
            assert cluster.placements_told == 0
            assert len(await db.keys().take(1000)) == len(KEYS)  # which asks every node, and changes nothing for the rest
            await db.get_many(KEYS)
        assert [len(node.received) for node in cluster.nodes] == [0, 2 * len(KEYS) + 1, 0]
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_an_exception_in_the_block_comes_out_as_it_is_and_connections_close() -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        with pytest.raises(KeyError):
            async with dynamo_fast.connect(cluster.addresses, settings=cluster.settings()):
                raise KeyError("mine")
        await trio.sleep(1)
        assert cluster.open_streams() == 0
        with trio.move_on_after(1) as scope:
            async with dynamo_fast.connect(cluster.addresses, settings=cluster.settings()):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_member_that_has_moved_is_found_under_the_same_placement() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put("k", b"v")
        moved = cluster.nodes[1]
        moved.address = "10.0.0.77:7400"
        for stream in list(moved.streams):
            await stream.aclose()
        assert any(isinstance(answer, dynamo_fast.DynamoError) for answer in (await db.cluster.status()).values())
        await trio.sleep(1)
        assert list(await db.cluster.status()) == cluster.addresses
        assert (await db.get("k")).value == b"v"
