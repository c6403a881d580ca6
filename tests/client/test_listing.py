"""Listing keys while homes lack some, fail, refuse, have lost records or talk nonsense: R homes tell each key, or there is an error."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import trio

import dynamo_fast
from dynamo_fast.client.client import Client
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.control_messages import KeysPageReply
from dynamo_fast.wire.status import Status
from tests.client.fake_node import PARTITIONS, FakeCluster, FakeNode, fake_cluster, in_virtual_time

KEYS = sorted(b"k%d" % number for number in range(400))


async def listed(db: Client, page: int = 20, **options: object) -> list[bytes]:
    return sorted([key async for key in db.keys(page=page, **options)])


async def filled(db: Client) -> None:
    await db.put_many(dict.fromkeys(KEYS, b"v"))


def asked_of(cluster: FakeCluster) -> dict[int, set[str]]:
    """Partition -> the nodes that were asked to tell it."""
    return {partition: {node.address for node in cluster.nodes for request in node.listed if partition in request.partitions}
            for partition in range(PARTITIONS)}  # fmt: skip


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("nodes", [3, 7])
@in_virtual_time
async def test_exactly_r_homes_tell_of_each_partition(nodes: int, r: int) -> None:
    async with fake_cluster(nodes=nodes) as (cluster, db):
        cluster.buckets[b""] = BucketSettings(r=r)
        await db.cluster.set_bucket(b"", BucketSettings(r=r))
        await db._shared.router.refresh()
        await filled(db)
        assert await listed(db) == KEYS
        homes = {partition: {cluster.nodes[index].address for index in cluster.ring.homes_of(partition)} for partition in range(PARTITIONS)}
        for partition, asked in asked_of(cluster).items():
            assert len(asked) == r
            assert asked <= homes[partition]
        assert max(len(node.listed[0].partitions) for node in cluster.nodes) <= r * PARTITIONS / nodes + 2  # nobody tells most


@in_virtual_time
async def test_a_small_bucket_takes_one_question_to_each_node() -> None:
    async with fake_cluster() as (cluster, db):
        assert await listed(db) == []
        assert [len(node.listed) for node in cluster.nodes] == [1, 1, 1]


@in_virtual_time
async def test_a_key_that_one_home_lacks_is_told_by_the_other() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        for number, key in enumerate(KEYS):
            cluster.nodes[number % 3].lacks.add(key)
        assert await listed(db) == KEYS


async def breaking_after(cluster: FakeCluster, db: Client, keys: int, fail: Callable[[FakeNode], object]) -> list[bytes]:
    """What a listing tells when a node fails after so many keys."""
    listing = db.keys(page=20)
    told = await listing.take(keys)
    failed = fail(cluster.nodes[0])
    if failed is not None:
        await failed  # type: ignore[misc]
    return sorted(told + [key async for key in listing])


@pytest.mark.parametrize("keys", [1, 30, 200, 390])
@in_virtual_time
async def test_another_home_goes_on_where_one_failed(keys: int) -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        assert await breaking_after(cluster, db, keys, FakeNode.kill) == KEYS
        cluster.nodes[1].silent = True
        with pytest.raises(dynamo_fast.QuorumFailed, match="homes of partition"):
            await listed(db)


@in_virtual_time
async def test_homes_that_fail_one_after_the_other_are_no_two_answers_of_one_home() -> None:
    """With R = 2 of 3 homes a second failure leaves one, which must not be asked twice instead."""
    async with fake_cluster() as (cluster, db):
        await filled(db)
        listing = db.keys(page=20)
        told = await listing.take(60)
        await cluster.nodes[0].kill()
        told += await listing.take(60)
        await cluster.nodes[1].kill()
        with pytest.raises(dynamo_fast.QuorumFailed, match="homes of partition"):
            await listing.take(1000)
        assert len(set(told)) == len(told) == 120


@in_virtual_time
async def test_a_silent_home_is_left_after_the_deadline() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)

        def silence(node: FakeNode) -> None:
            node.silent = True

        assert await breaking_after(cluster, db, 60, silence) == KEYS


@pytest.mark.parametrize("status", [Status.NOT_READY, Status.READ_ONLY, Status.BAD_REQUEST, Status.STALE_PLACEMENT])
@in_virtual_time
async def test_a_home_that_refuses_is_left(status: Status) -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        cluster.nodes[1].pages.extend([None, status])
        assert await listed(db) == KEYS
        for node in cluster.nodes[1:]:  # who calls our placement stale is asked again, since it may only be behind or ahead
            node.pages.extend([status] * 100)
        with pytest.raises(dynamo_fast.QuorumFailed, match=f"told to answer {status.name}"):
            await listed(db)


@in_virtual_time
async def test_an_overloaded_home_is_asked_again_and_in_the_end_left() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        cluster.nodes[0].pages.extend([Status.OVERLOAD] * 10)
        assert await listed(db) == KEYS
        for node in cluster.nodes[:2]:
            node.pages.extend([Status.OVERLOAD] * 1000)
        with pytest.raises(dynamo_fast.QuorumFailed, match="told to answer OVERLOAD"):
            await listed(db)


@in_virtual_time
async def test_a_home_that_has_lost_records_of_a_partition_does_not_count_in_it() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        lost = set(range(0, PARTITIONS, 3))
        cluster.nodes[0].suspects = lost
        cluster.nodes[0].lacks = {key for key in KEYS if cluster.ring.partition(key) in lost}
        cluster.nodes[1].lacks = {KEYS[number] for number in range(0, len(KEYS), 2)}  # the third home has them
        assert await listed(db) == KEYS
        assert all(len(asked_of(cluster)[partition] - {cluster.nodes[0].address}) == 2 for partition in lost)
        assert max(len(node.listed) for node in cluster.nodes) < 100, "a home that is doubted is not asked again and again"


@pytest.mark.parametrize("doubtful", [2, 3])
@in_virtual_time
async def test_where_too_few_homes_count_all_homes_must_tell(doubtful: int) -> None:
    """As after a power cut of all machines: what all homes hold is all there is, and a home that is away could have more."""
    async with fake_cluster() as (cluster, db):
        await filled(db)
        for number, node in enumerate(cluster.nodes):
            node.suspects = set(range(PARTITIONS)) if number < doubtful else set()
            node.lacks = {key for place, key in enumerate(KEYS) if place % 3 != number}  # each key is at one home alone
        assert await listed(db) == KEYS
        assert all(len(asked) == 3 for asked in asked_of(cluster).values())
        listing = db.keys(page=20)
        await listing.take(60)
        await cluster.nodes[0].kill()
        with pytest.raises(dynamo_fast.QuorumFailed, match="homes of partition"):
            await listing.take(1000)
        with pytest.raises(dynamo_fast.QuorumFailed, match="may have lost records"):
            await listed(db)


@in_virtual_time
async def test_a_home_that_did_not_count_is_not_missed() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        cluster.nodes[0].suspects = set(range(PARTITIONS))
        listing = db.keys(page=20)
        told = await listing.take(60)
        await cluster.nodes[0].kill()
        told += [key async for key in listing]
        assert sorted(told) == KEYS


@pytest.mark.parametrize("page", [2, 20])
@in_virtual_time
async def test_records_found_lost_in_the_middle_are_told_by_another_home_from_that_page_on(page: int) -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        told: list[bytes] = []
        listing = db.keys(page=page)
        for partition in range(PARTITIONS):  # one home of each finds out, before, while or after it tells of it
            told += await listing.take(7)
            cluster.nodes[partition % 3].suspects.add(partition)
        told += [key async for key in listing]
        assert (sorted(told), len(told)) == (KEYS, len(KEYS))


@in_virtual_time
async def test_after_a_change_of_placement_the_new_homes_are_asked() -> None:
    async with fake_cluster(nodes=6) as (cluster, db):
        await filled(db)
        listing = db.keys(page=20)
        told = await listing.take(100)
        cluster.move_homes()
        told += [key async for key in listing]
        assert sorted(set(told)) == KEYS
        assert len(told) == len(KEYS)
        assert db.statistics()["refreshes"] >= 2


def cut(reply: KeysPageReply) -> KeysPageReply:
    return msgspec.structs.replace(reply, entries=reply.entries[:-1])


def repeated(reply: KeysPageReply) -> KeysPageReply:
    return msgspec.structs.replace(reply, entries=reply.entries * 2)


def standing(reply: KeysPageReply) -> KeysPageReply:
    return msgspec.structs.replace(reply, next=b"", done=False)


def short(reply: KeysPageReply) -> KeysPageReply:
    return msgspec.structs.replace(reply, next=b"\xff", entries=b"")


@pytest.mark.parametrize("nonsense", [cut, repeated, standing, short])
@in_virtual_time
async def test_a_page_that_makes_no_sense_is_a_failure_of_that_home(nonsense: Callable[[KeysPageReply], KeysPageReply]) -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        cluster.nodes[0].pages.extend([None, nonsense])
        assert await listed(db) == KEYS
        for node in cluster.nodes:
            node.pages.extend([nonsense] * 2)
        with pytest.raises(dynamo_fast.QuorumFailed, match="answered with"):
            await listed(db)


@in_virtual_time
async def test_a_bucket_made_by_another_client_is_listed_at_once() -> None:
    async with fake_cluster() as (cluster, db):
        with pytest.raises(dynamo_fast.NoSuchBucket):
            await db.bucket("new").keys().take(1)
        cluster.buckets[b"new"] = BucketSettings()
        assert await db.bucket("new").keys().take(1) == []


@in_virtual_time
async def test_progress_goes_from_none_to_all() -> None:
    async with fake_cluster() as (_, db):
        await filled(db)
        listing = db.keys(page=20)
        seen = [(listing.partitions_done, listing.partitions)]
        while await listing.take(40):
            seen.append((listing.partitions_done, listing.partitions))
        assert (seen[0], seen[-1]) == ((0, 0), (PARTITIONS, PARTITIONS))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert 0 < seen[4][0] < PARTITIONS
        assert await listing.take(5) == []


@in_virtual_time
async def test_a_cancelled_listing_leaves_the_client_whole() -> None:
    async with fake_cluster() as (cluster, db):
        await filled(db)
        cluster.nodes[0].silent = True
        with trio.move_on_after(0.01):
            await listed(db)
        cluster.nodes[0].silent = False
        assert await listed(db) == KEYS
