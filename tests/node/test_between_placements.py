"""Puts and gets while the members change: whom they ask, what counts, and who keeps what for whom (core/change.py, core/in_force.py)."""

from __future__ import annotations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.data_messages import decode_replicate, encode_read, encode_replicate
from dynamo_fast.wire.status import MessageType, Status
from tests.node.between import Between
from tests.node.planes import Sent, frames

TO_BOTH = [Step.DOUBLE, Step.SYNCED, Step.SWITCHED]
ALL = 0b111  # three homes

# Two gives way to three: each key has the homes 0, 1 and 2 before and 0, 1 and 3 after.
GOES, COMES = 2, 3


def one_replaced(step: Step, **options: object) -> Between:
    return Between([0, 1, GOES], [0, 1, COMES], step, **options)


def one_replaced_of_more(step: Step, **options: object) -> tuple[Between, bytes, tuple[int, int], int, int, tuple[int, ...]]:
    """A key that one home gives to another, the homes that stay, the one that it leaves, the one that it comes to, and the other nodes."""
    cluster = Between([0, 1, 2, 3, 4], [0, 1, 2, 4, 5, 6], step, **options)
    key = cluster.key_where(lambda old, new: len({*old} - {*new}) == 1 and COMES in {*old} - {*new})
    old, new = cluster.homes_before(key), cluster.homes_after(key)
    first, second = (home for home in old if home in new)
    (comes,) = {*new} - {*old}
    others = tuple(node for node in cluster.new_ring.fallbacks(key) if node not in old)
    return cluster, key, (first, second), COMES, comes, others


# Puts -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("deaf", [GOES, COMES])
def test_a_put_of_all_wants_all_homes_in_both_placements(step: Step, deaf: int) -> None:
    cluster = one_replaced(step)
    held = cluster.hold(frames(MessageType.REPLICATE, target=deaf))
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=3)
    cluster.run()
    assert asked not in client.answers
    assert len(held) == 1
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert all(cluster.owed(number, b"k") == 0 for number in range(4)), "each is a home"


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("coordinator", [0, 1])
def test_homes_in_both_count_in_both(step: Step, coordinator: int) -> None:
    cluster = one_replaced(step)
    cluster.drop(frames(MessageType.REPLICATE, target=GOES))
    cluster.drop(frames(MessageType.REPLICATE, target=COMES))
    assert cluster.put(coordinator, b"k", b"v", w=2).status == Status.OK


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("coordinator", [GOES, COMES])
def test_a_home_in_one_placement_coordinates_and_counts_there_alone(step: Step, coordinator: int) -> None:
    cluster = one_replaced(step)
    cluster.hold(frames(MessageType.REPLICATE, target=1))
    client = cluster.client(coordinator)
    if coordinator == GOES:
        cluster.hold(frames(MessageType.REPLICATE, target=COMES))
    else:
        cluster.hold(frames(MessageType.REPLICATE, target=GOES))
    asked = client.put(b"k", b"v", w=2)
    cluster.run()
    assert asked not in client.answers, "two in its own placement, one in the other"
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.nodes[coordinator].count("forwards") == 0
    assert cluster.owed(coordinator, b"k") == 0


@pytest.mark.parametrize("step", [Step.NONE, Step.KNOWN])
def test_before_both_are_written_to_only_the_homes_before_are(step: Step) -> None:
    cluster = one_replaced(step)
    assert cluster.put(0, b"k", b"v", w=3).status == Status.OK
    assert [cluster.owed(number, b"k") for number in range(4)] == [0, 0, 0, None]


@pytest.mark.parametrize("step", [Step.SINGLE, Step.SETTLED])
def test_after_both_were_written_to_only_the_homes_after_are(step: Step) -> None:
    cluster = one_replaced(step)
    assert cluster.put(0, b"k", b"v", w=3).status == Status.OK
    assert [cluster.owed(number, b"k") for number in range(4)] == [0, 0, None, 0]


def test_with_fewer_homes_after_all_of_them_and_w_of_those_before_are_wanted() -> None:
    cluster = Between([0, 1, 2], [0, 1], Step.DOUBLE)
    cluster.hold(frames(MessageType.REPLICATE, target=1))
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=3)
    cluster.run()
    assert asked not in client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.put(0, b"l", b"v", w=4).status == Status.BAD_REQUEST


def test_workers_of_one_host_count_once_in_each_placement() -> None:
    cluster = one_replaced(Step.DOUBLE, hosts=["x", "y", "y", "z"])
    cluster.hold(frames(MessageType.REPLICATE, target=0))
    cluster.hold(frames(MessageType.REPLICATE, target=COMES))
    client = cluster.client(1)
    asked = client.put(b"k", b"v", w=2)
    cluster.run()
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    cluster.hold(frames(MessageType.REPLICATE, target=0))
    asked = client.put(b"k", b"w", w=2)
    cluster.run()
    assert asked not in client.answers, "two copies before, but on one machine"


