"""Coordinating a put: W and DW, homes that cannot be had, what is certain and what is unknown (paper 4.5)."""

import itertools

import pytest

from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.planes import Planes, frames

REPLICATED = frames(MessageType.REPLICATE_REPLY)


# W and DW ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1, 2, 3])
def test_the_answer_comes_with_the_w_th_copy(w: int) -> None:
    cluster = Planes()
    client = cluster.client(0)
    replies = cluster.hold(REPLICATED)
    asked = client.put(b"k", b"v", w=w)
    cluster.run()
    for copies in itertools.count(1):
        assert (asked in client.answers) == (copies >= w)
        if not replies:
            break
        cluster.under_way.append(replies.pop(0))
        cluster.run()
    assert client.answers[asked].status == Status.OK
    assert all(cluster.packed(node, b"k") == cluster.packed(0, b"k") for node in (1, 2))


@pytest.mark.parametrize("dw", [0, 1, 2, 3])
def test_dw_copies_are_on_disk_before_the_answer(dw: int) -> None:
    """Whatever the order in which the disks finish, ours among them."""
    for order in itertools.permutations(range(3)):
        cluster = Planes()
        for node in cluster.nodes:
            node.engine.hold_syncs = True
        client = cluster.client(0)
        asked = client.put(b"k", b"v", w=1, dw=dw)
        cluster.run()
        durable: set[int] = set()
        for node in (*order, None):
            # With DW of one it is the coordinator's own disk that is waited for: the others were not asked to sync.
            enough = len(durable) >= dw if dw != 1 else 0 in durable
            assert (asked in client.answers) == enough, (order, durable)
            if node is not None:
                cluster.finish_syncs(node)
                durable.add(node)
        assert client.answers[asked].status == Status.OK


def test_w_is_at_least_dw() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.hold_syncs = True
    replies = cluster.hold(REPLICATED)
    client = cluster.client(0)
    asked = client.put(b"k", w=1, dw=2)
    cluster.run()
    cluster.finish_syncs(0)
    assert asked not in client.answers, "one copy on disk, two were asked for"
    assert len(replies) == 2
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK


def test_a_sync_that_ends_after_the_answer_or_the_deadline_answers_nobody_twice() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.hold_syncs = True
    client = cluster.client(0)
    expired = client.put(b"k", dw=1)
    cluster.run()
    cluster.pass_time(1100)
    assert client.answers[expired].status == Status.DEADLINE
    assert "node 0 has it in memory and not yet on disk" in client.answers[expired].text
    later = client.put(b"k2", dw=1)  # in the slot of the one that has expired
    cluster.run()
    cluster.finish_syncs(0)
    assert client.answers[later].status == Status.OK
    assert cluster.nodes[0].plane.requests_in_flight == 0


def test_workers_of_one_host_count_once() -> None:
    """Two of the homes share a machine: their two copies are no W of 2."""
    cluster = Planes(4, hosts=["a", "a", "a", "b"])
    key = next(key for key in (b"%d" % n for n in range(999)) if {cluster.hosts[home] for home in cluster.homes(key)} == {"a", "b"})
    near = [home for home in cluster.homes(key) if cluster.hosts[home] == "a"]
    (far,) = (home for home in cluster.homes(key) if cluster.hosts[home] == "b")
    held = cluster.hold(frames(MessageType.REPLICATE, target=far))
    client = cluster.client(near[0])
    asked = client.put(key, w=2)
    cluster.run()
    assert cluster.packed(near[1], key) is not None
    assert asked not in client.answers
    assert len(held) == 1
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK


def test_all_homes_on_one_host_are_counted_one_by_one() -> None:
    cluster = Planes(3, hosts=["a", "a", "a"])
    assert cluster.put(0, b"k", w=3).status == Status.OK


def test_fewer_members_than_n() -> None:
    """Defaults then mean all there are; a number that cannot be had is an error."""
    cluster = Planes(1)
    assert cluster.put(0, b"k", b"v").status == Status.OK
    refused = cluster.put(0, b"k", b"v", w=2)
    assert refused.status == Status.BAD_REQUEST
    assert "w=2 is out of range" in refused.text


# Homes that cannot be had ----------------------------------------------------------------------------------------------------


def test_too_few_reachable_homes_is_certain_and_nothing_is_written() -> None:
    cluster = Planes()
    cluster.isolate(0)
    answer = cluster.put(0, b"k", b"v")
    assert answer.status == Status.NOT_ENOUGH_REPLICAS
    assert answer.status.outcome is Outcome.NOT_APPLIED
    assert "wanted 2, got 0" in answer.text
    assert "node 1 is unreachable" in answer.text
    assert "node 2 is unreachable" in answer.text
    assert cluster.record(0, b"k") is None


def test_homes_lost_after_the_write_make_it_unknown() -> None:
    cluster = Planes()
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE))
    asked = client.put(b"k", b"v")
    cluster.cut(0, 1)
    assert asked not in client.answers, "node 2 may still answer"
    cluster.cut(0, 2)
    answer = client.answers[asked]
    assert answer.status == Status.QUORUM_FAILED
    assert answer.status.outcome is Outcome.UNKNOWN
    assert "wanted 2, got 1" in answer.text
    assert cluster.packed(0, b"k") is not None
    assert cluster.nodes[0].plane.requests_in_flight == 0


