"""Read repair (paper 5): whoever answered with less than the merge is sent the merge, after the answer; it can only add."""

import pytest

from dynamo_fast.node.config import RequestsSection
from dynamo_fast.wire.data_messages import decode_replicate
from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import Planes, frames

REPAIRS = frames(MessageType.REPLICATE)


def with_versions(*versions: bytes) -> Planes:
    """Nodes that hold these values of `k`, b"" for nothing; an equal value is the same version."""
    cluster = Planes(len(versions), replicas=len(versions))
    contexts: dict[bytes, bytes] = {}
    for value in sorted({value for value in versions if value}):
        holders = [node for node, held in enumerate(versions) if held == value]
        cluster.drop(lambda sent, holders=tuple(holders): sent.type == MessageType.REPLICATE and sent.target not in holders)
        contexts[value] = cluster.put(holders[0], b"k", value, w=1, context=contexts.get(b"1", b"")).context
        cluster.run()
        cluster.dropped.clear()
    return cluster


def all_equal(cluster: Planes) -> bool:
    return len({cluster.record(node, b"k") is not None and cluster.packed(node, b"k") for node in range(len(cluster.nodes))}) == 1


@pytest.mark.parametrize("reader", range(3))
@pytest.mark.parametrize(
    "versions", [(b"1", b"1", b"1"), (b"1", b"1", b""), (b"", b"", b"1"), (b"1", b"2", b"2"), (b"2", b"1", b""), (b"2", b"3", b"1")]
)
def test_one_read_makes_all_homes_equal(reader: int, versions: tuple[bytes, ...]) -> None:
    cluster = with_versions(*versions)
    before = [cluster.record(node, b"k") for node in range(3)]
    expected = cluster.get(reader, b"k", r=3)
    assert all_equal(cluster)
    assert [cluster.get(node, b"k", r=1).values for node in range(3)] == [expected.values] * 3
    if len(set(versions)) == 1:
        assert [cluster.record(node, b"k") for node in range(3)] == before
        assert cluster.nodes[reader].count("read_repairs") == 0


def test_the_answer_does_not_wait_for_it_and_nobody_acknowledges_it() -> None:
    cluster = with_versions(b"1", b"1", b"")
    repairs = cluster.hold(REPAIRS)
    answer = cluster.get(0, b"k")
    assert answer.values == [b"1"]
    assert [(sent.target, decode_replicate(sent.frame.body).no_reply) for sent in repairs] == [(2, True)]
    acknowledged = cluster.hold(frames(MessageType.REPLICATE_REPLY))
    cluster.release()
    cluster.held.append((frames(MessageType.REPLICATE_REPLY), acknowledged))
    cluster.run()
    assert acknowledged == []
    assert cluster.packed(2, b"k") == cluster.packed(0, b"k")


def third_comes_late(cluster: Planes) -> None:
    """R is reached by two equal ones, and all are equal once the third has answered."""
    cluster.hold(frames(MessageType.READ_REPLY, origin=2))
    client = cluster.client(0)
    asked = client.get(b"k", r=2)
    cluster.run()
    assert client.answers[asked].values == [b"1"]
    cluster.release()
    cluster.run()
    assert all_equal(cluster)


def test_late_answers_are_repaired_too() -> None:
    third_comes_late(with_versions(b"1", b"1", b""))


def test_a_late_answer_that_knows_more_repairs_those_that_were_shown() -> None:
    cluster = with_versions(b"1", b"1", b"2")
    third_comes_late(cluster)
    assert cluster.get(0, b"k").values == [b"2"]


def test_at_the_deadline_those_that_have_answered_are_repaired() -> None:
    cluster = with_versions(b"1", b"", b"1")
    cluster.drop(frames(MessageType.READ, target=2))
    client = cluster.client(0)
    asked = client.get(b"k", r=3)
    cluster.run()
    assert cluster.record(1, b"k") is None
    cluster.pass_time(1100)
    assert client.answers[asked].status == Status.DEADLINE
    assert all_equal(cluster)


