"""The operations of the client against a cluster of fakes: get, put, delete, batches, updates, listings, buckets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

import dynamo_fast
from dynamo_fast.client.context import Seen
from dynamo_fast.client.listing import Keys
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.data_messages import decode_get, decode_put
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_node import fake_cluster, in_virtual_time


def union(values: Sequence[bytes]) -> bytes:
    return b",".join(sorted({item for value in values for item in value.split(b",")}))


async def listed(keys: Keys) -> list[bytes]:
    return [key async for key in keys]


@in_virtual_time
async def test_a_value_comes_back_with_a_context_and_a_missing_key_is_an_answer() -> None:
    async with fake_cluster() as (_, db):
        missing = await db.get("nobody")
        assert (missing.found, missing.values, missing.siblings) == (False, (), [])
        assert missing.value_or(None) is None
        with pytest.raises(dynamo_fast.NotFound):
            _ = missing.value
        context = await db.put(b"\x00key", b"")
        result = await db.get(b"\x00key")
        assert (result.found, result.value, result.context) == (True, b"", context)


@in_virtual_time
async def test_blind_puts_make_siblings_and_a_put_with_their_context_settles_them() -> None:
    async with fake_cluster() as (_, db):
        await db.put("cart", b"milk")
        await db.put("cart", b"eggs")
        result = await db.get("cart")
        assert sorted(result.values) == [b"eggs", b"milk"]
        with pytest.raises(dynamo_fast.Siblings) as raised:
            _ = result.value
        assert raised.value.result is result
        assert (await db.get("cart", resolve=union)).value == b"eggs,milk"
        assert sorted((await db.get("cart")).values) == [b"eggs", b"milk"]  # resolving is not writing
        context = await db.put("cart", b"eggs,milk", context=result.context)
        assert (await db.get("cart")).value == b"eggs,milk"
        await db.put("cart", b"all", context=context)  # a put's own context serves as well as a read's
        assert (await db.get("cart")).value == b"all"


@in_virtual_time
async def test_a_put_beside_an_unseen_sibling_may_not_replace_it_next() -> None:
    async with fake_cluster() as (_, db):
        await db.put("k", b"a1")
        context = await db.put("k", b"b1")
        await db.put("k", b"b2", context=context)
        assert b"a1" in (await db.get("k")).values
        session = dynamo_fast.Session()
        await db.put("k", b"c1", session=session)
        assert session.satisfied_by(b"", b"k", (await db.get("k")).context)
        assert session.context(b"", b"k") != (await db.get("k")).context


@in_virtual_time
async def test_overwrite_leaves_one_version() -> None:
    async with fake_cluster() as (_, db):
        await db.put("k", b"1")
        await db.put("k", b"2", overwrite=True)
        assert (await db.get("k")).value == b"2"


@in_virtual_time
async def test_delete_removes_what_was_read_and_a_concurrent_put_survives_it() -> None:
    async with fake_cluster() as (cluster, db):
        seen = await db.put("k", b"1")
        await db.put("k", b"2")
        await db.delete("k", context=seen)
        result = await db.get("k")
        assert result.value == b"2"
        assert [sibling.deleted for sibling in result.siblings] == [False, True]
        await db.delete("k")
        assert not (await db.get("k")).found
        before = len(cluster.served(MessageType.PUT))
        await db.delete("never there")
        assert len(cluster.served(MessageType.PUT)) == before


@in_virtual_time
async def test_batches_keep_their_order_and_hold_every_outcome() -> None:
    async with fake_cluster(batch_requests_max=16) as (cluster, db):
        contexts = await db.put_many((f"k{i}", b"%d" % i) for i in range(100))
        results = await db.get_many(f"k{i}" for i in reversed(range(100)))
        assert [result.value for result in results] == [b"%d" % i for i in reversed(range(100))]
        assert [result.context for result in reversed(results)] == contexts
        await db.put_many([("k0", b"again", contexts[0])])
        assert (await db.get("k0")).value == b"again"
        for node in cluster.nodes:
            node.script.extend([Status.BAD_CONTEXT])
        with pytest.raises(dynamo_fast.BatchFailed) as raised:
            await db.put_many({f"k{i}": b"x" for i in range(100)})
        failed = [outcome for outcome in raised.value.outcomes if isinstance(outcome, dynamo_fast.BadContext)]
        assert len(failed) == len(raised.value.errors) == 3
        assert len(raised.value.outcomes) == 100
        assert await db.get_many([]) == []


@in_virtual_time
async def test_update_reads_resolves_and_writes_with_the_context() -> None:
    async with fake_cluster() as (_, db):
        assert await db.update("n", lambda value: b"1" if value is None else b"no") == b"1"
        assert await db.update("n", lambda value: (value or b"") + b"+") == b"1+"
        await db.put("n", b"other")
        with pytest.raises(dynamo_fast.Siblings):
            await db.update("n", lambda value: value)
        assert await db.update("n", lambda value: (value or b"") + b"!", resolve=union) == b"1+,other!"

        async def slowly(value: bytes | None) -> None:
            await trio.sleep(3)

        assert await db.update("n", slowly) is None
        assert not (await db.get("n")).found


@in_virtual_time
async def test_an_update_that_meets_another_writer_merges_without_changing_twice() -> None:
    async with fake_cluster() as (_, db):
        await db.put("cart", b"milk")
        changes = 0

        async def add_eggs(value: bytes | None) -> bytes:
            nonlocal changes
            changes += 1
            await db.put("cart", b"bread")  # blind, so concurrent
            return union([value or b"", b"eggs"])

        assert await db.update("cart", add_eggs, resolve=union) == b"bread,eggs,milk"
        assert (await db.get("cart")).value == b"bread,eggs,milk"
        assert changes == 1


@in_virtual_time
async def test_an_update_returns_what_it_wrote_however_often_others_come_between() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put("cart", b"milk")
        writers = 0

        def and_another_writes(values: Sequence[bytes]) -> bytes:
            nonlocal writers
            writers += 1
            stored = cluster.objects[b"", b"cart"]
            stored.put(b"another".ljust(24), Seen({}, None), b"%16d" % writers, b"item%d" % writers, False, False)
            return union(values)

        await db.put("cart", b"bread")
        written = await db.update("cart", lambda value: union([value or b"", b"eggs"]), resolve=and_another_writes)
        values = (await db.get("cart")).values
        assert written in values
        assert len(values) == 2
        assert writers == 4


@in_virtual_time
async def test_concurrent_updates_lose_nothing() -> None:
    async with fake_cluster() as (_, db):

        async def add(item: bytes) -> None:
            await db.update("cart", lambda value: union([item, *([value] if value else [])]), resolve=union)

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(add, b"%02d" % i)
        assert (await db.get("cart", resolve=union)).value.split(b",") == [b"%02d" % i for i in range(20)]


@in_virtual_time
async def test_keys_lists_each_live_key_of_its_bucket_once() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put_many({f"k{i}": b"v" for i in range(500)})
        for bucket in ("carts", "empty"):
            await db.cluster.set_bucket(bucket, BucketSettings())
        await db.bucket("carts").put("elsewhere", b"v")
        await db.delete("k7")
        wanted = sorted(b"k%d" % i for i in range(500) if i != 7)
        assert sorted(await listed(db.keys())) == wanted
        assert sorted(await listed(db.keys(page=2))) == wanted
        assert await listed(db.bucket("carts").keys()) == [b"elsewhere"]
        assert await listed(db.bucket("empty").keys()) == []
        with pytest.raises(dynamo_fast.NoSuchBucket, match="no bucket 'typo': make it with `dynamo-fast bucket set typo`"):
            await listed(db.bucket("typo").keys())
        await cluster.nodes[0].kill()  # two homes of each partition are left
        assert sorted(await listed(db.keys())) == wanted
        await cluster.nodes[1].kill()
        with pytest.raises(dynamo_fast.QuorumFailed, match="homes of partition"):
            await listed(db.keys())


@in_virtual_time
async def test_buckets_have_their_own_keys_and_options_travel_with_the_request() -> None:
    async with fake_cluster() as (cluster, db):
        carts = db.bucket("carts", w=3, dw=0, r=1, strict=True)
        await carts.put("k", b"in bucket")
        assert not (await db.get("k")).found
        assert (await carts.get("k", r=2, strict=False, deadline_s=30.0)).value == b"in bucket"
        put = decode_put(cluster.served(MessageType.PUT)[-1].body)
        assert (put.bucket, put.w, put.dw, put.strict) == (b"carts", 3, 0, True)
        get = decode_get(cluster.served(MessageType.GET)[-1].body)
        assert (get.bucket, get.r, get.strict) == (b"carts", 2, False)
        assert 10_000 < get.deadline_ms <= 30_000
        plain = decode_get(cluster.served(MessageType.GET)[0].body)
        assert (plain.bucket, plain.r, plain.strict) == (b"", 0, None)
        await db.cluster.set_bucket("carts", BucketSettings(r=1, reconcile="last-write-wins"))
        assert (await db.cluster.buckets()).buckets[0].settings == BucketSettings(r=1, reconcile="last-write-wins")


@in_virtual_time
async def test_what_cannot_be_sent_is_refused_before_sending() -> None:
    async with fake_cluster() as (cluster, db):
        for key, error in (("", dynamo_fast.BadRequest), (b"x" * 4097, dynamo_fast.TooLarge)):
            with pytest.raises(error):
                await db.get(key)
        with pytest.raises(dynamo_fast.TooLarge, match="at most 1048576"):
            await db.put("k", bytes((1 << 20) + 1))
        with pytest.raises(TypeError):
            await db.put("k", "text")  # type: ignore[arg-type]
        with pytest.raises(dynamo_fast.BadRequest, match="w=0"):
            await db.put("k", b"v", w=0)
        with pytest.raises(dynamo_fast.BadRequest, match="deadline_s"):
            await db.get("k", deadline_s=61)
        with pytest.raises(dynamo_fast.BadRequest, match="deadline_s=0"):
            await db.get("k", deadline_s=0)
        with pytest.raises(dynamo_fast.BadRequest, match="bucket name"):
            db.bucket("b" * 65)
        assert cluster.served(MessageType.GET) == cluster.served(MessageType.PUT) == []
        await db.put(b"x" * 4096, bytes(1 << 20))
        assert len((await db.get(b"x" * 4096)).value) == 1 << 20
