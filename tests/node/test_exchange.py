"""What differs and which way it goes: the decisions of an exchange, against sets and against the merge itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.merkle import Forest
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import VectorClock
from dynamo_fast.node.exchange import (
    BadAnswer,
    Difference,
    Side,
    Trust,
    Ways,
    differences,
    leaf_ranges,
    pack_listing,
    portions,
    shared_partitions,
    unpack_listing,
    ways,
)
from dynamo_fast.node.keys import partition_range
from tests.core.test_siblings_hostile import pack
from tests.node.exchanging import version

EVERYTHING = [(bytes(24), b"\xff" * 24)]


def store_key(number: int) -> bytes:
    return number.to_bytes(24, "big")


def listed(held: dict[bytes, int], side: Side, page: int) -> None:
    """The next page of what somebody holds."""
    rest = sorted((key, hash) for key, hash in held.items() if key > side.after)
    side.add(rest[:page], len(rest) <= page)


held = st.dictionaries(st.integers(1, 60).map(store_key), st.integers(0, 3), max_size=40)


@given(held, held, st.integers(1, 50), st.integers(1, 50))
def test_listings_that_differ_tell_of_it_whatever_their_pages(
    ours: dict[bytes, int], theirs: dict[bytes, int], one: int, two: int
) -> None:
    here, there = Side(EVERYTHING), Side(EVERYTHING)
    found: list[Difference] = []
    while not (here.done and there.done):
        if not there.done and not there.entries:
            listed(theirs, there, two)
        if not here.done and not here.entries:
            listed(ours, here, one)
        found += differences(here, there)
    wanted = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    assert found == [Difference(key, ours.get(key), theirs.get(key)) for key in wanted]
    assert unpack_listing(pack_listing(sorted(ours.items()))) == sorted(ours.items())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(31), "length"),
        (bytes(64), "order"),
        (pack_listing([(store_key(2), 1), (store_key(1), 1)]), "order"),
    ],
)
def test_bytes_that_are_no_listing(data: bytes, said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        unpack_listing(data)


def test_pages_that_cannot_be() -> None:
    side = Side([(store_key(10), store_key(20))])
    side.add([(store_key(11), 1), (store_key(12), 1)], False)
    for entries, done, said in (
        ([], False, "lead on"),
        ([(store_key(12), 1)], False, "the one before"),
        ([(store_key(20), 1)], True, "other leaves"),
        ([(store_key(13), 1), (store_key(99), 1)], True, "other leaves"),
    ):
        with pytest.raises(BadAnswer, match=said):
            side.add(entries, done)
    side.add([(store_key(19), 1)], True)
    assert side.done


@given(st.sampled_from([1, 2, 64, 1024]), st.sampled_from([1, 2, 256]), st.data())
def test_the_ranges_of_leaves_hold_what_the_forest_puts_there(partitions: int, leaf_count: int, data: st.DataObject) -> None:
    forest = Forest(partitions, leaf_count)
    position = data.draw(st.binary(min_size=16, max_size=16))
    partition, leaf = forest.place(position)
    others = data.draw(st.sets(st.integers(0, leaf_count - 1), max_size=5))
    key = position + b"\x7f" * 8
    number, count = partition * leaf_count + leaf, partitions * leaf_count
    within = any(start <= key < end for start, end in leaf_ranges({number} | others, count))
    without = any(start <= key < end for start, end in leaf_ranges(others - {number}, count))
    assert (within, without) == (True, False)
    whole = range(partition * leaf_count, (partition + 1) * leaf_count)
    assert leaf_ranges(whole, count) == [partition_range(partition, partitions)]


@given(st.sets(st.integers(0, 511)), st.sampled_from([1, 4, 64]), st.integers(1, 100))
def test_portions_of_leaves_never_cut_through_a_tree(leaves: set[int], leaves_per_tree: int, count_max: int) -> None:
    cut = list(portions(sorted(leaves), leaves_per_tree, count_max))
    assert [leaf for portion in cut for leaf in portion] == sorted(leaves)
    trees = [{leaf // leaves_per_tree for leaf in portion} for portion in cut]
    assert all(not one & other for one, other in pairwise(trees))
    assert all(len(portion) <= count_max or len(of) == 1 for portion, of in zip(cut, trees, strict=True))
    assert all(len(one) + sum(leaf // leaves_per_tree == other[0] // leaves_per_tree for leaf in other) > count_max
               for one, other in pairwise(cut)), "as few as can be"  # fmt: skip


def test_only_partitions_of_which_both_are_homes_are_shared() -> None:
    ids = [bytes([number]) * 16 for number in range(1, 6)]
    placement = first_placement([Member(one, one.hex(), "") for one in ids], 64, 3)
    ring = placement.ring()
    one, two = ids[1], ids[3]
    expected = [
        partition for partition in range(64)
        if {1, 3} <= set(placement.table[partition][: ring.replicas])
    ]  # fmt: skip
    assert shared_partitions(placement, one, two) == shared_partitions(placement, two, one) == expected
    assert 0 < len(expected) < 64
    assert shared_partitions(placement, one, b"stranger" * 2) == []


def test_an_object_goes_only_to_who_lacks_something_of_it() -> None:
    old, new = Siblings(version(b"1")), Siblings(version(b"1", counter=2))
    other = Siblings(version(b"x", node=2))
    both = old.merge(other)
    clouded = old.merge(Siblings().put(b"y", node=b"n" * 16, dot=(b"m" * 16, 1, 5, 0)))
    same_without = Siblings(clouded.packed[:6] + bytes(2) + clouded.packed[8:-32])
    for ours, theirs, expected in (
        (None, b"", Ways(False, False)), (None, old, Ways(True, False)), (old, b"", Ways(False, True)),
        (old, old, Ways(False, False)), (old, new, Ways(True, False)), (new, old, Ways(False, True)),
        (clouded, same_without, Ways(False, True)), (same_without, clouded, Ways(True, False)), (clouded, clouded, Ways(False, False)),
        (old, other, Ways(True, True)), (both, other, Ways(False, True)), (other, both, Ways(True, False)),
    ):  # fmt: skip
        outline = theirs.outline().packed if isinstance(theirs, Siblings) else b""
        assert ways(ours.packed if ours is not None else None, outline) == expected
    for damaged in (b"\0", old.packed[:-1], b"\xff" * 48):
        with pytest.raises(BadAnswer, match="no object"):
            ways(old.packed, damaged)


def test_what_no_object_can_hold_together_is_offered_both_ways() -> None:
    """Or an exchange that may not fetch would take a copy to be safe that the peer has not taken."""
    one, other = (Siblings(pack(VectorClock((node * 16, epoch, 1, 0) for epoch in range(40_000)), ())) for node in (b"a", b"b"))
    assert ways(one.packed, other.outline().packed) == Ways(True, True)


def test_a_partition_is_trusted_again_after_enough_other_homes() -> None:
    trust = Trust(others_needed=2)
    trust.suspect([3, 5])
    assert trust.lacks(b"a") == [3, 5]
    assert not trust.compared(4, b"a", others=2)
    assert not trust.compared(3, b"a", others=2)
    assert not trust.compared(3, b"a", others=2), "the same home twice is one home"
    assert (trust.lacks(b"a"), trust.lacks(b"b")) == ([5], [3, 5])
    trust.suspect([3, 5])
    assert trust.compared(3, b"b", others=2), "it goes on being suspect until then"
    trust.suspect([5])
    assert trust.compared(5, b"a", others=1), "there are no more"
    trust.suspect([])
    assert trust.lacks(b"a") == []
    assert 5 not in trust


def test_what_was_compared_before_a_new_suspicion_does_not_count() -> None:
    trust = Trust(others_needed=2)
    trust.suspect([3])
    trust.compared(3, b"a", others=2)
    trust.suspect([])
    trust.suspect([3])
    assert not trust.compared(3, b"b", others=2)
