"""The first N healthy nodes (paper 4.6): who stands in for whom, what counts, and what a substitute keeps."""

from __future__ import annotations

from itertools import combinations

import pytest

from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.data_messages import decode_replicate
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.planes import Planes, frames

KEY = b"k"


def order(cluster: Planes, key: bytes = KEY) -> tuple[int, ...]:
    """All nodes in the key's preference order: homes, then fallbacks."""
    return cluster.homes(key) + cluster.ring.fallbacks(key)


def owed(cluster: Planes, node: int, key: bytes = KEY) -> int:
    record = cluster.record(node, key)
    assert record is not None
    return decode_record(record).owed


def kill(cluster: Planes, *numbers: int) -> None:
    for number in numbers:
        cluster.isolate(number)


def mend(cluster: Planes) -> None:
    linked = {frozenset((one, two)) for one, two, _ in cluster.ends.values()}
    for one, two in combinations(range(len(cluster.nodes)), 2):
        if frozenset((one, two)) not in linked:
            cluster.link(one, two)


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


# The fallback coordinator -----------------------------------------------------------------------------------------------------------


def test_a_node_that_can_reach_no_home_coordinates_itself() -> None:
    cluster = Planes(6)
    a, b, c, d, e, f = order(cluster)
    kill(cluster, a, b, c)
    answer = cluster.put(f, KEY, b"v", w=3)
    assert answer.status == Status.OK
    assert owed(cluster, f) == 1 << 0
    assert {owed(cluster, d), owed(cluster, e)} == {1 << 1, 1 << 2}
    assert cluster.get(e, KEY, r=2).values == [b"v"]
    replaced = cluster.put(d, KEY, b"w", context=answer.context, w=1)
    assert replaced.status == Status.OK
    assert cluster.get(d, KEY, r=3).values == [b"w"]


def test_what_nobody_stands_in_for_the_coordinator_keeps_for() -> None:
    cluster = Planes(4)
    homes, (outsider,) = cluster.homes(KEY), cluster.ring.fallbacks(KEY)
    kill(cluster, *homes)
    assert cluster.put(outsider, KEY, b"v", w=1).status == Status.OK
    assert owed(cluster, outsider) == 0b111
    assert cluster.put(outsider, KEY, b"v", w=2).status == Status.NOT_ENOUGH_REPLICAS


def test_as_long_as_a_home_can_be_asked_it_is_asked() -> None:
    cluster = Planes(5)
    a, b, c, _d, e = order(cluster)
    kill(cluster, a, b)
    assert cluster.put(e, KEY, b"v", w=1).status == Status.OK
    assert cluster.packed(c, KEY) is not None
    assert cluster.nodes[e].count("forwards") == 1
    assert cluster.nodes[c].count("puts") == 1


def test_a_fallback_full_of_hints_refuses_before_anything_is_written() -> None:
    cluster = Planes(5, limits=LimitsSection(hint_bytes_max=1000))
    a, b, c, d, _e = order(cluster)
    kill(cluster, a, b, c)
    assert cluster.put(d, KEY, b"v", w=1).status == Status.OK
    answer = cluster.put(d, KEY, bytes(2000), w=1)
    assert answer.status == Status.OVERLOAD
    assert "nothing was written" in answer.text
    assert cluster.copy(d, KEY).values == (b"v",)


def test_strict_requests_find_no_fallback_coordinator() -> None:
    cluster = Planes(5)
    kill(cluster, *cluster.homes(KEY))
    outsider = cluster.ring.fallbacks(KEY)[0]
    assert cluster.put(outsider, KEY, b"v", w=1, strict=True).status == Status.NOT_ENOUGH_REPLICAS
    assert cluster.get(outsider, KEY, r=1, strict=True).status == Status.NOT_ENOUGH_REPLICAS


def test_dots_of_a_fallback_are_its_own() -> None:
    """What a substitute writes without having seen the homes' versions stands beside them, and neither is lost."""
    cluster = Planes(6)
    a, b, c, d, e, f = order(cluster)
    first = cluster.put(a, KEY, b"before", w=3)
    kill(cluster, a, b, c)
    cluster.put(d, KEY, b"blind", w=1)
    cluster.put(e, KEY, b"after", context=first.context, w=1)
    mend(cluster)
    merged = cluster.get(a, KEY, r=3).values
    assert merged == [b"before"], "nothing has gone home yet"
    for node in (d, e, f):
        packed = cluster.packed(node, KEY)
        if packed is not None:
            assert cluster.nodes[a].plane.merge_entries([(b"", KEY, packed)])[0][0] == Status.OK
    assert cluster.get(a, KEY, r=3).values == [b"after", b"blind"]


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


# Suspicion --------------------------------------------------------------------------------------------------------------------------


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
    assert not any({one, two} == {0, 1} for one, two, _ in cluster.ends.values())


def test_a_stall_of_our_own_convicts_nobody() -> None:
    cluster = Planes(3, requests=RequestsSection(dw=0, suspect_ms=100))
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE_REPLY, target=0))
    client.put(KEY, b"v", w=3, deadline_ms=60_000)
    cluster.run()
    cluster.pass_time(5000)  # one pass that comes five seconds late
    assert cluster.nodes[0].count("suspicions") == 0


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
