"""The blocking client: the same names and errors, from scripts and several threads."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import dynamo_fast
from dynamo_fast import blocking
from dynamo_fast.client import bucket as trio_bucket
from dynamo_fast.client import operations
from dynamo_fast.wire.frame import Frame
from tests.client.loopback import loopback_cluster


def test_it_does_what_the_trio_client_does() -> None:
    with loopback_cluster() as cluster, dynamo_fast.blocking.connect(cluster.addresses, r=2) as db:
        context = db.put("k", b"1")
        assert db.get("k").value == b"1"
        db.put("k", b"2", context=context, w=2)
        assert db.update("k", lambda value: (value or b"") + b"!") == b"2!"
        db.put("k", b"other")
        with pytest.raises(dynamo_fast.Siblings):
            _ = db.get("k").value
        assert db.get("k", resolve=max).value == b"other"
        db.delete("k")
        assert not db.get("k").found
        carts = db.bucket("carts", w=3)
        assert carts.name == b"carts"
        db.cluster.set_bucket("carts", dynamo_fast.BucketSettings(r=1))
        carts.put_many({f"c{i}": b"v" for i in range(50)})
        assert [result.value for result in carts.get_many([f"c{i}" for i in range(50)])] == [b"v"] * 50
        assert sorted(carts.keys(page=3)) == sorted(b"c%d" % i for i in range(50))
        assert db.cluster.buckets().buckets[0].name == b"carts"
        assert db.cluster.placement().replicas == 3
        assert db.statistics()["retries"] == 0


def test_every_public_name_of_the_trio_client_is_there() -> None:
    for asynchronous, ours in ((trio_bucket.Bucket, blocking.Bucket), (operations.Cluster, blocking.Cluster)):
        names = {name for name, _ in inspect.getmembers(asynchronous, inspect.isfunction) if not name.startswith("_")}
        assert names - {name for name, _ in inspect.getmembers(ours)} - {"ring", "status"} == set()
        for name in names:
            assert callable(getattr(ours, name))


def test_calls_from_many_threads_share_one_client() -> None:
    with loopback_cluster() as cluster, blocking.connect(cluster.addresses) as db, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: db.put(f"k{number}", b"%d" % number), range(200)))
        assert [result.value for result in threads.map(lambda number: db.get(f"k{number}"), range(200))] == [b"%d" % i for i in range(200)]
        assert all(node.connections <= 1 for node in cluster.nodes)


def test_starting_and_closing_tell_what_is_wrong_and_leave_no_thread() -> None:
    before = threading.enumerate()
    with pytest.raises(dynamo_fast.Unreachable):
        blocking.connect("127.0.0.1:1", connect_timeout_s=0.3)
    with pytest.raises(ValueError, match="address"):
        blocking.connect("127.0.0.1:70000")
    with loopback_cluster() as cluster:
        db = blocking.connect(cluster.addresses)
        db.close()
        db.close()
        with pytest.raises(dynamo_fast.NotApplied, match="closed"):
            db.get("k")
    assert set(threading.enumerate()) <= set(before), "those of earlier tests may end meanwhile"


def test_a_put_under_way_when_the_client_is_closed_may_have_been_applied() -> None:
    arrived = threading.Event()

    class Received(list[Frame]):
        def append(self, frame: Frame) -> None:
            super().append(frame)
            arrived.set()

    with loopback_cluster() as cluster, ThreadPoolExecutor(1) as threads:
        for node in cluster.nodes:
            node.script.append(("apply", "silence"))
            node.received = Received()
        db = blocking.connect(cluster.addresses)
        put = threads.submit(db.put, "k", b"v", deadline_s=60.0)
        assert arrived.wait(30)
        db.close()
        assert isinstance(put.exception(30), dynamo_fast.Unknown)
