"""The first N healthy nodes (paper 4.6): who stands in for whom, what counts, and what a substitute keeps."""

from __future__ import annotations

from itertools import combinations

import pytest

from dynamo_fast.node.config import LimitsSection
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.data_messages import decode_replicate
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.absent import KEY, kill, mend, order, owed
from tests.node.planes import Planes, frames

# Puts -----------------------------------------------------------------------------------------------------------------------------


def test_the_next_node_of_the_order_keeps_a_hint_for_a_home_that_is_down() -> None:
    cluster = Planes(5)
    a, b, c, d, e = order(cluster)
    kill(cluster, c)
    assert cluster.put(a, KEY, b"v", w=3).status == Status.OK
    assert owed(cluster, d) == 1 << 2, "for the home in slot 2"
    assert owed(cluster, a) == owed(cluster, b) == 0, "homes owe nobody"
    assert cluster.packed(d, KEY) == cluster.packed(a, KEY)
    assert cluster.record(e, KEY) is None


def test_a_down_node_s_hints_go_to_the_next_one_again() -> None:
    cluster = Planes(5)
    a, b, c, d, e = order(cluster)
    kill(cluster, c, d)
    assert cluster.put(b, KEY, b"v", w=3).status == Status.OK
    assert owed(cluster, e) == 1 << 2
    assert cluster.packed(e, KEY) == cluster.packed(a, KEY)


@pytest.mark.parametrize("w", [1, 2, 3])
def test_puts_succeed_through_any_node_while_any_two_of_five_are_down(w: int) -> None:
    for down in combinations(range(5), 2):
        cluster = Planes(5)
        kill(cluster, *down)
        for node in set(range(5)) - set(down):
            assert cluster.put(node, KEY, b"v", w=w).status == Status.OK, f"through {node} with {down} down"
            assert b"v" in cluster.get(node, KEY, r=1).values


def test_with_too_few_nodes_left_nothing_is_written() -> None:
    cluster = Planes(5)
    a, b, c, d, _e = order(cluster)
    kill(cluster, b, c, d)
    answer = cluster.put(a, KEY, b"v", w=3)
    assert answer.status == Status.NOT_ENOUGH_REPLICAS
    assert answer.status.outcome is Outcome.NOT_APPLIED
    assert all(cluster.record(node, KEY) is None for node in range(5))
    assert cluster.put(a, KEY, b"v", w=2).status == Status.OK, "the one fallback that is left is enough for two"


def test_a_strict_put_counts_homes_alone_and_still_finds_a_keeper_for_the_absent() -> None:
    cluster = Planes(5)
    a, _b, c, d, _e = order(cluster)
    kill(cluster, c)
    assert cluster.put(a, KEY, b"v", w=3, strict=True).status == Status.NOT_ENOUGH_REPLICAS
    assert cluster.put(a, KEY, b"v", w=2, strict=True).status == Status.OK
    assert owed(cluster, d) == 1 << 2
    assert cluster.nodes[a].count("requests_in_flight") == 0


def test_substitutes_on_machines_of_their_own_come_first() -> None:
    """Two copies on one machine count once, so a fallback that shares a machine with a live home is no help while there is another."""
    for seed in range(20):
        cluster = Planes(6, hosts=["x", "x", "y", "y", "z", "z"], seed=seed)
        for number in range(50):
            key = b"key%d" % number
            homes = cluster.homes(key)
            kill(cluster, homes[2])
            assert cluster.put(homes[0], key, b"v", w=3).status == Status.OK
            keeper = next(node for node in range(6) if node not in homes and cluster.record(node, key) is not None)
            assert cluster.hosts[keeper] == cluster.hosts[homes[2]], "the dead home's own machine is the only one without a copy"
            mend(cluster)


def test_a_home_lost_under_way_is_replaced() -> None:
    cluster = Planes(5)
    a, b, _c, d, _e = order(cluster)
    client = cluster.client(a)
    cluster.hold(frames(MessageType.REPLICATE, target=b))
    asked = client.put(KEY, b"v", w=3)
    cluster.run()
    assert asked not in client.answers
    cluster.cut(a, b)
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert owed(cluster, d) == 1 << 1


def test_a_home_that_refuses_is_replaced() -> None:
    cluster = Planes(5)
    a, b, _c, d, _e = order(cluster)
    cluster.nodes[b].engine.failure = "no space left"
    cluster.client(b).put(b"found out by this", w=1)
    assert cluster.put(a, KEY, b"v", w=3).status == Status.OK
    assert owed(cluster, d) == 1 << 1


