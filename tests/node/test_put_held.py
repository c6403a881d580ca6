"""Back-pressure: while storage is behind, puts are answered late, ever later up to a bound; nothing else waits and nothing is refused."""

from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import Planes, frames

HOLD_MS_MAX = 100
SLOT_MS = 4  # timers are exact to this


def held_for(cluster: Planes, key: bytes) -> int:
    """Milliseconds until a put at node 0 is answered."""
    client = cluster.client(0)
    asked = client.put(key, b"v")
    cluster.run()
    for waited_ms in range(400):
        if asked in client.answers:
            assert client.answers[asked].status == Status.OK
            return waited_ms
        cluster.pass_time(1)
    raise AssertionError("not answered within 400 ms")


def test_answers_come_later_the_longer_storage_is_behind_up_to_a_bound() -> None:
    cluster = Planes()
    assert held_for(cluster, b"before") == 0
    cluster.nodes[0].engine.behind = True
    first = held_for(cluster, b"first")
    assert 1 <= first <= 1 + SLOT_MS
    cluster.pass_time(400)
    later = held_for(cluster, b"later")
    assert first < later <= HOLD_MS_MAX
    cluster.pass_time(10_000)
    assert HOLD_MS_MAX <= held_for(cluster, b"last") <= HOLD_MS_MAX + 2 * SLOT_MS
    cluster.nodes[0].engine.behind = False
    assert held_for(cluster, b"after") == 0


def test_reads_and_replicas_do_not_wait() -> None:
    cluster = Planes()
    assert cluster.put(0, b"k", b"v").status == Status.OK
    cluster.nodes[0].engine.behind = True
    assert cluster.get(0, b"k").values == [b"v"]
    assert cluster.put(1, b"other", b"v", w=3).status == Status.OK


def test_a_held_put_whose_quorum_comes_late_is_answered_when_it_comes() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.behind = True
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE_REPLY))
    asked = client.put(b"k", b"v", w=2)
    cluster.run()
    cluster.pass_time(200)
    assert asked not in client.answers, "held no longer, but one copy is no quorum"
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK


def test_a_held_put_is_ok_at_its_deadline_and_one_without_quorum_is_not() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.behind = True
    held_for(cluster, b"start")
    cluster.pass_time(10_000)
    client = cluster.client(0)
    asked = client.put(b"k", b"v", deadline_ms=20)
    cluster.run()
    cluster.pass_time(30)
    assert client.answers[asked].status == Status.OK
    cluster.hold(frames(MessageType.REPLICATE_REPLY))
    asked = client.put(b"k2", b"v", deadline_ms=20)
    cluster.run()
    cluster.pass_time(30)
    assert client.answers[asked].status == Status.DEADLINE
    cluster.pass_time(300)
    assert cluster.nodes[0].count("requests_in_flight") == 0
