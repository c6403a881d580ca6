"""Any node takes any request: one that is no home of the key forwards it, once, and relays the answer."""

import pytest

from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.wire.frame import STALE_PLACEMENT
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.planes import Planes, frames


def test_a_node_that_is_no_home_forwards_once_and_says_that_the_client_could_know_better() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    answer = cluster.put(3, key, b"v")
    assert answer.status == Status.OK
    assert answer.flags & STALE_PLACEMENT
    assert cluster.record(3, key) is None
    read = cluster.get(3, key)
    assert read.values == [b"v"]
    assert read.flags & STALE_PLACEMENT
    assert cluster.nodes[3].count("forwards") == 2


def test_what_was_forwarded_is_never_forwarded_again() -> None:
    """The home that was asked works by another placement, in which it is none."""
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    first = cluster.homes(key)[0]
    reduced = [(*(node for node in cluster.ring.order_of(p) if node != first), first) for p in range(cluster.ring.partitions)]
    cluster.introduce_as(cluster.nodes[first], ring=type(cluster.ring)(cluster.ring.partitions, 3, reduced))
    answer = cluster.put(3, key, b"v")
    assert answer.status == Status.STALE_PLACEMENT
    assert answer.flags & STALE_PLACEMENT
    assert cluster.nodes[first].count("forwards") == 0


def test_refusals_of_the_home_are_relayed_with_their_words() -> None:
    cluster = Planes(4, limits=LimitsSection(siblings_max=1))
    key = cluster.key_away_from(3)
    cluster.put(3, key, b"1")
    answer = cluster.put(3, key, b"2")
    assert answer.status == Status.TOO_MANY_SIBLINGS
    assert "resolve them" in answer.text


def test_a_home_lost_while_it_had_the_request_has_a_successor() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    first, second, _ = cluster.homes(key)
    cluster.hold(frames(MessageType.PUT, target=first))
    client = cluster.client(3)
    put, get = client.put(key, b"v"), client.get(key)
    cluster.cut(3, first)
    cluster.run()
    assert client.answers[put].status == Status.OK
    assert client.answers[get].status in (Status.OK, Status.NOT_FOUND)
    assert cluster.nodes[second].count("puts") == 1
    assert cluster.nodes[3].plane.requests_in_flight == 0


def test_when_all_homes_are_lost_the_node_coordinates_itself() -> None:
    cluster = Planes(5)
    key = cluster.key_away_from(4)
    cluster.hold(frames(MessageType.PUT))
    client = cluster.client(4)
    asked = client.put(key, b"v", w=2)
    for home in cluster.homes(key):
        cluster.cut(4, home)
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.nodes[4].count("puts") == 1


def test_a_home_that_falls_silent_has_a_successor() -> None:
    cluster = Planes(4, requests=RequestsSection(dw=0, suspect_ms=100))
    key = cluster.key_away_from(3)
    first = cluster.homes(key)[0]
    cluster.hold(lambda sent: first in (sent.origin, sent.target))
    client = cluster.client(3)
    asked = client.put(key, b"v")
    cluster.run()
    for _ in range(30):
        cluster.pass_time(10)
    assert client.answers[asked].status == Status.OK


def test_a_put_done_by_both_is_one_version_to_a_reader() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    first = cluster.homes(key)[0]
    client = cluster.client(3)
    lost = cluster.hold(frames(MessageType.PUT_REPLY, origin=first))
    asked = client.put(key, b"v")
    cluster.run()
    assert len(lost) == 1, "the first home has done it, and its answer is lost with the link"
    cluster.cut(3, first)
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.get(first, key, r=3).values == [b"v"]


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_by_the_successor_is_no_promise_that_nothing_was_done(late: bool) -> None:
    """The first home may have done it: of a put nobody can say any more that it was certainly not applied."""
    cluster = Planes(4, limits=LimitsSection(siblings_max=1))
    key = cluster.key_away_from(3)
    first, second, third = cluster.homes(key)
    cluster.put(second, key, b"there", w=3)
    cluster.hold(frames(MessageType.PUT, target=first))
    client = cluster.client(3)
    asked = client.put(key, b"v", w=3)
    if not late:
        cluster.cut(3, second)
        cluster.cut(3, third)
    cluster.cut(3, first)
    cluster.run()
    assert client.answers[asked].status == Status.QUORUM_FAILED
    assert client.answers[asked].status.outcome is Outcome.UNKNOWN
    assert "may have done it" in client.answers[asked].text


def test_a_home_that_does_not_answer_what_was_forwarded() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    cluster.drop(frames(MessageType.PUT))
    client = cluster.client(3)
    asked = client.put(key, b"v", deadline_ms=200)
    cluster.pass_time(210)
    assert client.answers[asked].status == Status.DEADLINE


def test_the_answer_to_what_was_forwarded_counts_from_the_home_alone() -> None:
    cluster = Planes(5)
    key = cluster.key_away_from(4)
    asked_home = cluster.homes(key)[0]
    held = cluster.hold(frames(MessageType.PUT))
    client = cluster.client(4)
    asked = client.put(key, b"v")
    (liar,) = (node for node in range(4) if node not in cluster.homes(key))
    cluster.inject(4, liar, MessageType.PUT_REPLY, b"forged", request_id=held[0].frame.request_id)
    cluster.inject(4, asked_home, MessageType.GET_REPLY, b"forged", request_id=held[0].frame.request_id)
    cluster.run()
    assert asked not in client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK


def test_with_no_home_in_reach_nothing_is_done() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    cluster.isolate(3)
    answer = cluster.put(3, key, b"v")
    assert answer.status == Status.NOT_ENOUGH_REPLICAS
    assert answer.status.outcome is Outcome.NOT_APPLIED


def test_forwards_go_to_the_next_home_when_the_first_is_away() -> None:
    cluster = Planes(4)
    key = cluster.key_away_from(3)
    cluster.cut(3, cluster.homes(key)[0])
    assert cluster.put(3, key, b"v").status == Status.OK