def test_a_substitute_lost_under_way_is_replaced_too_and_each_is_tried_once() -> None:
    cluster = Planes(6)
    a, _b, c, d, e, f = order(cluster)
    kill(cluster, c)
    client = cluster.client(a)
    cluster.hold(frames(MessageType.REPLICATE, target=d))
    asked = client.put(KEY, b"v", w=3)
    cluster.run()
    cluster.cut(a, d)
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert owed(cluster, e) == 1 << 2
    cluster.isolate(e)
    cluster.isolate(f)
    assert cluster.put(a, KEY, b"w", w=3).status == Status.NOT_ENOUGH_REPLICAS


def test_home_and_substitute_count_once() -> None:
    """The home's answer comes after all, beside its substitute's: still only two copies in two slots."""
    cluster = Planes(5)
    a, b, c, d, _e = order(cluster)
    client = cluster.client(a)
    late = cluster.hold(frames(MessageType.REPLICATE_REPLY, origin=b))
    cluster.hold(frames(MessageType.REPLICATE, target=c))
    asked = client.put(KEY, b"v", w=3)
    cluster.run()
    for _ in range(100):
        cluster.pass_time(5)  # both owe answers and are silent: substitutes are asked
    assert cluster.packed(d, KEY) is not None
    assert client.answers[asked].status == Status.OK
    assert len(late) == 1
    cluster.release()
    cluster.run()
    assert cluster.nodes[a].count("requests_in_flight") == 0


# Gets -------------------------------------------------------------------------------------------------------------------------------


def test_a_substitute_s_hint_is_read() -> None:
    cluster = Planes(5)
    a, b, c, d, e = order(cluster)
    kill(cluster, b, c)
    cluster.put(a, KEY, b"v", w=3)
    kill(cluster, a)
    for node in (d, e):
        assert cluster.get(node, KEY, r=2).values == [b"v"]


def test_substitutes_alone_prove_nothing() -> None:
    cluster = Planes(6)
    a, b, c, d, _e, _f = order(cluster)
    cluster.put(a, KEY, b"v", w=3)
    kill(cluster, a, b, c)
    answer = cluster.get(d, KEY, r=1)
    assert answer.status == Status.QUORUM_FAILED
    assert "whether it exists is unknown" in answer.text
    mend(cluster)
    assert cluster.get(d, b"no such key", r=3).status == Status.NOT_FOUND


def test_one_home_that_has_nothing_is_proof_enough_for_r_1() -> None:
    cluster = Planes(5)
    a, b, c, _d, _e = order(cluster)
    kill(cluster, a, b)
    assert cluster.get(c, KEY, r=1).status == Status.NOT_FOUND
    assert cluster.get(c, KEY, r=3).status == Status.NOT_FOUND


def test_strict_reads_ask_no_substitutes() -> None:
    cluster = Planes(5)
    a, b, c, _d, _e = order(cluster)
    kill(cluster, b, c)
    assert cluster.get(a, KEY, r=2, strict=True).status == Status.QUORUM_FAILED
    assert cluster.get(a, KEY, r=2).status == Status.NOT_FOUND


def test_read_repair_leaves_substitutes_alone() -> None:
    cluster = Planes(5)
    a, _b, c, d, _e = order(cluster)
    cluster.put(a, KEY, b"v", w=3)
    kill(cluster, c)
    assert cluster.get(a, KEY, r=3).values == [b"v"]
    cluster.run()
    assert cluster.record(d, KEY) is None, "what is not a hint is not put on a node that is no home"


def test_a_home_that_answers_after_its_substitute_was_asked_is_repaired() -> None:
    cluster = Planes(5)
    a, b, _c, d, _e = order(cluster)
    kill(cluster, b)
    cluster.put(a, KEY, b"v", w=3)
    mend(cluster)
    late = cluster.hold(frames(MessageType.READ, target=b))
    cluster.drop(frames(MessageType.READ_REPLY, origin=d))
    client = cluster.client(a)
    asked = client.get(KEY, r=3)
    cluster.run()
    for _ in range(100):
        cluster.pass_time(5)
    assert cluster.nodes[d].count("reads") == 1
    assert len(late) == 1
    assert not client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].values == [b"v"]
    assert cluster.packed(b, KEY) == cluster.packed(a, KEY)


# What a node may keep -------------------------------------------------------------------------------------------------------------


