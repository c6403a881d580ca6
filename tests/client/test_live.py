"""The client and the commands against three real nodes on loopback: what the fakes assume is what nodes do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

import dynamo_fast
from tests.cli.shell import Shell
from tests.live.cluster import Cluster, paused

pytestmark = pytest.mark.live


def union(values: Sequence[bytes]) -> bytes:
    return b",".join(sorted({item for value in values for item in value.split(b",")}))


def with_item(item: bytes, value: bytes | None) -> bytes:
    return union([item, *([value] if value else [])])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("client"), nodes=3) as cluster:
        cluster.wait_ready()
        yield cluster


@pytest.fixture
def db(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[dynamo_fast.blocking.Bucket]:
    """A bucket of its own for each test."""
    with dynamo_fast.blocking.connect(cluster.addresses, deadline_s=5.0) as client:
        name = request.node.name[:64]
        assert client.cluster.set_bucket(name, dynamo_fast.BucketSettings())
        yield client.bucket(name)


def test_put_get_delete_and_siblings(db: dynamo_fast.blocking.Bucket) -> None:
    assert not db.get("k").found
    context = db.put("k", b"1")
    assert db.get("k").value == b"1"
    context = db.put("k", bytes(range(256)), context=context, dw=2)
    assert db.get("k", r=3).value == bytes(range(256))
    db.put("k", b"blind")
    result = db.get("k")
    assert sorted(result.values) == sorted([bytes(range(256)), b"blind"])
    db.put("k", b"merged", context=result.context)
    assert db.get("k").value == b"merged"
    db.delete("k")
    assert not db.get("k").found
    db.put("k", b"back")
    assert db.get("k").value == b"back"


def test_sizes_at_their_limits(db: dynamo_fast.blocking.Bucket) -> None:
    for key in (b"\x00", b"x" * 4096):
        for value in (b"", bytes(1 << 20)):
            db.put(key, value, overwrite=True)
            assert db.get(key).value == value
    with pytest.raises(dynamo_fast.TooLarge):
        db.put("k", bytes((1 << 20) + 1))


def test_options_out_of_range_and_foreign_contexts_are_refused(db: dynamo_fast.blocking.Bucket) -> None:
    context = db.put("a", b"1")
    for bad in (context[:-1] + bytes([context[-1] ^ 1]), context[:-9], b"x" * 48):
        with pytest.raises(dynamo_fast.BadContext):
            db.put("a", b"2", context=bad)
    with pytest.raises(dynamo_fast.BadContext):
        db.put("b", b"2", context=context)
    with pytest.raises(dynamo_fast.BadRequest, match="w=4"):
        db.put("a", b"2", w=4)
    with pytest.raises(dynamo_fast.BadRequest, match="r=4"):
        db.get("a", r=4)
    with pytest.raises(dynamo_fast.NoSuchBucket):
        db.bucket("never made").get("a")
    assert db.get("a").value == b"1"


def test_batches_listings_updates_and_sessions(db: dynamo_fast.blocking.Bucket) -> None:
    items = {f"k{n}": b"%d" % n * n for n in range(1500)}
    contexts = db.put_many(items)
    assert [result.value for result in db.get_many(items)] == list(items.values())
    db.put_many((key, value + b"!", context) for (key, value), context in zip(items.items(), contexts, strict=True))
    assert [result.value for result in db.get_many(items)] == [value + b"!" for value in items.values()]
    assert sorted(db.keys()) == sorted(key.encode() for key in items)
    db.delete("k7")
    assert b"k7" not in set(db.keys(page=7))
    session = dynamo_fast.Session()


    def one_more(value: bytes | None) -> bytes:
        return b"%d" % (int(value or b"0") + 1)

    for number in range(20):
        db.update("counter", one_more, session=session)
        assert db.get("counter", session=session, r=1).value == b"%d" % (number + 1)


def test_concurrent_updates_through_several_clients_lose_nothing(cluster: Cluster, db: dynamo_fast.blocking.Bucket) -> None:
    async def add(name: bytes) -> None:
        async with dynamo_fast.connect(cluster.addresses, deadline_s=5.0, resolve=union) as client:
            bucket = client.bucket(db.name)
            for number in range(10):
                await bucket.update("cart", partial(with_item, b"%s%d" % (name, number)))

    async def all_at_once() -> None:
        async with trio.open_nursery() as nursery:
            for name in (b"a", b"b", b"c"):
                nursery.start_soon(add, name)

    trio.run(all_at_once)
    wanted = sorted(b"%s%d" % (name, number) for name in (b"a", b"b", b"c") for number in range(10))
    assert db.get("cart", resolve=union).value.split(b",") == wanted


def test_one_seed_and_load_balancer_mode_find_everything(cluster: Cluster, db: dynamo_fast.blocking.Bucket) -> None:
    db.put_many({f"k{n}": b"v" for n in range(100)})
    for options in ({}, {"partition_aware": False}):
        with dynamo_fast.blocking.connect([cluster.addresses[1]], deadline_s=5.0, **options) as other:
            bucket = other.bucket(db.name)
            assert {result.value for result in bucket.get_many([f"k{n}" for n in range(100)])} == {b"v"}
            bucket.put_many({f"l{n}": b"v" for n in range(100)})
    assert len(list(db.keys())) == 200


def replace_all(db: dynamo_fast.blocking.Bucket, items: dict[str, bytes]) -> None:
    """With the contexts of a read: `overwrite` replaces what its coordinator holds, and one that was away may not hold the latest yet."""
    db.put_many([(result.key, items[result.key.decode()], result.context) for result in db.get_many(items)])


def test_a_killed_and_a_paused_node_are_survived(cluster: Cluster, db: dynamo_fast.blocking.Bucket) -> None:
    items = {f"k{n}": b"%d" % n for n in range(300)}
    db.put_many(items)
    cluster[2].kill()
    assert [result.value for result in db.get_many(items)] == list(items.values())
    again = {key: value + b"!" for key, value in items.items()}
    replace_all(db, again)
    cluster[2].start()
    cluster.wait_ready()
    assert [result.value for result in db.get_many(items)] == list(again.values())
    with paused(cluster[1]):
        replace_all(db, items)
        assert [result.value for result in db.get_many(items)] == list(items.values())
    cluster.wait_ready()
    assert [result.value for result in db.get_many(items)] == list(items.values())


def test_a_listing_goes_on_when_a_node_freezes_in_the_middle(db: dynamo_fast.blocking.Bucket, cluster: Cluster) -> None:
    wanted = {b"k%d" % number: b"v" for number in range(3000)}
    db.put_many(wanted, w=3)
    listing = db.keys(page=100, deadline_s=0.5)
    told = [next(listing) for _ in range(1500)]
    with paused(cluster[1]):
        told += list(listing)
    assert sorted(told) == sorted(wanted)


def test_the_commands(cluster: Cluster, tmp_path: Path) -> None:
    shell = Shell(cluster)
    document = json.loads(shell("status --wait ready --json").stdout)
    assert {node["state"] for node in document.values()} == {"ready"}
    assert set(document) == set(cluster.addresses)
    shell("put cli:k one --w 3")
    assert shell("get cli:k --r 3").stdout_bytes == b"one"
    shell("put cli:k two")
    shell("get cli:k", code=4)
    shell("put cli:k three --resolve")
    assert shell("get cli:k").stdout_bytes == b"three"
    shell("delete cli:k")
    shell("get cli:k", code=3)
    lines = "".join(json.dumps({"key": f"cli:{n}", "value": "v" * n}) + "\n" for n in range(500))
    assert "500 keys loaded, 0 failed" in shell("load -", stdin=lines.encode()).stdout
    shell("export", tmp_path / "out.jsonl")
    assert sorted((tmp_path / "out.jsonl").read_text().splitlines()) == sorted(lines.splitlines())
    shares = json.loads(shell("ring --json").stdout)["members"]
    assert sum(member["partitions_first"] for member in shares) == 1024
    assert len(json.loads(shell("ring cli:1 --json").stdout)["homes"]) == 3
    shell("bucket set cli-bucket --w 1 --reconcile last-write-wins")
    assert "cli-bucket" in shell("bucket list").stdout
    assert "cli-bucket" in shell("bucket list --json").stdout
