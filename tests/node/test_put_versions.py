"""Deletes, overwrites, last-write-wins buckets; disks that fail; clients that go (paper 4.4)."""

from collections.abc import Mapping

from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.status import Status
from tests.node.planes import WALL_MS, Planes

# Kinds of versions ----------------------------------------------------------------------------------------------------


def test_a_delete_is_a_write() -> None:
    cluster = Planes()
    context = cluster.put(0, b"k", b"v").context
    cluster.put(1, b"k", context=context, tombstone=True)
    answer = cluster.get(2, b"k")
    assert answer.status == Status.NOT_FOUND
    assert answer.siblings == []
    assert answer.context, "what was deleted is covered by it"
    cluster.put(2, b"k", b"again", context=answer.context)
    assert cluster.get(0, b"k").values == [b"again"]
    assert len(cluster.copy(0, b"k")) == 1, "the tombstone is gone"


def test_a_delete_beside_a_write_shows_both() -> None:
    cluster = Planes()
    context = cluster.put(0, b"k", b"v").context
    cluster.put(0, b"k", b"kept", context=context)
    cluster.put(1, b"k", context=context, tombstone=True)
    answer = cluster.get(2, b"k")
    assert answer.status == Status.OK
    assert sorted((value, tombstone) for value, tombstone, _ in answer.siblings) == [(b"", True), (b"kept", False)]


def test_overwrite_supersedes_what_the_coordinator_holds() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"1")
    cluster.put(0, b"k", b"2")
    cluster.put(0, b"k", b"3", overwrite=True)
    assert cluster.get(1, b"k").values == [b"3"]


def last_write_wins() -> Mapping[bytes, BucketSettings]:
    return {b"lww": BucketSettings(reconcile="last-write-wins")}


def test_in_a_last_write_wins_bucket_the_last_write_wins_whatever_the_clocks_say() -> None:
    cluster = Planes(buckets=last_write_wins())
    cluster.put(0, b"k", b"1", bucket=b"lww")
    cluster.put(1, b"k", b"2", bucket=b"lww")
    cluster.wall_ms -= 3_600_000
    cluster.put(2, b"k", b"3", bucket=b"lww")
    answer = cluster.get(0, b"k", bucket=b"lww")
    assert answer.siblings == [(b"3", False, WALL_MS + 2)], "one more than the highest timestamp seen"
    assert len({cluster.packed(node, b"k", b"lww") for node in range(3)}) == 1


def test_concurrent_last_writes_have_one_winner_everywhere() -> None:
    cluster = Planes(buckets=last_write_wins())
    cluster.isolate(0)
    cluster.put(0, b"k", b"a", bucket=b"lww", w=1)
    cluster.put(1, b"k", b"b", bucket=b"lww")
    cluster.link(0, 1)
    cluster.link(0, 2)
    cluster.get(0, b"k", bucket=b"lww", r=3)
    cluster.run()
    assert len({cluster.packed(node, b"k", b"lww") for node in range(3)}) == 1
    assert len(cluster.get(1, b"k", bucket=b"lww").values) == 1


# A disk that fails ----------------------------------------------------------------------------------------------------


def test_a_pass_whose_log_write_fails_answers_nothing_and_sends_nothing() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.failure = "no space left"
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=1)
    assert cluster.under_way == []
    assert client.answers == {}
    assert [str(error) for error in cluster.nodes[0].failures] == ["no space left"]
    read = client.get(b"other")
    cluster.run()
    assert client.answers[read].status == Status.NOT_FOUND, "reads go on"
    assert asked not in client.answers


def test_a_put_whose_pass_failed_is_unknown_at_its_deadline() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.failure = "no space left"
    client = cluster.client(0)
    asked = client.put(b"k", b"v")
    cluster.pass_time(1100)
    assert client.answers[asked].status == Status.DEADLINE


def test_a_put_that_was_held_back_is_not_acknowledged_after_its_pass_has_failed() -> None:
    """W of one is there at once, and the answer waits because storage is behind; then the log write of the very pass fails."""
    cluster = Planes()
    cluster.nodes[0].engine.behind = True
    cluster.nodes[0].engine.failure = "no space left"
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=1)
    cluster.pass_time(200)
    assert asked not in client.answers
    cluster.pass_time(900)
    assert client.answers[asked].status == Status.DEADLINE
    assert "node 0 takes no writes" in client.answers[asked].text


def test_a_replica_vouches_for_no_copy_that_its_log_has_refused() -> None:
    """The copy stands in its memory, and the same object comes again: to say OK would be an acknowledgement of nothing."""
    cluster = Planes()
    cluster.nodes[1].engine.failure = "no space left"
    cluster.cut(0, 2)
    client = cluster.client(0)
    first = client.put(b"k", b"v", put_id=b"r" * 16)
    cluster.run()
    assert cluster.packed(1, b"k") == cluster.packed(0, b"k")
    cluster.pass_time(1100)
    assert client.answers[first].status == Status.DEADLINE
    again = client.put(b"k", b"v", put_id=b"r" * 16)
    cluster.run()
    assert client.answers[again].status == Status.QUORUM_FAILED
    cluster.nodes[1].engine.heal()
    healed = client.put(b"k", b"v", put_id=b"r" * 16)
    cluster.run()
    assert client.answers[healed].status == Status.OK


# Clients ----------------------------------------------------------------------------------------------------


def test_a_client_that_has_gone_gets_no_answer_and_harms_nobody() -> None:
    cluster = Planes()
    client, other = cluster.client(0), cluster.client(0)
    client.put(b"k", b"v")
    client.connection.close("gone")
    cluster.collect(cluster.nodes[0])
    asked = other.get(b"k")
    cluster.run()
    assert client.answers == {}
    assert other.answers[asked].values == [b"v"]
    assert cluster.nodes[0].plane.requests_in_flight == 0


def test_a_client_that_does_not_read_is_closed_and_its_peers_are_not() -> None:
    """Its answers become too many inside a pass that belongs to another connection, which must not pay for it."""
    cluster = Planes()
    client = cluster.client(0, outgoing_bytes_max=300)
    client.reads = False
    for number in range(8):
        client.put(b"k%d" % number)
        cluster.run()
    assert client.connection.closing
    assert "does not read" in str(client.connection.close_reason)
    assert all(node.errors == [] for node in cluster.nodes)
    assert cluster.put(0, b"k", w=3).status == Status.OK
