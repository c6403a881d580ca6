"""The counting of answers towards R, W and DW."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.quorum import QuorumCount


def test_distinct_hosts_are_counted_plainly() -> None:
    count = QuorumCount([1, 2, 3], wanted=2)
    count.ack(0)
    assert not count.reached
    count.ack(2)
    assert count.reached


def test_workers_of_one_host_count_once_while_another_host_can_answer() -> None:
    count = QuorumCount([7, 7, 8], wanted=2)
    count.ack(0)
    count.ack(1)
    assert not count.reached
    count.ack(2)
    assert count.reached


def test_all_homes_on_one_host_still_make_a_quorum() -> None:
    count = QuorumCount([5, 5, 5], wanted=2)
    count.ack(1)
    assert not count.reached
    count.ack(2)
    assert count.reached


def test_durable_copies_are_counted_apart() -> None:
    count = QuorumCount([1, 2, 3], wanted=2, wanted_durable=2)
    count.ack(0, durable=True)
    count.ack(1)
    assert not count.reached
    count.ack(1, durable=True)
    assert count.reached


def test_durable_copies_on_one_machine_count_once() -> None:
    """Or the loss of that machine's disks would leave no copy on disk anywhere."""
    count = QuorumCount([7, 7, 8], wanted=2, wanted_durable=2)
    count.ack(0, durable=True)
    count.ack(1, durable=True)
    count.ack(2)
    assert not count.reached
    count.ack(2, durable=True)
    assert count.reached


def test_possible_ends_with_the_failures_that_make_it_so() -> None:
    count = QuorumCount([1, 2, 3], wanted=2)
    count.fail(0)
    assert count.possible
    count.fail(1)
    assert not count.possible


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="1 to 16 homes"):
        QuorumCount([], wanted=1)
    with pytest.raises(IndexError, match="no home 3"):
        QuorumCount([1, 2, 3], wanted=1).ack(3)


def test_between_two_placements_the_answers_are_wanted_in_each() -> None:
    count = QuorumCount([1, 2, 3, 4], wanted=2, first=3, second=0b1110)
    count.ack(0)
    count.ack(1)
    assert not count.reached, "one of the second"
    count.ack(3)
    assert count.reached


def test_an_answer_of_a_home_in_both_placements_counts_in_both() -> None:
    count = QuorumCount([1, 2, 3, 4], wanted=2, first=3, second=0b1110)
    count.ack(1)
    count.ack(2)
    assert count.reached


def test_a_write_is_possible_only_while_it_is_in_both_placements() -> None:
    count = QuorumCount([1, 2, 3, 4], wanted=2, first=2, second=0b1100)
    count.fail(2)
    assert not count.possible


def test_a_placement_with_fewer_homes_than_are_wanted_wants_all_of_them() -> None:
    count = QuorumCount([1, 2, 3], wanted=2, first=1, second=0b111)
    count.ack(1)
    count.ack(2)
    assert not count.reached
    count.ack(0)
    assert count.reached


def test_a_request_between_placements_has_up_to_32_slots() -> None:
    count = QuorumCount(range(32), wanted=16, first=16, second=0xFFFF0000)
    for home in range(31):
        count.ack(home)
    assert count.possible
    assert not count.reached
    count.ack(31)
    assert count.reached
    with pytest.raises(ValueError, match="everyone who is asked"):
        QuorumCount(range(32), wanted=16, first=16, second=0x7FFF0000)


def reached_by_definition(hosts: list[int], wanted: int, durable: int, acked: set[int], on_disk: set[int]) -> bool:
    wanted, durable = min(wanted, len(hosts)), min(durable, len(hosts))
    machines = len(set(hosts))
    return (
        len(acked) >= wanted and len({hosts[i] for i in acked}) >= min(wanted, machines)
        and len(on_disk) >= durable and len({hosts[i] for i in on_disk}) >= min(durable, machines)
    )  # fmt: skip


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 6), st.data())
def test_counting_agrees_with_the_definition(hosts: list[int], wanted: int, durable: int, data: st.DataObject) -> None:
    count = QuorumCount(hosts, wanted, durable)
    acked: set[int] = set()
    on_disk: set[int] = set()
    failed: set[int] = set()
    for _ in range(data.draw(st.integers(0, 8))):
        home = data.draw(st.integers(0, len(hosts) - 1))
        kind = data.draw(st.sampled_from(["ack", "durable", "fail"]))
        if kind == "fail":
            count.fail(home)
            failed |= {home} - acked
        else:
            count.ack(home, durable=kind == "durable")
            acked.add(home)
            failed.discard(home)
            if kind == "durable":
                on_disk.add(home)
        assert count.reached == reached_by_definition(hosts, wanted, durable, acked, on_disk)
        hopeful = set(range(len(hosts))) - failed
        assert count.possible == reached_by_definition(hosts, wanted, durable, hopeful, hopeful)