def test_a_link_that_is_replaced_fails_what_waited_on_it() -> None:
    """Both sides dialled at once and one connection goes: replies to what was asked on it will not come."""
    cluster = Planes()
    cluster.cut(0, 2)
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE))
    asked = client.put(b"k", b"v")
    cluster.link(0, 1)
    cluster.collect(cluster.nodes[0])
    assert client.answers[asked].status == Status.QUORUM_FAILED
    cluster.release()
    cluster.under_way.clear()
    assert cluster.put(0, b"k", b"w").status == Status.OK, "over the new one"


def test_a_home_that_answers_after_its_loss_was_noticed_counts() -> None:
    cluster = Planes()
    client = cluster.client(0)
    replies = cluster.hold(REPLICATED)
    asked = client.put(b"k", b"v", w=3)
    cluster.run()
    (first,) = (sent for sent in replies if sent.origin == 1)
    cluster.nodes[0].plane.peer_down(cluster.node_ids[1])
    cluster.collect(cluster.nodes[0])
    assert client.answers[asked].status == Status.QUORUM_FAILED, "W of 3 needs all of them"
    cluster.under_way.append(first)
    cluster.release()
    cluster.run()
    assert cluster.nodes[0].errors == []


def test_at_the_deadline_the_answer_names_who_was_missing() -> None:
    cluster = Planes()
    cluster.cut(0, 1)
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    client = cluster.client(0)
    asked = client.put(b"k", b"v", deadline_ms=300)
    cluster.run()
    cluster.pass_time(296)
    assert asked not in client.answers
    cluster.pass_time(8)
    answer = client.answers[asked]
    assert answer.status == Status.DEADLINE
    assert answer.status.outcome is Outcome.UNKNOWN
    assert "wanted 2, got 1" in answer.text
    assert "node 1 is unreachable" in answer.text
    assert "node 2 timed out" in answer.text


def test_replies_that_come_after_the_end_change_nothing() -> None:
    """Late ones to a request that is over, even when another request has its place in the table."""
    cluster = Planes()
    client = cluster.client(0)
    late = cluster.hold(REPLICATED)
    first = client.put(b"k", b"v")
    cluster.run()
    cluster.pass_time(1100)
    assert client.answers[first].status == Status.DEADLINE
    cluster.held.clear()
    cluster.drop(frames(MessageType.REPLICATE))
    second = client.put(b"k2", b"v")
    cluster.run()
    cluster.under_way += late
    cluster.run()
    assert second not in client.answers, "the late replies were to the first"


def test_replies_from_strangers_to_the_key_and_to_nothing_are_ignored() -> None:
    cluster = Planes(4)
    key = cluster.key_of(0, 1, 2)
    client = cluster.client(0)
    replicas = cluster.hold(frames(MessageType.REPLICATE))
    asked = client.put(key, b"v")
    token = replicas[0].frame.request_id
    cluster.inject(0, 3, MessageType.REPLICATE_REPLY, b"", request_id=token)
    for forged in (0, 1, token + 1, token + (1 << 32), 0xFFFF_FFFF, (1 << 64) - 1):
        cluster.inject(0, 1, MessageType.REPLICATE_REPLY, b"", request_id=forged)
    cluster.inject(0, 1, MessageType.READ_REPLY, b"", request_id=token)
    cluster.inject(0, 1, MessageType.PUT_REPLY, b"forged", request_id=token)
    cluster.run()
    assert asked not in client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.nodes[0].errors == []


def test_a_reply_that_comes_twice_counts_once() -> None:
    cluster = Planes()
    cluster.repeat(frames(MessageType.REPLICATE_REPLY, origin=1))
    cluster.drop(frames(MessageType.REPLICATE_REPLY, origin=2))
    client = cluster.client(0)
    asked = client.put(b"k", w=3)
    cluster.run()
    assert asked not in client.answers


def test_a_replicate_that_comes_twice_changes_nothing() -> None:
    cluster = Planes()
    cluster.repeat(frames(MessageType.REPLICATE))
    context = b""
    for value in (b"1", b"2"):
        context = cluster.put(0, b"k", value, context=context).context
    assert len({cluster.packed(node, b"k") for node in range(3)}) == 1
    assert cluster.copy(1, b"k").values == (b"2",)


def test_a_home_that_refuses_is_named_with_its_reason() -> None:
    cluster = Planes()
    cluster.fill_disk(1, "no space left")
    cluster.cut(0, 2)
    answer = cluster.put(0, b"k", b"v")
    assert answer.status == Status.QUORUM_FAILED
    assert "node 1 takes no writes" in answer.text


def test_a_peer_that_does_not_read_counts_as_failed_and_harms_nobody_else() -> None:
    cluster = Planes(peer_outgoing_bytes_max=64 * 1024)
    end = cluster.end_of(0, 1)
    while 64 * 1024 - len(end.outgoing) > 3000:
        end.send(MessageType.CONTROL, bytes(2000), request_id=1)
    client = cluster.client(0)
    asked = client.put(b"k", bytes(4000), w=3)
    assert "node 1 is overloaded" in client.answers[asked].text
    assert client.answers[asked].status == Status.QUORUM_FAILED
    assert cluster.packed(0, b"k") is not None
