"""Between two placements a put with DW has copies on disk in each, and asks nobody to wait for a disk that need not (node/put.pyx)."""

from __future__ import annotations

from itertools import permutations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.wire.data_messages import decode_replicate
from dynamo_fast.wire.status import MessageType, Status
from tests.node.between import Between
from tests.node.planes import Sent, frames
from tests.node.test_counted_in_both import CHANGES, COMES, GOES, ONE_REPLACED, TO_BOTH, left, who_may_be_left


@pytest.mark.parametrize("step", TO_BOTH)
def test_a_copy_on_disk_is_wanted_in_each_placement(step: Step) -> None:
    cluster = Between(*ONE_REPLACED, step)
    for node in cluster.nodes:
        node.engine.hold_syncs = True
    client = cluster.client(COMES)
    asked = client.put(b"k", b"v", w=1, dw=1)
    cluster.run()
    cluster.finish_syncs(COMES)
    assert asked not in client.answers, "on disk where it is a home after, not yet where it was one before"
    cluster.finish_syncs(GOES)
    assert client.answers[asked].status == Status.OK


@pytest.mark.parametrize(("coordinator", "w", "syncing"), [
    (0, 2, set()), (GOES, 2, {0, 1}), (COMES, 2, {0, 1}), (GOES, 1, {0, 1, COMES}), (COMES, 1, {0, 1, GOES}), (GOES, 3, {0, 1}),
])  # fmt: skip
@pytest.mark.parametrize("step", TO_BOTH)
def test_others_are_asked_for_their_disks_only_when_our_own_does_not_do(step: Step, coordinator: int, w: int, syncing: set[int]) -> None:
    """And with W of two those alone that count in both: nothing succeeds without one of them. With W of one the newcomer could do alone."""
    cluster = Between(*ONE_REPLACED, step)
    asked: dict[int, bool] = {}

    def look(sent: Sent) -> bool:
        if sent.type == MessageType.REPLICATE:
            asked[sent.target] = decode_replicate(sent.frame.body).ack_durable
        return False

    cluster.hold(look)
    cluster.client(coordinator).put(b"k", b"v", w=w, dw=1)
    assert asked == {node: node in syncing for node in {0, 1, GOES, COMES} - {coordinator}}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("w", [1, 2, 3])
@pytest.mark.parametrize("step", TO_BOTH)
def test_whatever_the_order_of_the_disks_a_copy_is_on_one_in_each_placement_before_the_answer(
    change: tuple[list[int], list[int]], w: int, step: Step
) -> None:
    w = min(w, *map(len, change))
    nodes = sorted({*change[0], *change[1]})
    orders = list(permutations(nodes))
    for number, order in enumerate(orders[:: max(1, len(orders) // 40)]):
        coordinator = nodes[number % len(nodes)]
        cluster = Between(*change, step)
        for node in cluster.nodes:
            node.engine.hold_syncs = True
        client = cluster.client(coordinator)
        asked = client.put(b"k", b"v", w=w, dw=1)
        cluster.run()
        durable: set[int] = set()
        for node in order:
            if asked in client.answers:
                assert client.answers[asked].status == Status.OK
                assert all(durable & {*members} for members in change), (order, durable)
            cluster.finish_syncs(node)
            durable.add(node)
        assert client.answers[asked].status == Status.OK, order


@pytest.mark.parametrize(("change", "there"), list(who_may_be_left()))
@pytest.mark.parametrize("step", TO_BOTH)
def test_as_many_as_are_left_are_enough_with_a_copy_on_disk_too(
    change: tuple[list[int], list[int]], there: tuple[int, ...], step: Step
) -> None:
    cluster = left(change, step, there, requests=RequestsSection(dw=1))
    w = min(len(there), 3, *map(len, change))
    for coordinator in there:
        answer = cluster.put(coordinator, b"through %d" % coordinator, b"v", w=w, dw=1)
        assert answer.status == Status.OK, (coordinator, answer.text)


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("coordinator", [GOES, COMES])
def test_when_those_who_were_to_sync_go_away_our_own_disk_does(step: Step, coordinator: int) -> None:
    """While the put is under way; nobody can take their place but those who are asked anyway, and we are one of those."""
    cluster = Between(*ONE_REPLACED, step)
    cluster.hold(frames(MessageType.REPLICATE, target=0))
    cluster.hold(frames(MessageType.REPLICATE, target=1))
    client = cluster.client(coordinator)
    asked = client.put(b"k", b"v", w=2, dw=1)
    cluster.run()
    assert asked not in client.answers
    cluster.isolate(0)
    cluster.isolate(1)
    cluster.run()
    assert client.answers[asked].status == Status.OK


@pytest.mark.parametrize("coordinator", [2, 3, 4])
def test_with_few_who_count_in_both_all_are_asked_since_others_may_be_made_to_count_for_them(coordinator: int) -> None:
    """Of five homes two stay: three of one placement alone are left, and it need not be us who count in their place."""
    cluster = Between([0, 1, 2, 3, 4], [0, 1, 5, 6, 7], Step.DOUBLE, replicas=5)
    for stays in (0, 1):
        cluster.hold(frames(MessageType.REPLICATE, target=stays))
    client = cluster.client(coordinator)
    asked = client.put(b"k", b"v", w=4, dw=1)
    cluster.run()
    for stays in (0, 1):
        cluster.isolate(stays)
    cluster.run()
    assert client.answers[asked].status == Status.OK
