"""The packed vector clock against the plain-Python model, and what it refuses."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.vector_clock import ClockEntry, Order, VectorClock
from tests.models.vector_clock import ModelClock

A, B, C = (bytes([letter]) * 16 for letter in b"abc")
NUMBER_MAX = 2**63 - 1

# Few actors and small numbers, so that clocks meet; nodes that differ in the first, the eighth and the last byte.
nodes = st.sampled_from([A, B, A[:7] + b"b" + A[8:], A[:15] + b"b", b"\xff" * 16, bytes(16)])
epochs = st.sampled_from([0, 1, 255, 256, 2**64 - 1])
events = st.tuples(st.integers(1, 4) | st.just(NUMBER_MAX), st.integers(0, 4) | st.just(NUMBER_MAX))
models = st.dictionaries(st.tuples(nodes, epochs), events, max_size=9).map(ModelClock)


@given(models, models)
def test_compare_and_descends_agree_with_the_model(a: ModelClock, b: ModelClock) -> None:
    assert a.packed().compare(b.packed()) is a.compare(b)
    assert a.packed().descends(b.packed()) == a.descends(b)


@given(models, models, models)
def test_merge_agrees_with_the_model_and_is_a_join(a: ModelClock, b: ModelClock, c: ModelClock) -> None:
    x, y, z = a.packed(), b.packed(), c.packed()
    assert x.merge(y) == a.merge(b).packed()
    assert x.merge(y) == y.merge(x)
    assert x.merge(x) == x
    assert x.merge(y).merge(z) == x.merge(y.merge(z))
    assert x.merge(y).descends(x)
    assert x.descends(y) == (x.merge(y).compare(x) is Order.EQUAL)


@given(models, nodes, epochs, st.integers(0, 9))
def test_advance_agrees_with_the_model(model: ModelClock, node: bytes, epoch: int, timestamp_ms: int) -> None:
    before = model.packed()
    if before.counter(node, epoch) == NUMBER_MAX:
        with pytest.raises(OverflowError):
            before.advance(node, epoch, timestamp_ms)
        return
    after = before.advance(node, epoch, timestamp_ms)
    assert after == model.advance(node, epoch, timestamp_ms).packed()
    assert after.compare(before) is Order.AFTER
    assert after.counter(node, epoch) == before.counter(node, epoch) + 1
    assert before == model.packed()


@given(models, st.integers(0, 12))
def test_truncate_agrees_with_the_model(model: ModelClock, entries_max: int) -> None:
    truncated = model.packed().truncate(entries_max)
    assert truncated == model.truncate(entries_max).packed()
    assert model.packed().descends(truncated)


def test_truncate_drops_the_oldest_at_ten() -> None:
    clock = VectorClock()
    for number in range(11):
        clock = clock.advance(bytes([20 - number]) * 16, timestamp_ms=100 + number)
    truncated = clock.truncate()
    assert len(truncated) == 10
    assert truncated.counter(bytes([20]) * 16) == 0
    assert not truncated.descends(clock)


@given(models)
def test_bytes_entries_and_pickle_round_trip(model: ModelClock) -> None:
    clock = model.packed()
    assert VectorClock.from_bytes(bytes(clock)) == clock
    assert VectorClock(clock) == clock
    assert pickle.loads(pickle.dumps(clock)) == clock
    assert hash(VectorClock.from_bytes(clock.packed)) == hash(clock)
    assert len(clock) == len(model.events)
    assert list(clock) == sorted(clock)
    assert ModelClock.of(clock).events == model.events


@given(models, st.integers(0, 2**9), st.integers(0, 255))
def test_from_bytes_takes_exactly_the_canonical_form(model: ModelClock, place: int, byte: int) -> None:
    packed = bytearray(model.packed().packed)
    if packed:
        packed[place % len(packed)] = byte
    try:
        clock = VectorClock.from_bytes(bytes(packed))
    except ValueError:
        return
    assert VectorClock(tuple(clock)).packed == packed


@pytest.mark.parametrize(
    "entries",
    [
        [(A, 0, 0, 0)],
        [(A, 0, 2**63, 0)],
        [(A, 0, 1, 2**63)],
        [(A, 0, 1, 0), (A, 0, 1, 0)],
        [(A, 0, 1, 0), (A, 0, 2, 0)],
        [(A[:15], 0, 1, 0)],
        [(A + b"a", 0, 1, 0)],
        [(bytes([i % 256, i // 256]) * 8, 0, 1, 0) for i in range(65536)],
    ],
    ids=["counter 0", "counter too high", "timestamp too high", "twice", "twice, unlike", "short node", "long node", "too many"],
)
def test_what_is_no_clock_is_refused(entries: list[tuple[bytes, int, int, int]]) -> None:
    with pytest.raises(ValueError, match=r"clock|node id"):
        VectorClock(entries)


def test_numbers_outside_64_bits_are_refused() -> None:
    with pytest.raises(OverflowError):
        VectorClock([(A, 2**64, 1, 0)])
    with pytest.raises(OverflowError):
        VectorClock().advance(A, timestamp_ms=2**63)
    with pytest.raises(OverflowError):
        VectorClock().advance(A, epoch=-1)


def test_bytes_that_are_no_clock_are_refused() -> None:
    one, two = VectorClock([(A, 0, 1, 0)]).packed, VectorClock([(B, 0, 1, 0)]).packed
    for packed in (one[:39], one + two[:1], two + one, one + one, bytes(40)):
        with pytest.raises(ValueError, match="not a vector clock"):
            VectorClock.from_bytes(packed)
    assert VectorClock.from_bytes(one + two) == VectorClock([(B, 0, 1, 0), (A, 0, 1, 0)])


def test_the_limit_of_entries() -> None:
    full = VectorClock((bytes([i % 256, i // 256]) * 8, 0, 1, 0) for i in range(65535))
    assert len(full) == 65535
    assert full.merge(full) == full
    first = next(iter(full))
    assert full.advance(first.node).counter(first.node) == 2
    with pytest.raises(OverflowError, match="more than 65535 entries"):
        full.advance(bytes(range(16)))
    with pytest.raises(OverflowError, match="more than 65535 entries"):
        full.merge(VectorClock().advance(bytes(range(16))))


def test_the_empty_clock() -> None:
    empty, one = VectorClock(), VectorClock().advance(A)
    assert empty.compare(VectorClock()) is Order.EQUAL
    assert empty.compare(one) is Order.BEFORE
    assert one.descends(empty)
    assert empty.merge(one) == one
    assert (len(empty), empty.packed, list(empty), empty.counter(A)) == (0, b"", [], 0)


def test_equal_counters_are_equal_causally_whatever_their_timestamps() -> None:
    early, late = VectorClock([(A, 0, 1, 5)]), VectorClock([(A, 0, 1, 9)])
    assert early.compare(late) is Order.EQUAL
    assert early != late
    assert early.merge(late) == late.merge(early) == late


def test_a_clock_shows_itself() -> None:
    clock = VectorClock([(C, 10, 3, 7), (A, 0, 1, 0)])
    assert repr(clock) == "<VectorClock 61616161/0:1, 63636363/a:3>"
    assert repr(VectorClock()) == "<VectorClock empty>"
    assert list(clock)[1] == ClockEntry(C, 10, 3, 7)
    assert clock.__eq__("clock") is NotImplemented
