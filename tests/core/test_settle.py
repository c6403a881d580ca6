"""Settling forgets the oldest events of a clock, and nothing that a present version needs."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from dynamo_fast.core.siblings import Siblings

NODES = [bytes([letter]) * 16 for letter in b"abcdefgh"]

puts = st.lists(
    st.tuples(st.sampled_from(NODES), st.integers(1, 3), st.integers(0, 20), st.booleans(), st.booleans()), min_size=1, max_size=25
)


def written(steps: list[tuple[bytes, int, int, bool, bool]]) -> Siblings:
    """An object after these puts: node, epoch, timestamp, whether with the context of all before, whether a delete."""
    made = Siblings()
    for node, epoch, timestamp_ms, seen, tombstone in steps:
        made = made.put(b"" if tombstone else b"v", node=node, epoch=epoch, timestamp_ms=timestamp_ms, tombstone=tombstone,
                        context=made.clock if seen else None)  # fmt: skip
    return made


def model(object: Siblings, entries_max: int, before_ms: int) -> set[tuple[bytes, int]]:
    """The actors that are left."""
    needed = {(sibling.dot.node, sibling.dot.epoch) for sibling in object.siblings}
    entries = sorted(object.clock, key=lambda entry: (entry.timestamp_ms, entry.node, entry.epoch))
    left = {(entry.node, entry.epoch) for entry in entries}
    for entry in entries:
        if len(left) > entries_max and entry.timestamp_ms < before_ms and (entry.node, entry.epoch) not in needed:
            left.remove((entry.node, entry.epoch))
    return left


@example([(NODES[0], 1, 1, False, False), (NODES[1], 1, 5, False, False)], 0, 25)
@given(puts, st.integers(0, 12), st.integers(0, 25))
def test_the_oldest_go_first_and_never_one_that_is_needed(steps, entries_max, before_ms) -> None:
    before = written(steps)
    after = before.settle(entries_max, before_ms)
    assert {(entry.node, entry.epoch) for entry in after.clock} == model(before, entries_max, before_ms)
    assert after.siblings == before.siblings
    assert Siblings(after.packed) == after, "canonical, as anybody would check it"
    assert after.settle(entries_max, before_ms) == after


@given(puts, st.integers(0, 12), st.integers(0, 25))
def test_merging_with_one_who_has_not_settled_yet_gives_that_one_s_object(steps, entries_max, before_ms) -> None:
    """Settling stops half way: the next exchange undoes it, and nothing is lost or doubled."""
    before = written(steps)
    after = before.settle(entries_max, before_ms)
    assert after.merge(before) == before.merge(after) == before


@given(puts, puts, st.integers(0, 5))
def test_later_puts_merge_as_if_nothing_had_been_settled(steps, later, entries_max) -> None:
    before = written(steps)
    after = before.settle(entries_max, 100)
    ours, theirs = before, after
    for node, epoch, timestamp_ms, seen, _ in later:
        if seen:
            made = ours.put(b"new", node=node, epoch=epoch + 10, timestamp_ms=timestamp_ms, context=ours.clock)
            assert theirs.merge(made).values == made.values
            ours, theirs = made, theirs.merge(made)


@given(puts, puts, st.integers(0, 5))
def test_what_was_superseded_before_it_came_stays_so(steps, more, entries_max) -> None:
    elsewhere = written([(node, epoch + 20, timestamp_ms, False, False) for node, epoch, timestamp_ms, _, _ in more])
    last = elsewhere.siblings[-1]
    before = written(steps).put(b"w", node=NODES[0], epoch=50, dot=(*last.dot, last.timestamp_ms))
    after = before.settle(entries_max, 100)
    assert after.cloud == before.cloud == (last.dot,)
    assert Siblings(after.packed) == after
    assert after.merge(elsewhere).siblings == before.merge(elsewhere).siblings
    assert last not in after.merge(elsewhere).siblings
