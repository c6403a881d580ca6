"""W nodes that can be reached are enough between two placements too, whichever they are: who is a home in one counts in the other as well
when nobody else is left (node/sloppy_quorum.pyx, core/quorum.pyx)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.wire.status import MessageType, Status
from tests.node.between import Between
from tests.node.planes import frames

TO_BOTH = [Step.DOUBLE, Step.SYNCED, Step.SWITCHED]
KEY = b"k"

# Each key has the homes 0, 1 and 2 before and 0, 1 and 3 after.
GOES, COMES = 2, 3
ONE_REPLACED = [0, 1, GOES], [0, 1, COMES]
CHANGES = [
    ONE_REPLACED, ([0, 1, 2], [0, 3, 4]), ([0, 1, 2], [3, 4, 5]), ([0, 1, 2, 3], [0, 1, 2, 3, 4]), ([0, 1, 2], [0, 1]), ([0, 1], [0, 1, 2]),
]  # fmt: skip


def left(change: tuple[list[int], list[int]], step: Step, there: tuple[int, ...], **options: object) -> Between:
    """All others have gone away."""
    cluster = Between(*change, step, **options)
    for number in range(len(cluster.nodes)):
        if number not in there:
            cluster.isolate(number)
    return cluster


def who_may_be_left() -> Iterator[tuple[tuple[list[int], list[int]], tuple[int, ...]]]:
    for change in CHANGES:
        nodes = sorted({*change[0], *change[1]})
        for count in range(1, 4):
            yield from ((change, there) for there in combinations(nodes, count))


@pytest.mark.parametrize(("change", "there"), list(who_may_be_left()))
@pytest.mark.parametrize("step", TO_BOTH)
def test_as_many_as_are_left_take_a_write_and_show_it_and_not_one_more(
    change: tuple[list[int], list[int]], there: tuple[int, ...], step: Step
) -> None:
    """R and W as many as are left; no W beyond that counts a copy twice."""
    homes = min(3, *map(len, change))
    cluster = left(change, step, there)
    w = min(len(there), homes)
    for coordinator in there:
        key = b"through %d" % coordinator
        answer = cluster.put(coordinator, key, b"v", w=w)
        assert answer.status == Status.OK, answer.text
        assert sum(cluster.record(number, key) is not None for number in there) == len(there)
        for reader in there:
            assert cluster.get(reader, key, r=w).values == [b"v"]
        if len(there) < homes:
            answer = cluster.put(coordinator, key + b" once more", b"v", w=len(there) + 1)
            assert answer.status == Status.NOT_ENOUGH_REPLICAS
            assert all(cluster.record(number, key + b" once more") is None for number in there)


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("stays", [GOES, COMES])
def test_a_strict_put_counts_each_home_where_it_is_one(step: Step, stays: int) -> None:
    cluster = left(ONE_REPLACED, step, (1, stays))
    assert cluster.put(1, KEY, b"v", w=2, strict=True).status == Status.NOT_ENOUGH_REPLICAS
    assert cluster.put(stays, KEY, b"v", w=2, strict=True).status == Status.NOT_ENOUGH_REPLICAS


@pytest.mark.parametrize("step", TO_BOTH)
@pytest.mark.parametrize("stays", [GOES, COMES])
def test_what_is_counted_in_both_stays_its_homes_own(step: Step, stays: int) -> None:
    cluster = left(ONE_REPLACED, step, (1, stays))
    assert cluster.put(1, KEY, b"v", w=2).status == Status.OK
    assert (cluster.owed(1, KEY), cluster.owed(stays, KEY)) == (0, 0)


@pytest.mark.parametrize("stays", [GOES, COMES])
def test_who_is_asked_already_counts_when_others_go_meanwhile(stays: int) -> None:
    cluster = Between(*ONE_REPLACED, Step.DOUBLE)
    cluster.hold(frames(MessageType.REPLICATE))
    client = cluster.client(1)
    asked = client.put(KEY, b"v", w=2)
    cluster.run()
    cluster.isolate(0)
    assert asked not in client.answers
    cluster.isolate(GOES + COMES - stays)
    assert asked not in client.answers, "it has not answered yet"
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK


def test_without_the_one_who_counts_in_both_the_next_one_does() -> None:
    """And when all have gone there is nobody left to count twice."""
    cluster = Between([0, 1, 2], [0, 3, 4], Step.DOUBLE)
    cluster.hold(frames(MessageType.REPLICATE))
    clients = [cluster.client(0) for _ in range(2)]
    asked = [client.put(KEY, b"v", w=w) for w, client in zip((2, 3), clients, strict=True)]
    cluster.run()
    for number in (1, 2, 3):
        assert all(one not in client.answers for one, client in zip(asked, clients, strict=True))
        cluster.isolate(number)
    assert clients[1].answers[asked[1]].status == Status.QUORUM_FAILED, "two are left"
    assert asked[0] not in clients[0].answers
    cluster.release()
    cluster.run()
    assert clients[0].answers[asked[0]].status == Status.OK


def test_a_home_that_was_taken_for_dead_counts_as_well_when_it_answers_after_all() -> None:
    cluster = Between(*ONE_REPLACED, Step.DOUBLE, requests=RequestsSection(dw=0, suspect_ms=100))
    cluster.isolate(0)
    cluster.hold(frames(MessageType.REPLICATE, target=GOES))
    slow = cluster.hold(frames(MessageType.REPLICATE, target=COMES))
    client = cluster.client(1)
    asked = client.put(KEY, b"v", w=2)
    cluster.run()
    assert len(slow) == 1
    for _ in range(30):
        cluster.pass_time(5)
    assert cluster.nodes[1].count("suspicions") == 2
    assert asked not in client.answers
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert cluster.owed(GOES, KEY) == cluster.owed(COMES, KEY) == 0


def test_a_suspect_is_asked_all_the_same_where_another_one_counts_for_it() -> None:
    cluster = Between(*ONE_REPLACED, Step.DOUBLE, requests=RequestsSection(dw=0, suspect_ms=100))
    cluster.isolate(0)
    cluster.hold(frames(MessageType.REPLICATE, target=GOES))
    assert cluster.put(1, b"finds out by this", b"v", w=1).status == Status.OK
    for _ in range(30):
        cluster.pass_time(5)
    assert cluster.nodes[1].plane.suspects(cluster.node_ids[GOES])
    assert cluster.put(1, KEY, b"v", w=2).status == Status.OK
    cluster.release()
    cluster.run()
    assert cluster.owed(GOES, KEY) == 0


def test_one_on_a_machine_of_its_own_is_preferred() -> None:
    cluster = left(([0, 1, 2], [0, 3, 4]), Step.DOUBLE, (1, 3, 4), hosts=["a", "b", "c", "b", "d"])
    assert cluster.put(1, KEY, b"v", w=2).status == Status.OK
    cluster = left(([0, 1, 2], [0, 3, 4]), Step.DOUBLE, (1, 3), hosts=["a", "b", "c", "b", "d"])
    assert cluster.put(1, KEY, b"v", w=2).status == Status.NOT_ENOUGH_REPLICAS, "two copies on one machine"