# Who stands in ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", TO_BOTH)
def test_in_place_of_a_home_that_goes_somebody_keeps_a_hint_for_all_homes(step: Step) -> None:
    cluster, key, (one, _), goes, comes, (next_one, *_) = one_replaced_of_more(step)
    cluster.isolate(goes)
    held = cluster.hold(frames(MessageType.REPLICATE, target=next_one))
    client = cluster.client(one)
    asked = client.put(key, b"v", w=3)
    cluster.run()
    (sent,) = held
    message = decode_replicate(sent.frame.body)
    assert message.hint_for_all
    assert message.hint_slot is None
    assert message.placement == cluster.new.name
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.owed(next_one, key) == ALL
    assert cluster.owed(comes, key) == 0


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("comes_too", [False, True])
def test_a_hint_for_a_home_after_is_for_all_and_who_is_asked_anyway_stands_in_for_nobody(step: Step, comes_too: bool) -> None:
    cluster, key, (one, two), goes, comes, (next_one, *_) = one_replaced_of_more(step)
    away = comes if comes_too else two
    cluster.isolate(away)
    assert cluster.put(one, key, b"v", w=3).status == Status.OK
    record = cluster.record(next_one, key)
    assert record is not None
    assert decode_record(record).owed == ALL
    # The other child of the parent would have the same number, until reads have gone to this one.
    assert decode_record(record).placement_number == (cluster.new if step == Step.SWITCHED else cluster.old).number
    assert cluster.owed(goes, key) == 0, "it has a slot of its own"


def test_with_nobody_left_to_stand_in_nothing_is_written() -> None:
    cluster = one_replaced(Step.DOUBLE)
    cluster.isolate(1)
    cluster.isolate(GOES)
    answer = cluster.put(0, b"k", b"v", w=3)
    assert answer.status == Status.NOT_ENOUGH_REPLICAS
    assert "before and after the change of members" in answer.text
    assert cluster.record(0, b"k") is None


def test_a_strict_put_counts_homes_alone_in_each_placement() -> None:
    cluster, key, (one, _), goes, _comes, (next_one, *_) = one_replaced_of_more(Step.DOUBLE)
    cluster.isolate(goes)
    assert cluster.put(one, key, b"v", w=3, strict=True).status == Status.NOT_ENOUGH_REPLICAS
    assert cluster.put(one, key, b"v", w=2, strict=True).status == Status.OK
    assert cluster.owed(next_one, key) == ALL


def test_who_stands_in_for_all_and_coordinates_owes_its_copy_to_all_homes() -> None:
    cluster, key, (one, two), goes, comes, others = one_replaced_of_more(Step.SYNCED)
    for home in (one, two, goes):
        cluster.isolate(home)
    answer = cluster.put(others[0], key, b"v", w=2)
    assert answer.status == Status.OK
    assert cluster.owed(comes, key) == 0
    assert cluster.owed(others[0], key) == ALL


def test_a_hint_under_the_name_of_the_other_placement_is_for_all() -> None:
    """Its slot counts in that one."""
    for step in (Step.KNOWN, Step.DOUBLE):
        cluster, key, (one, _), _, _, (next_one, *_) = one_replaced_of_more(step)
        other = cluster.new if step == Step.KNOWN else cluster.old
        hint = encode_replicate(other.name, key, packed_object(key), hint_slot=1)
        cluster.inject(next_one, one, MessageType.REPLICATE, hint)
        cluster.run()
        assert cluster.owed(next_one, key) == ALL


def packed_object(key: bytes) -> bytes:
    elsewhere = Between([0, 1, 2], [0, 1, 2])
    elsewhere.put(0, key, b"v")
    packed = elsewhere.packed(0, key)
    assert packed is not None
    return packed


# Gets -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(Step))
def test_gets_go_to_the_homes_before_until_the_switch_and_then_to_those_after(step: Step) -> None:
    cluster = one_replaced(step)
    asked: list[Sent] = []
    cluster.drop(lambda sent: sent.type == MessageType.READ and asked.append(sent) is not None)
    assert cluster.get(0, b"k", r=1).status == Status.NOT_FOUND
    assert {sent.target for sent in asked} == ({1, GOES} if step < Step.SWITCHED else {1, COMES})


@pytest.mark.parametrize("step", [Step.KNOWN, Step.DOUBLE, Step.SYNCED, Step.SWITCHED, Step.SINGLE])
def test_any_node_forwards_to_one_that_can_do_it_be_it_a_step_behind_or_ahead(step: Step) -> None:
    cluster = one_replaced(step)
    for other in (step - 1, step, step + 1):
        cluster.do(Step(other))
        for number in (GOES, COMES):
            cluster.do(step, number)
        for number in (GOES, COMES):
            answer = cluster.put(number, b"k", b"v", w=2)
            assert answer.status == Status.OK, f"through {number}, the others do {Step(other).name}"
            assert cluster.get(number, b"k", r=2).status == Status.OK