def test_what_is_no_hint_is_not_kept_by_a_node_that_is_no_home() -> None:
    cluster = Planes(5)
    a, b, _c, d, _e = order(cluster)
    sent = cluster.hold(frames(MessageType.REPLICATE, origin=a, target=b))
    cluster.put(a, KEY, b"v", w=1)
    message = decode_replicate(sent[0].frame.body)
    cluster.inject(d, a, MessageType.REPLICATE, sent[0].frame.body, request_id=9)
    cluster.run()
    assert message.hint_slot is None
    assert cluster.record(d, KEY) is None


def test_a_full_node_takes_no_more_hints_and_does_not_acknowledge_them() -> None:
    cluster = Planes(5, limits=LimitsSection(hint_bytes_max=1000))
    a, _b, c, d, e = order(cluster)
    kill(cluster, c, e)
    assert cluster.put(a, KEY, b"v", w=3).status == Status.OK
    answer = cluster.put(a, KEY, bytes(2000), w=3)
    assert answer.status == Status.QUORUM_FAILED
    assert "overloaded" in answer.text
    assert cluster.nodes[d].count("hints_refused") == 1
    assert cluster.copy(d, KEY).values == (b"v",), "the one that was taken is still here"


def test_hints_are_merged_like_anything_else_and_gone_once_confirmed() -> None:
    cluster = Planes(5)
    a, b, c, d, e = order(cluster)
    kill(cluster, b, c)
    first = cluster.put(a, KEY, b"one", w=3)
    keeper = next(node for node in (d, e) if owed(cluster, node) == 1 << 2)
    plane, store_key = cluster.nodes[keeper].plane, cluster.store_key(KEY)
    old = decode_record(cluster.record(keeper, KEY) or b"")
    cluster.put(a, KEY, b"two", context=first.context, w=3)
    new = decode_record(cluster.record(keeper, KEY) or b"")
    assert plane.settle_hints([(store_key, old.hash, 1 << 2)]) == 0, "the version that the home has confirmed is not this one"
    assert plane.settle_hints([(store_key, new.hash, 1 << 0)]) == 0, "nobody was waiting for that home"
    assert cluster.copy(keeper, KEY).values == (b"two",)
    assert plane.settle_hints([(store_key, new.hash, 1 << 2)]) == 1
    assert cluster.record(keeper, KEY) is None
    assert cluster.nodes[keeper].count("hint_bytes") == 0
    assert plane.settle_hints([(store_key, new.hash, 1 << 2)]) == 0, "confirmed twice does no harm"


# Homes that may have lost data --------------------------------------------------------------------------------------------------------


def test_a_strict_read_does_not_count_a_home_that_may_have_lost_data() -> None:
    cluster = Planes(3)
    cluster.put(0, KEY, b"v", w=3)
    partition = cluster.ring.partition(KEY)
    cluster.nodes[1].engine.suspect(partition)
    assert cluster.get(0, KEY, r=2, strict=True).values == [b"v"], "two others are sure"
    assert cluster.get(0, KEY, r=3).values == [b"v"], "without `strict` it counts"
    answer = cluster.get(0, KEY, r=3, strict=True)
    assert answer.status == Status.QUORUM_FAILED
    assert "node 1 may have lost data" in answer.text
    assert cluster.get(1, KEY, r=3, strict=True).status == Status.QUORUM_FAILED, "not as a coordinator either"
    assert cluster.get(1, KEY, r=2, strict=True).values == [b"v"]
    cluster.nodes[1].engine.forgive(partition)
    assert cluster.get(0, KEY, r=3, strict=True).values == [b"v"]


def test_what_an_unsure_home_shows_is_true_all_the_same() -> None:
    cluster = Planes(3)
    cluster.put(1, KEY, b"only here", w=1)
    lone = cluster.nodes[1].engine
    for number in (0, 2):
        cluster.nodes[number].engine.delete(cluster.store_key(KEY))
    lone.suspect(cluster.ring.partition(KEY))
    cluster.hold(frames(MessageType.READ_REPLY, origin=2))
    client = cluster.client(0)
    asked = client.get(KEY, r=2, strict=True)
    cluster.run()
    assert not client.answers, "the unsure home has answered, and one more that is sure is needed"
    cluster.release()
    cluster.run()
    assert client.answers[asked].values == [b"only here"]
    assert cluster.packed(0, KEY) == cluster.packed(1, KEY), "and is repaired from"