def test_homes_that_did_not_answer_are_left_alone() -> None:
    cluster = with_versions(b"1", b"1", b"")
    cluster.drop(frames(MessageType.READ, target=2))
    repairs = cluster.hold(REPAIRS)
    client = cluster.client(0)
    client.get(b"k")
    cluster.pass_time(1100)
    assert repairs == []


def test_a_home_that_moved_on_meanwhile_keeps_what_it_has() -> None:
    cluster = with_versions(b"1", b"1", b"")
    cluster.hold(frames(MessageType.REPLICATE, target=2))
    context = cluster.get(0, b"k", r=3).context
    cluster.put(2, b"k", b"newer", context=context)
    cluster.put(2, b"k", b"beside")
    cluster.release()
    cluster.run()
    assert cluster.get(2, b"k", r=1).values == [b"beside", b"newer"]
    assert all_equal(cluster)


def test_lost_and_repeated_repairs_do_no_harm() -> None:
    cluster = with_versions(b"1", b"1", b"")
    cluster.drop(REPAIRS)
    cluster.get(0, b"k", r=3)
    assert cluster.record(2, b"k") is None
    cluster.release()
    cluster.repeat(REPAIRS)
    cluster.get(0, b"k", r=3)
    assert all_equal(cluster)


def test_a_tombstone_is_repaired_like_any_version() -> None:
    cluster = with_versions(b"1", b"1", b"1")
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    cluster.put(0, b"k", tombstone=True, context=cluster.get(0, b"k").context)
    cluster.run()
    cluster.release()
    assert cluster.get(2, b"k", r=3).status == Status.NOT_FOUND
    assert all_equal(cluster)


@pytest.mark.parametrize("damaged", range(3))
def test_a_damaged_copy_is_mended(damaged: int) -> None:
    cluster = with_versions(b"1", b"1", b"1")
    cluster.nodes[damaged].engine.damage(cluster.store_key(b"k"))
    cluster.get(0, b"k")
    assert all_equal(cluster)
    assert cluster.nodes[damaged].count("damaged_records") > 0


def test_a_damaged_copy_of_what_nobody_has_stays_unknown() -> None:
    cluster = with_versions(b"", b"", b"")
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert cluster.get(0, b"k", r=2).status == Status.NOT_FOUND
    assert cluster.get(0, b"k", r=3).status == Status.QUORUM_FAILED


def test_a_peer_whose_queue_is_full_is_repaired_another_time() -> None:
    cluster = with_versions(b"1", b"1", b"")
    end = cluster.end_of(0, 2)
    replies = cluster.hold(frames(MessageType.READ_REPLY, origin=2))
    client = cluster.client(0)
    client.get(b"k")
    cluster.run()
    while end.outgoing.limit - len(end.outgoing) > 100:
        end.send(MessageType.CONTROL, bytes(min(1 << 20, end.outgoing.limit - len(end.outgoing) - 24)), request_id=1)
    cluster.held.clear()
    (reply,) = replies
    cluster.under_way.append(reply)
    sent = cluster.under_way.pop()
    cluster.drop(frames(MessageType.CONTROL))
    cluster.under_way.append(sent)
    cluster.run()
    assert cluster.nodes[0].errors == []
    cluster.get(0, b"k", r=3)
    assert all_equal(cluster)


def test_after_a_change_of_placement_what_was_asked_before_repairs_nobody() -> None:
    """The homes of before may not be homes any more."""
    cluster = with_versions(b"1", b"1", b"")
    replies = cluster.hold(frames(MessageType.READ_REPLY, origin=2))
    client = cluster.client(0)
    asked = client.get(b"k")
    cluster.run()
    for node in cluster.nodes:
        cluster.introduce_as(node, name=77)
    repairs = cluster.hold(REPAIRS)
    cluster.under_way += replies
    cluster.run()
    assert client.answers[asked].values == [b"1"]
    assert repairs == []
    cluster.release()
    cluster.get(0, b"k", r=3)
    assert all_equal(cluster)


def test_with_one_member_there_is_nobody_to_repair() -> None:
    cluster = Planes(1, requests=RequestsSection(dw=0))
    cluster.put(0, b"k", b"v")
    assert cluster.get(0, b"k").values == [b"v"]
    assert cluster.nodes[0].count("read_repairs") == 0
