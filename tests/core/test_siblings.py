"""Packed objects against the model of histories: on every state that puts and merges reach, and on every order of merges."""

import pickle
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_fast.core.siblings import Dot, PutRefused, Siblings
from dynamo_fast.core.vector_clock import Order, VectorClock
from tests.models.siblings import History, Put, event
from tests.models.vector_clock import ModelClock

A, B, C = (bytes([letter]) * 16 for letter in b"abc")
NODES = (B, C, A)  # not in the order of their bytes


class State(NamedTuple):
    """One reachable object: as packed, and as the set of puts that it has seen."""

    packed: Siblings
    history: History


class Step(NamedTuple):
    """One step of a run; numbers choose among what there is."""

    replica: int
    merge: bool
    other: int  # the state to merge, or to take the context from
    with_context: bool
    dot: int | None  # the put to write on from, beyond the context
    wall_ms: int
    kind: str


steps = st.builds(
    Step,
    replica=st.integers(0, 2),
    merge=st.booleans(),
    other=st.integers(0, 30),
    with_context=st.booleans(),
    dot=st.none() | st.integers(0, 30),
    wall_ms=st.integers(0, 6),
    kind=st.sampled_from(["plain", "plain", "tombstone", "overwrite", "last write wins"]),
)


def put(state: State, node: bytes, context: State | None, dot: Put | None, step: Step, number: int) -> State:
    request_id = (number + 1).to_bytes(16, "little")
    tombstone, overwrite = step.kind == "tombstone", step.kind == "overwrite"
    last_write_wins = step.kind == "last write wins"
    value = b"" if tombstone else b"value %d" % number
    packed = state.packed.put(
        value, node=node, epoch=7, timestamp_ms=step.wall_ms, context=context.packed.clock if context else None,
        dot=event(dot.version) if dot else None, request_id=request_id, tombstone=tombstone, overwrite=overwrite,
        last_write_wins=last_write_wins,
    )
    history = state.history.put(
        value, node=node, epoch=7, wall_ms=step.wall_ms, context=context.history if context else None,
        dot=dot, request_id=request_id, tombstone=tombstone, overwrite=overwrite, last_write_wins=last_write_wins,
    )
    return State(packed, history)


def run(script: list[Step]) -> list[State]:
    """Three replicas that put and merge; every state that any of them was in, each checked against the model."""
    empty = State(Siblings(), History())
    replicas, states = [empty] * 3, [empty]
    for number, step in enumerate(script):
        mine, other = replicas[step.replica], states[step.other % len(states)]
        if step.merge:
            mine = State(mine.packed.merge(other.packed), mine.history.merge(other.history))
        else:
            made = sorted({one for state in states for one in state.history.puts}, key=lambda one: one.version.request_id)
            dot = made[step.dot % len(made)] if made and step.dot is not None else None
            mine = put(mine, NODES[step.replica], other if step.with_context else None, dot, step, number)
        agree(mine)
        replicas[step.replica] = mine
        states.append(mine)
    return states


def agree(state: State) -> None:
    assert state.packed.siblings == state.history.siblings()
    assert state.packed.clock == state.history.clock().packed()
    assert state.packed.cloud == state.history.cloud()
    assert Siblings(state.packed.packed) == state.packed  # canonical and valid


@settings(max_examples=300)
@given(st.lists(steps, max_size=20))
def test_every_reachable_state_agrees_with_the_model(script: list[Step]) -> None:
    run(script)


@settings(max_examples=300)
@given(st.lists(steps, min_size=3, max_size=20), st.lists(st.integers(0, 30), min_size=3, max_size=3))
def test_merge_is_associative_commutative_and_idempotent_on_reachable_states(script: list[Step], chosen: list[int]) -> None:
    states = run(script)
    (a, ha), (b, hb), (c, hc) = (states[number % len(states)] for number in chosen)
    assert a.merge(a) == a
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == Siblings.reconcile([c, a, b])
    agree(State(a.merge(b).merge(c), ha.merge(hb).merge(hc)))
    assert a.merge(b).merge(a) == a.merge(b)