@st.composite
def between_placements(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Hosts of all homes, how many are in the first placement, and the mask of those in the second."""
    first, others = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    shared = draw(st.integers(0 if others else 1, (1 << first) - 1))
    hosts = draw(st.lists(st.integers(0, 4), min_size=first + others, max_size=first + others))
    return hosts, first, shared | ((1 << others) - 1) << first


@given(between_placements(), st.integers(1, 5), st.integers(0, 5), st.data())
def test_counting_in_two_placements_is_counting_in_each(
    placements: tuple[list[int], int, int], wanted: int, durable: int, data: st.DataObject
) -> None:
    hosts, first, second = placements
    count = QuorumCount(hosts, wanted, durable, first=first, second=second)
    each = [list(range(first)), [home for home in range(len(hosts)) if second >> home & 1]]

    def reached(acked: set[int], on_disk: set[int]) -> bool:
        return all(
            reached_by_definition(
                [hosts[home] for home in homes], wanted, durable,
                {homes.index(home) for home in acked & set(homes)}, {homes.index(home) for home in on_disk & set(homes)},
            )
            for homes in each
        )  # fmt: skip

    acked: set[int] = set()
    on_disk: set[int] = set()
    failed: set[int] = set()
    for home in data.draw(st.lists(st.integers(0, len(hosts) - 1), max_size=12)):
        kind = data.draw(st.sampled_from(["ack", "durable", "fail"]))
        if kind == "fail":
            count.fail(home)
            failed |= {home} - acked
            continue
        count.ack(home, durable=kind == "durable")
        acked.add(home)
        failed.discard(home)
        if kind == "durable":
            on_disk.add(home)
        assert count.reached == reached(acked, on_disk)
    hopeful = set(range(len(hosts))) - failed
    assert count.possible == reached(hopeful, hopeful)


def test_one_who_is_asked_in_one_placement_alone_does_for_a_home_of_the_other_that_has_failed() -> None:
    """Homes 0, 1 and 3 in one, 0, 1 and 2 in the other; 0 and 2 are away."""
    count = QuorumCount([1, 2, 4, 3], wanted=2, first=3, second=0b1011)
    for away in (0, 2):
        count.fail(away)
    assert not count.possible
    for away in (0, 2):
        count.cover(away)
    assert count.possible
    count.ack(1)
    assert not count.reached
    count.ack(3)
    assert count.reached


def test_one_does_for_one_and_counts_once_in_each_placement() -> None:
    count = QuorumCount([1, 2, 3, 4], wanted=3, first=3, second=0b1011)
    for away in (0, 2):
        count.fail(away)
        count.cover(away)
        count.cover(away)
    assert not count.possible, "two are left"
    alone = QuorumCount([1, 2, 3, 4, 5, 6], wanted=2, first=3, second=0b111000)
    for away in (0, 1, 2):
        alone.fail(away)
    alone.cover(0)
    alone.cover(0)
    alone.ack(3)
    alone.ack(4)
    assert not alone.reached, "both hold it in their own placement, and one of them does for the other"
    alone.cover(1)
    assert alone.reached


def test_who_does_for_another_and_fails_is_done_for_by_the_next_one() -> None:
    count = QuorumCount([1, 2, 3, 4, 5], wanted=2, first=3, second=0b11001)
    for away in (3, 4, 1):
        count.fail(away)
        count.cover(away)
    assert count.possible, "0, and 2 in place of 3 and 4"
    count.ack(0)
    count.ack(2)
    assert count.reached


def test_who_does_for_another_is_on_a_machine_of_its_own_if_there_is_such_a_one_and_no_more_machines_are_wanted() -> None:
    count = QuorumCount([1, 2, 7, 7, 8], wanted=2, first=3, second=0b11001)
    for away in (0, 4):
        count.fail(away)
        count.cover(away)
    count.ack(3)
    count.ack(2)
    assert not count.reached, "one machine"
    count.ack(1)
    assert count.reached
    count = QuorumCount([1, 1, 2, 3, 1], wanted=2, first=4, second=0b10011)
    count.fail(4)
    count.cover(4)
    count.ack(3)
    count.ack(0)
    assert not count.reached
    count.ack(1)
    assert count.reached, "all homes of the second are on one machine, so two there are enough, though the third would be on another"


def test_in_one_placement_nobody_does_for_another() -> None:
    count = QuorumCount([1, 2, 3], wanted=2)
    for away in (0, 1):
        count.fail(away)
        count.cover(away)
    assert not count.possible


@given(between_placements(), st.integers(1, 4), st.data())
def test_whoever_covers_no_answer_counts_twice_and_as_many_as_are_wanted_are_enough(
    placements: tuple[list[int], int, int], wanted: int, data: st.DataObject
) -> None:
    """On machines of their own."""
    hosts, first, second = placements
    count = QuorumCount(range(len(hosts)), wanted, first=first, second=second)
    there = set(range(len(hosts)))
    wanted_of_all = min(wanted, max(first, second.bit_count()))
    for home in data.draw(st.permutations(range(len(hosts)))):
        assert count.possible == (len(there) >= wanted_of_all)
        count.fail(home)
        count.cover(home)
        there.discard(home)
    assert not count.possible


def test_reached_stays_reached_whatever_comes_after() -> None:
    for order in itertools.permutations(range(3)):
        count = QuorumCount([1, 2, 3], wanted=2)
        count.ack(order[0])
        count.ack(order[1])
        count.fail(order[0])
        count.fail(order[2])
        assert count.reached
