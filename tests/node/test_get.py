"""Coordinating a get: R, what is merged and shown, sessions, copies that cannot be read (paper 4.4, 4.5)."""

import itertools

import pytest

from dynamo_fast.core.options import BucketSettings
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import VectorClock
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.wire.data_messages import encode_get, encode_replicate
from dynamo_fast.wire.frame import SAME
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.core.test_siblings_hostile import pack
from tests.node.planes import Planes, Sent, frames

READ_REPLIES = frames(MessageType.READ_REPLY)


def scattered() -> Planes:
    """Every home holds another version of `k`: its own number."""
    cluster = Planes()
    for node in range(3):
        cluster.isolate(node)
    for node in range(3):
        cluster.put(node, b"k", b"%d" % node, w=1)
    for one, two in itertools.combinations(range(3), 2):
        cluster.link(one, two)
    return cluster


# R -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_answer_comes_with_the_r_th_home_and_merges_them(r: int) -> None:
    for first in (1, 2):
        cluster = scattered()
        replies = cluster.hold(READ_REPLIES)
        client = cluster.client(0)
        asked = client.get(b"k", r=r)
        cluster.run()
        heard = [0]
        for home in (first, 3 - first):
            assert (asked in client.answers) == (len(heard) >= r)
            cluster.under_way += [sent for sent in replies if sent.origin == home]
            cluster.run()
            heard.append(home)
        assert client.answers[asked].values == sorted(b"%d" % home for home in heard[:r])
        assert cluster.nodes[0].count("gets_with_siblings") == (r > 1)


def test_equal_copies_do_not_travel() -> None:
    cluster = Planes()
    cluster.put(0, b"k", bytes(10_000))
    replies = cluster.hold(READ_REPLIES)
    client = cluster.client(0)
    client.get(b"k")
    cluster.run()
    assert [(sent.frame.flags & SAME, sent.frame.body) for sent in replies] == [(SAME, b"")] * 2


def test_nothing_anywhere_is_not_found_with_an_empty_context() -> None:
    cluster = Planes()
    answer = cluster.get(0, b"k", r=3)
    assert (answer.status, answer.siblings, answer.context) == (Status.NOT_FOUND, [], b"")
    assert answer.status.outcome is Outcome.OK
    assert cluster.put(1, b"k", b"v", context=answer.context).status == Status.OK


def test_what_is_only_elsewhere_is_found() -> None:
    cluster = Planes()
    cluster.isolate(0)
    cluster.put(1, b"k", b"v")
    cluster.link(0, 1)
    assert cluster.get(0, b"k").values == [b"v"]


def test_the_context_covers_what_was_shown_and_nothing_else() -> None:
    cluster = scattered()
    cluster.drop(frames(MessageType.READ_REPLY, origin=2))
    seen = cluster.get(0, b"k", r=2)
    assert seen.values == [b"0", b"1"]
    cluster.release()
    cluster.put(0, b"k", b"new", context=seen.context)
    cluster.pass_time(1100)
    assert cluster.get(1, b"k", r=3).values == [b"2", b"new"]


def test_buckets_are_apart_and_have_their_own_r() -> None:
    cluster = Planes(buckets={b"b": BucketSettings(r=3)})
    cluster.put(0, b"k", b"in none")
    cluster.put(0, b"k", b"in b", bucket=b"b")
    assert cluster.get(1, b"k").values == [b"in none"]
    assert cluster.get(1, b"k", bucket=b"b").values == [b"in b"]
    cluster.isolate(2)
    assert "wanted 3, got 1" in cluster.get(0, b"k", bucket=b"b").text
    assert cluster.get(0, b"k", bucket=b"unknown").status == Status.NO_SUCH_BUCKET


def test_what_cannot_be_a_get_is_refused() -> None:
    cluster = Planes()
    assert "r=4 is out of range" in cluster.get(0, b"k", r=4).text
    client = cluster.client(0)
    whole = encode_get(b"k")
    for end in range(len(whole)):
        assert client.answers[client.send(MessageType.GET, whole[:end])].status == Status.BAD_REQUEST


# Homes that cannot be had ----------------------------------------------------------------------------------------------------


def test_too_few_homes_are_named_at_once() -> None:
    cluster = Planes()
    cluster.isolate(0)
    answer = cluster.get(0, b"k")
    assert answer.status == Status.QUORUM_FAILED
    assert "wanted 2, got 1" in answer.text
    assert "node 1 is unreachable" in answer.text
    assert "node 2 is unreachable" in answer.text