@settings(max_examples=300)
@given(st.lists(steps, min_size=2, max_size=20), st.lists(st.integers(0, 30), min_size=2, max_size=2))
def test_outlines_merge_as_the_objects_do(script: list[Step], chosen: list[int]) -> None:
    """Whose bytes change in a merge, and how, can be told without the values."""
    states = run(script)
    a, b = (states[number % len(states)].packed for number in chosen)
    assert a.outline().merge(b.outline()) == a.merge(b).outline()
    assert Siblings(a.outline().packed) == a.outline()
    assert set(a.outline().values) <= {b""}
    assert (a.outline() == b.outline()) == (a == b)


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_replicas_converge_to_what_no_put_has_superseded(script: list[Step], order: random.Random) -> None:
    """Whatever each coordinator lacked when it took a put, and in whatever order they meet: no supersession is forgotten."""
    states = run(script)
    order.shuffle(states)
    everything = Siblings.reconcile(packed for packed, _ in states)
    history = History(frozenset().union(*(each.history.puts for each in states)))
    agree(State(everything, history.in_the_end()))
    assert everything.cloud == ()


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=20))
def test_an_object_covers_what_it_saw_or_superseded_and_nothing_else(script: list[Step]) -> None:
    states = run(script)
    everything = frozenset().union(*(each.history.puts for each in states))
    for packed, history in states:
        known = {one.version.dot for one in history.puts | history.superseded}
        for one in everything:
            node, epoch, counter = one.version.dot
            assert packed.covers(one.version.dot) == (one.version.dot in known)
            whole = all(Dot(node, epoch, number) in known for number in range(1, counter + 1))
            assert (packed.reach(node, epoch) >= counter) == whole


@settings(max_examples=200)
@given(st.lists(steps, min_size=1, max_size=20))
def test_no_put_vanishes(script: list[Step]) -> None:
    """Something survives of every history, and what does is never older than what a later write had seen."""
    for packed, history in run(script):
        assert (len(packed) > 0) == (len(history.puts) > 0)
        for version in packed.siblings:
            assert packed.clock.counter(version.dot.node, version.dot.epoch) >= version.dot.counter


def test_a_context_drops_what_it_covers_and_nothing_else() -> None:
    one = Siblings().put(b"one", node=A, timestamp_ms=10)
    two = one.put(b"two", node=A, timestamp_ms=11)
    assert two.values == (b"one", b"two")
    three = two.put(b"three", node=A, timestamp_ms=12, context=one.clock)
    assert three.values == (b"two", b"three")
    four = three.put(b"four", node=B, context=three.clock)
    assert four.values == (b"four",)
    assert four.clock.counter(A) == 3
    assert four.clock.counter(B) == 1


def test_interleaved_clients_at_one_coordinator_make_two_siblings_not_a_hundred() -> None:
    """Each client writes with the context of its own last answer: vectors without dots keep every version of this."""
    state = Siblings()
    contexts: list[VectorClock | None] = [None, None]
    for number in range(101):
        state = state.put(b"%d" % number, node=A, context=contexts[number % 2])
        contexts[number % 2] = state.clock
    assert state.values == (b"99", b"100")


def test_a_blind_put_makes_a_sibling_and_overwrite_makes_none() -> None:
    state = Siblings().put(b"a", node=A).put(b"b", node=B)
    assert set(state.values) == {b"a", b"b"}
    assert state.put(b"c", node=A, overwrite=True).values == (b"c",)
    # What overwrite did not hold stays concurrent with it.
    elsewhere = Siblings().put(b"d", node=C)
    assert set(state.put(b"c", node=A, overwrite=True).merge(elsewhere).values) == {b"c", b"d"}


def test_a_tombstone_is_a_write() -> None:
    written = Siblings().put(b"a", node=A)
    deleted = written.put(node=B, context=written.clock, tombstone=True)
    assert deleted.values == ()
    assert [version.tombstone for version in deleted.siblings] == [True]
    assert written.merge(deleted) == deleted
    concurrent = written.put(b"b", node=A, context=written.clock)
    both = deleted.merge(concurrent)
    assert both.values == (b"b",)
    assert len(both) == 2
    with pytest.raises(ValueError, match="tombstone has no value"):
        written.put(b"x", node=A, tombstone=True)


def test_the_counter_goes_on_from_clock_and_context() -> None:
    state = Siblings().put(b"a", node=A, epoch=5)
    ahead = VectorClock([(A, 5, 9, 3), (A, 6, 2, 4)])
    after = state.put(b"b", node=A, epoch=5, context=ahead)
    assert [version.dot for version in after.siblings] == [Dot(A, 5, 10)]
    assert after.clock == VectorClock([(A, 5, 10, 4), (A, 6, 2, 4)])


def test_timestamps_never_go_back_along_causality() -> None:
    state = Siblings().put(b"a", node=A, timestamp_ms=1000)
    assert state.put(b"b", node=B, timestamp_ms=10, context=state.clock).siblings[0].timestamp_ms == 1000
    assert state.put(b"b", node=B, timestamp_ms=2000).siblings[1].timestamp_ms == 2000
    blind = Siblings().put(b"c", node=B, timestamp_ms=10, context=state.clock, last_write_wins=True)
    assert blind.siblings[0].timestamp_ms == 1001


