"""Who owes answers and is silent is avoided, asked again when it speaks, and closed when it never does (paper 4.8.3)."""

from __future__ import annotations

from dynamo_fast.node.config import RequestsSection
from dynamo_fast.wire.status import MessageType, Status
from tests.node.absent import KEY, order, owed
from tests.node.planes import Planes, frames


def test_a_silent_home_is_replaced_and_asked_again_when_it_speaks() -> None:
    cluster = Planes(5, requests=RequestsSection(dw=0, suspect_ms=100))
    a, _b, c, d, _e = order(cluster)
    cluster.hold(lambda sent: c in (sent.origin, sent.target))  # paused: its connections stand
    client = cluster.client(a)
    asked = client.put(KEY, b"v", w=3)
    cluster.run()
    for _ in range(10):
        cluster.pass_time(10)
    assert client.answers[asked].status == Status.OK
    assert owed(cluster, d) == 1 << 2
    assert cluster.nodes[a].count("suspects") == 1
    quick = cluster.client(a)
    again = quick.put(KEY, b"w", w=3)
    cluster.run()
    assert quick.answers[again].status == Status.OK, "at once, without waiting for it"
    cluster.release()
    cluster.run()
    cluster.pass_time(10)
    assert cluster.nodes[a].count("suspects") == 0
    cluster.put(a, KEY, b"x", w=3)
    assert b"x" in cluster.copy(c, KEY).values


def test_a_suspect_without_substitute_is_waited_for() -> None:
    """Three nodes, all of them homes: suspicion must not refuse what patience would have served."""
    cluster = Planes(3, requests=RequestsSection(dw=0, suspect_ms=100))
    kept = cluster.hold(frames(MessageType.REPLICATE, target=1))
    client = cluster.client(0)
    first = client.put(KEY, b"v", w=3)
    cluster.run()
    for _ in range(20):
        cluster.pass_time(10)
    assert cluster.nodes[0].count("suspects") == 1
    second = client.put(KEY, b"w", w=3)
    cluster.run()
    assert not client.answers
    assert len(kept) == 2
    cluster.release()
    cluster.run()
    assert client.answers[first].status == client.answers[second].status == Status.OK


def test_a_connection_that_stays_silent_is_closed() -> None:
    cluster = Planes(3, requests=RequestsSection(dw=0, suspect_ms=100, silence_ms_max=1000))
    cluster.drop(lambda sent: 1 in (sent.origin, sent.target))
    client = cluster.client(0)
    client.put(KEY, b"v", w=3)
    cluster.run()
    for _ in range(120):
        cluster.pass_time(10)
    assert cluster.nodes[0].count("peers_given_up") == 1
    assert not cluster.linked(0, 1)


def test_a_stall_of_our_own_convicts_nobody() -> None:
    cluster = Planes(3, requests=RequestsSection(dw=0, suspect_ms=100))
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE_REPLY, target=0))
    client.put(KEY, b"v", w=3, deadline_ms=60_000)
    cluster.run()
    cluster.pass_time(5000)  # one pass that comes five seconds late
    assert cluster.nodes[0].count("suspicions") == 0


def test_what_was_asked_a_moment_ago_convicts_nobody() -> None:
    """However long nothing had been asked before: homes of two hosts of their own are not given up for two workers of one."""
    cluster = Planes(5, requests=RequestsSection(dw=0, suspect_ms=20), hosts=["one", "one", "two", "two", "three"])
    coordinator = order(cluster)[0]
    for number in range(3):
        cluster.now_us += 1_000_000  # in which nobody had anything to do
        cluster.put(coordinator, KEY, b"v%d" % number, w=3)
    assert cluster.nodes[coordinator].count("suspicions") == 0
    assert cluster.nodes[coordinator].count("substitutions") == 0