def test_a_home_lost_in_the_middle_fails_what_needs_it_at_once() -> None:
    cluster = Planes()
    cluster.hold(READ_REPLIES)
    client = cluster.client(0)
    asked = client.get(b"k", r=3)
    cluster.run()
    cluster.cut(0, 1)
    assert client.answers[asked].status == Status.QUORUM_FAILED
    assert "node 1 is unreachable" in client.answers[asked].text
    assert "node 2 has not answered" in client.answers[asked].text


def test_at_the_deadline_the_answer_names_who_was_missing() -> None:
    cluster = Planes()
    cluster.drop(frames(MessageType.READ, target=2))
    client = cluster.client(0)
    asked = client.get(b"k", r=3, deadline_ms=250)
    cluster.run()
    cluster.pass_time(260)
    assert client.answers[asked].status == Status.DEADLINE
    assert "wanted 3, got 2: node 2 timed out" in client.answers[asked].text


def test_replies_count_once_and_only_from_homes() -> None:
    cluster = Planes(4)
    key = cluster.key_of(0, 1, 2)
    cluster.repeat(frames(MessageType.READ_REPLY, origin=1))
    cluster.drop(frames(MessageType.READ_REPLY, origin=2))
    reads = cluster.hold(frames(MessageType.READ))
    client = cluster.client(0)
    asked = client.get(key, r=3)
    token = reads[0].frame.request_id
    cluster.inject(0, 3, MessageType.READ_REPLY, b"", request_id=token, status=Status.NOT_FOUND)
    cluster.inject(0, 1, MessageType.REPLICATE_REPLY, b"", request_id=token)
    cluster.inject(0, 1, MessageType.GET_REPLY, b"", request_id=token)
    cluster.inject(0, 1, MessageType.READ_REPLY, b"", request_id=token + (1 << 32), status=Status.NOT_FOUND)
    cluster.under_way += reads
    cluster.run()
    assert asked not in client.answers
    assert cluster.nodes[0].errors == []


def test_a_peer_that_hangs_turns_no_client_away() -> None:
    """Gets that have their answer wait for late replies; those make room when requests are many."""
    cluster = Planes(requests=RequestsSection(dw=0, requests_in_flight_max=16))
    cluster.drop(frames(MessageType.READ, target=2))
    for number in range(100):
        assert cluster.get(0, b"%d" % number).status == Status.NOT_FOUND
    assert cluster.nodes[0].plane.requests_in_flight == 0
    assert cluster.nodes[0].count("given_up") > 80
    cluster.hold(frames(MessageType.READ))
    client = cluster.client(0)
    under_way = [client.get(b"%d" % number) for number in range(16)]
    assert cluster.get(0, b"k").status == Status.OVERLOAD, "nobody of these has an answer"
    cluster.pass_time(1100)
    assert {client.answers[asked].status for asked in under_way} == {Status.DEADLINE}


def test_an_answer_that_finds_no_room_is_overload_and_the_next_is_served() -> None:
    cluster = Planes()
    cluster.put(0, b"k", bytes(5000))
    client = cluster.client(0, outgoing_bytes_max=9000)
    client.reads = False
    asked = [client.get(b"k", r=1), client.get(b"k", r=1)]
    cluster.run()
    client.reads = True
    client.take()
    assert [client.answers[one].status for one in asked] == [Status.OK, Status.OVERLOAD]
    assert "read them, then ask again" in client.answers[asked[1]].text
    assert cluster.ask(client, MessageType.GET, b"k").status == Status.OK


# Copies that cannot be read ----------------------------------------------------------------------------------------------------


def test_a_damaged_copy_of_our_own_is_no_answer_of_nothing() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"v")
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert "node 0 has a damaged copy" in cluster.get(0, b"k", r=3).text
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert cluster.get(0, b"k", r=2).values == [b"v"]


def test_a_damaged_copy_elsewhere_is_no_answer_of_nothing() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"v")
    cluster.nodes[1].engine.damage(cluster.store_key(b"k"))
    assert "node 1 has a damaged copy" in cluster.get(0, b"k", r=3).text


def test_bytes_from_a_peer_that_are_no_object_count_as_no_answer() -> None:
    cluster = Planes()
    reads = cluster.hold(frames(MessageType.READ))
    client = cluster.client(0)
    asked = client.get(b"k", r=2)
    for body in (b"", b"garbage", Siblings().put(b"v", node=b"n" * 16).packed[:-1]):
        cluster.inject(0, 1, MessageType.READ_REPLY, body, request_id=reads[0].frame.request_id)
    cluster.run()
    assert asked not in client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.NOT_FOUND
    assert cluster.nodes[0].errors == []


def wide(first: int) -> bytes:
    """An object whose clock has 40,000 entries."""
    made = Siblings().put(b"v", node=first.to_bytes(16, "big"))
    clock = VectorClock((number.to_bytes(16, "big"), 0, 1, 0) for number in range(first, first + 40_000))
    return pack(clock, made.siblings)