def test_a_forwarded_get_is_refused_by_a_home_in_the_other_placement_alone() -> None:
    cluster, key, homes, goes, comes, (other, *_) = one_replaced_of_more(Step.SYNCED)
    assert cluster.put(comes, key, b"v").status == Status.OK
    assert cluster.nodes[comes].count("forwards") == 0
    cluster.do(Step.SWITCHED, goes)
    for home in homes:
        cluster.cut(other, home)
    assert cluster.get(other, key).status == Status.STALE_PLACEMENT, "forwarded by the homes before, to one that goes by those after"
    assert cluster.put(other, key, b"w", w=1).status == Status.OK, "a put it takes"


# What others may name ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(Step))
def test_names_are_accepted_while_somebody_may_still_work_by_them(step: Step) -> None:
    cluster = one_replaced(step)
    packed = packed_object(b"k")
    answered: list[int] = []
    cluster.drop(lambda sent: sent.target == 1 and answered.append(sent.frame.status) is not None)
    for placement in (cluster.old, cluster.new):
        cluster.inject(0, 1, MessageType.REPLICATE, encode_replicate(placement.name, b"k", packed))
        cluster.inject(0, 1, MessageType.READ, encode_read(placement.name, b"k"))
    cluster.run()
    old = Status.OK if step <= Step.DOUBLE else Status.STALE_PLACEMENT
    new = Status.OK if step >= Step.KNOWN else Status.STALE_PLACEMENT
    assert answered == [old, old, new, new]


@pytest.mark.parametrize("step", [Step.KNOWN, Step.DOUBLE, Step.SYNCED, Step.SWITCHED, Step.SINGLE])
def test_a_home_in_either_placement_keeps_what_it_is_sent_as_its_own_at_any_step(step: Step) -> None:
    """Others may be a step ahead, or behind, and write to it."""
    cluster = one_replaced(step)
    packed = packed_object(b"k")
    for number in (GOES, COMES):
        cluster.inject(number, 0, MessageType.REPLICATE, encode_replicate(cluster.new.name, b"k", packed))
        cluster.run()
        assert cluster.owed(number, b"k") == 0
        assert cluster.nodes[number].plane.merge_entries([(b"", b"l", packed)])[0][0] == Status.OK
        assert cluster.owed(number, b"l") == 0


def test_a_home_that_comes_keeps_a_hint_as_one_for_who_writes_to_those_before_alone() -> None:
    """And it stays when it has gone home: the node is to be a home itself."""
    cluster = one_replaced(Step.KNOWN)
    cluster.isolate(1)
    assert cluster.put(0, b"k", b"v", w=3).status == Status.OK
    slot = cluster.homes_before(b"k").index(1)
    assert cluster.owed(COMES, b"k") == 1 << slot
    record = cluster.record(COMES, b"k")
    assert record is not None
    confirmed = [(cluster.store_key(b"k"), decode_record(record).hash, 1 << slot)]
    assert cluster.nodes[COMES].plane.settle_hints(confirmed, cluster.old.number) == 0
    assert cluster.owed(COMES, b"k") == 0


# Requests under way -----------------------------------------------------------------------------------------------------------------


def test_requests_go_on_by_what_was_in_force_when_they_began_and_the_oldest_tells_of_them() -> None:
    cluster = one_replaced(Step.KNOWN)
    cluster.hold(frames(MessageType.REPLICATE))
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=3)
    began_us = cluster.now_ms * 1000
    cluster.pass_time(1)
    cluster.do(Step.DOUBLE)
    assert cluster.nodes[0].plane.oldest_request_us == began_us
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.record(COMES, b"k") is None
    assert cluster.nodes[0].plane.oldest_request_us == 0


def test_a_peer_lost_after_the_step_is_lost_to_requests_from_before_it_too() -> None:
    cluster = Between([0, 1, 2, 3], [0, 1, 2, 3, 4], Step.KNOWN)
    key = cluster.key_where(lambda old, new: old[:2] == (0, 1))
    third, next_one = cluster.homes_before(key)[2], cluster.old_ring.fallbacks(key)[0]
    cluster.hold(frames(MessageType.REPLICATE))
    client = cluster.client(0)
    asked = client.put(key, b"v", w=3)
    cluster.do(Step.DOUBLE)
    cluster.cut(0, next_one)
    cluster.cut(0, third)  # its substitute would be the one that is lost as well
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK, "the next but one stands in"
    assert cluster.record(next_one, key) is None
    assert cluster.nodes[0].plane.peers_up() == [node_id for number, node_id in enumerate(cluster.node_ids)
                                                 if number not in (0, third, next_one)]  # fmt: skip


def test_what_is_asked_of_a_node_that_is_no_node_of_the_new_view_is_settled_when_it_is_lost() -> None:
    cluster = one_replaced(Step.SINGLE, requests=RequestsSection(dw=0))
    cluster.do(Step.SWITCHED)
    cluster.hold(frames(MessageType.REPLICATE, target=GOES))
    client = cluster.client(0)
    asked = client.put(b"k", b"v", w=3, strict=True)
    cluster.run()
    cluster.do(Step.SETTLED)
    cluster.isolate(GOES)
    assert client.answers[asked].status == Status.QUORUM_FAILED
