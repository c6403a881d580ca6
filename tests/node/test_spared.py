"""Gets that ask as many homes as R needs, and when the others are asked after all."""

from __future__ import annotations

import pytest

from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import Planes, frames

KEY = b"k"
NEVER = 1 << 20  # ask_all_every: the first get is number 1


def asked(cluster: Planes, node: int) -> list[int]:
    """How many READs each other node has had."""
    return [cluster.nodes[number].count("reads") for number in range(len(cluster.nodes)) if number != node]


def test_r_decides_how_many_homes_are_asked() -> None:
    for r, reads in ((1, 0), (2, 1), (3, 2)):
        cluster = Planes(ask_all_every=NEVER)
        cluster.put(0, KEY, b"v", w=3)
        assert cluster.get(0, KEY, r=r).values == [b"v"]
        assert sum(asked(cluster, 0)) == reads
        assert cluster.nodes[0].count("requests_in_flight") == 0


def test_the_others_take_turns() -> None:
    cluster = Planes(ask_all_every=NEVER)
    cluster.put(0, KEY, b"v", w=3)
    for _ in range(10):
        cluster.get(0, KEY, r=2)
    assert asked(cluster, 0) == [5, 5]


def test_one_get_in_so_many_asks_all() -> None:
    cluster = Planes(ask_all_every=4)
    cluster.put(0, KEY, b"v", w=3)
    for _ in range(8):
        cluster.get(0, KEY, r=1)
    assert asked(cluster, 0) == [2, 2]


def test_copies_that_differ_bring_in_the_spared_and_all_are_repaired() -> None:
    cluster = Planes(ask_all_every=NEVER)
    first = cluster.put(0, KEY, b"old", w=3)
    for target in (1, 2):
        cluster.drop(frames(MessageType.REPLICATE, origin=0, target=target))
    cluster.put(0, KEY, b"new", context=first.context, w=1)
    cluster.release()
    assert cluster.get(1, KEY, r=2).status == Status.OK
    assert cluster.get(0, KEY, r=2).values == [b"new"]
    cluster.run()
    assert len({cluster.packed(node, KEY) for node in range(3)}) == 1


@pytest.mark.parametrize("lost", [1, 2])
def test_a_home_lost_under_way_is_made_up_for(lost: int) -> None:
    cluster = Planes(ask_all_every=NEVER)
    cluster.put(0, KEY, b"v", w=3)
    client = cluster.client(0)
    cluster.hold(frames(MessageType.READ, target=lost))
    one, two = client.get(KEY, r=2), client.get(KEY, r=2)  # one of them asks the node that will be lost
    cluster.run()
    assert len(client.answers) == 1
    cluster.cut(0, lost)
    cluster.run()
    assert client.answers[one].values == client.answers[two].values == [b"v"]


def test_a_late_answer_is_hedged() -> None:
    cluster = Planes(ask_all_every=NEVER)
    cluster.put(0, KEY, b"v", w=3)
    client = cluster.client(0)
    held = cluster.hold(frames(MessageType.READ_REPLY))
    request = client.get(KEY, r=2)
    cluster.run()
    assert len(held) == 1
    cluster.pass_time(250)
    assert len(held) == 2, "the one that was spared has been asked"
    assert cluster.nodes[0].count("gets_hedged") == 1
    cluster.release(backwards=True)
    cluster.run()
    assert client.answers[request].values == [b"v"]


def test_a_damaged_home_brings_in_the_spared() -> None:
    cluster = Planes(ask_all_every=NEVER)
    cluster.put(0, KEY, b"v", w=3)
    for number in (0, 1):
        cluster.nodes[number].engine.damage(cluster.store_key(KEY))
    assert cluster.get(2, KEY, r=2).status == Status.QUORUM_FAILED
    cluster.run()
    assert cluster.get(2, KEY, r=3).values == [b"v"], "both were repaired by the get before"


def test_a_session_that_has_seen_more_brings_in_the_spared() -> None:
    cluster = Planes(ask_all_every=NEVER)
    cluster.drop(frames(MessageType.REPLICATE, target=1))
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    context = cluster.put(0, KEY, b"v", w=1).context
    cluster.release()
    for _ in range(2):
        assert cluster.get(1, KEY, r=1, session_context=context).values == [b"v"]


def test_while_a_home_is_away_all_are_asked() -> None:
    cluster = Planes(5, ask_all_every=NEVER)
    homes, fallbacks = cluster.homes(KEY), cluster.ring.fallbacks(KEY)
    cluster.isolate(homes[2])
    cluster.put(homes[0], KEY, b"v", w=3)
    cluster.get(homes[0], KEY, r=1)
    assert cluster.nodes[homes[1]].count("reads") == cluster.nodes[fallbacks[0]].count("reads") == 1


def test_homes_that_share_a_machine_do_not_count_twice() -> None:
    cluster = Planes(3, hosts=["x", "x", "y"], ask_all_every=NEVER)
    cluster.put(0, KEY, b"v", w=3)
    for _ in range(4):
        assert cluster.get(0, KEY, r=2).values == [b"v"]
    assert cluster.nodes[2].count("reads") == 4, "the other machine is asked every time"