def test_copies_that_no_object_can_hold_together_are_not_said_to_have_been_read() -> None:
    """An object's clock is counted in 16 bits; one of these alone is longer than a context can be, and what it has is not told either."""
    cluster = Planes()
    for node, packed in ((0, wide(1)), (1, wide(50_000))):
        body = encode_replicate(cluster.placement.name, b"k", packed)
        cluster.inject(node, 2, MessageType.REPLICATE, body, request_id=1)
    cluster.run()
    assert len(cluster.copy(0, b"k").clock) == len(cluster.copy(1, b"k").clock) == 40_000
    assert cluster.get(0, b"k", r=3).status == Status.QUORUM_FAILED
    assert cluster.get(0, b"k", r=2).status == Status.CLOCK_FULL


def test_another_key_at_the_same_place_is_never_taken_for_this_one() -> None:
    cluster = Planes()
    other = encode_record(b"other", Siblings().put(b"theirs", node=b"n" * 16).packed, hash=1)
    for node in cluster.nodes:
        node.engine.put(cluster.store_key(b"k"), other)
    assert cluster.get(0, b"k").status == Status.KEY_COLLISION
    assert cluster.put(0, b"k", b"v").status == Status.KEY_COLLISION
    assert all(cluster.record(node, b"k") == other for node in range(3))
    partly = Planes()
    partly.nodes[1].engine.put(partly.store_key(b"k"), other)
    assert "node 1 refused with status 28" in partly.put(0, b"k", b"v", w=3).text
    assert "node 1 refused with status 28" in partly.get(0, b"k", r=3).text


# Sessions ----------------------------------------------------------------------------------------------------


def test_a_session_waits_for_a_home_that_has_what_it_has_seen() -> None:
    """R of one at a home that has missed the write: without the session it would read the past."""
    cluster = Planes()
    old = cluster.put(0, b"k", b"old", w=3).context
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    seen = cluster.put(0, b"k", b"new", context=old).context
    assert cluster.get(2, b"k", r=1).values == [b"old"]
    cluster.run()
    answer = cluster.get(2, b"k", r=1, session_context=seen)
    assert answer.values == [b"new"]


def test_a_session_that_nobody_can_satisfy_is_told_so() -> None:
    cluster = Planes()
    cluster.isolate(2)
    seen = cluster.put(0, b"k", b"v").context
    answer = cluster.get(2, b"k", r=1, session_context=seen)
    assert answer.status == Status.QUORUM_FAILED
    assert "what this session has" in answer.text
    cluster.link(1, 2)
    held = cluster.hold(frames(MessageType.READ_REPLY, origin=1))
    client = cluster.client(2)
    asked = client.get(b"k", r=1, session_context=seen)
    cluster.run()
    assert asked not in client.answers
    assert len(held) == 1
    cluster.pass_time(1100)
    assert client.answers[asked].status == Status.DEADLINE


def test_a_session_covers_the_one_version_that_a_blind_writer_knows_of() -> None:
    """Its context is a dot beside what it had seen before; the dot has to be there too."""
    cluster = Planes()
    cluster.put(0, b"k", b"theirs", w=3)
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    mine = cluster.put(0, b"k", b"mine").context
    assert cluster.get(2, b"k", r=1, session_context=mine).values == [b"mine", b"theirs"]
    cluster.release()
    cluster.put(2, b"k", b"mine, edited", context=mine)
    assert cluster.get(1, b"k", r=3).values == [b"mine, edited", b"theirs"]


def test_sessions_of_other_keys_are_refused() -> None:
    cluster = Planes()
    seen = cluster.put(0, b"k", b"v").context
    assert cluster.get(0, b"other", session_context=seen).status == Status.BAD_CONTEXT
    assert cluster.get(0, b"k", session_context=seen[:-1]).status == Status.BAD_CONTEXT
    assert cluster.nodes[0].plane.requests_in_flight == 0


def test_reads_of_one_session_never_go_back_whatever_is_lost() -> None:
    """A writer writes on; a reader asks changing nodes for R of one, and hands back what it has seen."""
    cluster = Planes(seed=5)

    def lossy(sent: Sent) -> bool:
        return sent.type == MessageType.REPLICATE and cluster.chance.random() < 0.5

    cluster.drop(lossy)
    context = session = b""
    highest = 0
    for number in range(1, 60):
        client = cluster.client(0)
        written = client.put(b"k", b"%d" % number, context=context, w=1)
        cluster.run()
        context = client.answers[written].context
        answer = cluster.get(cluster.chance.randrange(3), b"k", r=1, session_context=session)
        if answer.status == Status.OK:
            assert int(answer.values[0]) >= highest
            highest, session = int(answer.values[0]), answer.context
    assert highest > 30