def test_last_write_wins_keeps_one() -> None:
    early = Siblings().put(b"early", node=B, timestamp_ms=10, last_write_wins=True)
    late = Siblings().put(b"late", node=A, timestamp_ms=20, last_write_wins=True)
    assert early.merge(late).values == late.merge(early).values == (b"late",)
    tie = Siblings().put(b"tie", node=C, timestamp_ms=20, last_write_wins=True)
    assert late.merge(tie).values == tie.merge(late).values == (b"tie",)  # by dot: C sorts after A
    # A clock that went back does not lose the write at the coordinator that knows better.
    after = late.put(b"after", node=B, timestamp_ms=5, last_write_wins=True)
    assert after.values == (b"after",)
    assert after.merge(late) == after


def test_a_bucket_that_becomes_last_write_wins_drops_no_concurrent_write_of_before() -> None:
    before = Siblings().put(b"before", node=A, timestamp_ms=10)
    after = Siblings().put(b"after", node=B, timestamp_ms=20, last_write_wins=True)
    assert set(before.merge(after).values) == {b"before", b"after"}
    # Where it is held when the next put comes, it is superseded like everything else.
    assert before.merge(after).put(b"next", node=A, timestamp_ms=30, last_write_wins=True).values == (b"next",)
    # And a bucket that no longer is: the flagged version yields to any newer one, as it was written to.
    again = Siblings().put(b"again", node=C, timestamp_ms=40)
    assert again.merge(after).values == (b"again",)


def test_equal_contents_are_equal_bytes_however_they_came_about() -> None:
    a, b = Siblings().put(b"a", node=A, timestamp_ms=1), Siblings().put(b"b", node=B, timestamp_ms=1)
    merged = a.merge(b)
    assert merged == b.merge(a)
    assert hash(merged) == hash(b.merge(a))
    assert merged.merge(a) is merged
    assert merged.merge(merged.merge(b)) is merged
    assert a.merge(merged) is merged
    assert pickle.loads(pickle.dumps(merged)) == merged
    assert merged.clock.compare(a.clock) is Order.AFTER


def test_request_ids_are_found() -> None:
    request = bytes(range(16))
    state = Siblings().put(b"a", node=A, request_id=request).put(b"b", node=B)
    assert state.has_request(request)
    assert not state.has_request(bytes(range(1, 17)))
    assert not state.has_request(bytes(16))  # of puts without one
    assert not Siblings().has_request(request)


def test_a_full_clock_and_too_many_siblings_are_refused() -> None:
    nodes = [bytes([number % 256, number // 256]) * 8 for number in range(1024)]
    full = VectorClock((node, 0, 1, 0) for node in nodes)
    state = Siblings().put(b"a", node=nodes[0], context=full)
    assert len(state.clock) == 1024
    with pytest.raises(PutRefused, match="clock is full"):
        state.put(b"b", node=A)
    crowd = Siblings()
    for _ in range(1024):
        crowd = crowd.put(b"", node=A)
    assert len(crowd) == 1024
    with pytest.raises(PutRefused, match="too many siblings"):
        crowd.put(b"", node=A)
    assert len(crowd.put(b"", node=A, context=crowd.clock)) == 1
    # Merges are never refused where puts would be.
    other = Siblings().put(b"b", node=A, context=VectorClock((node, 1, 1, 0) for node in nodes[:500]))
    assert len(state.merge(other).clock) == 1525
    assert len(crowd.merge(Siblings().put(b"", node=B))) == 1025


def test_counters_and_timestamps_at_their_limit_are_refused() -> None:
    for entry in ((A, 0, 2**63 - 1, 0), (B, 0, 1, 2**63 - 1)):
        with pytest.raises(PutRefused, match="clock is full"):
            Siblings().put(b"a", node=A, context=VectorClock([entry]), last_write_wins=True)
    with pytest.raises(PutRefused, match="clock is full"):
        Siblings().put(b"a", node=A, timestamp_ms=2**63)


def test_the_empty_object() -> None:
    empty = Siblings()
    assert (len(empty), empty.values, empty.siblings, len(empty.clock)) == (0, (), (), 0)
    assert empty.merge(empty) is empty
    one = empty.put(b"a", node=A)
    assert empty.merge(one) is one
    assert one.merge(empty) is one
    assert ModelClock.of(one.clock).events == {(A, 0): (1, 0)}
    assert Siblings.reconcile([]) == empty


def test_one_made_without_its_constructor_is_a_key_never_written() -> None:
    made = Siblings.__new__(Siblings)
    assert made == Siblings()
    assert (made.siblings, len(made.clock)) == ((), 0)


def test_ids_of_other_lengths_are_refused() -> None:
    for node, request in ((b"short", bytes(16)), (A, b"short"), (A + b"a", bytes(16))):
        with pytest.raises(ValueError, match="16 bytes"):
            Siblings().put(b"a", node=node, request_id=request)


def test_an_object_shows_itself() -> None:
    assert repr(Siblings().put(b"a", node=A)) == "<Siblings 1 under <VectorClock 61616161/0:1>>"
