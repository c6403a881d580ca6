"""Objects that no honest node makes: what is refused, and that what is not refused still merges to one answer everywhere."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_fast.core.siblings import Dot, ObjectError, Sibling, Siblings
from dynamo_fast.core.vector_clock import VectorClock
from tests.models.siblings import covered, merge_entries, yield_to_newer
from tests.models.vector_clock import ModelClock

A, B, C = (bytes([letter]) * 16 for letter in b"abc")
NUMBER_MAX = 2**63 - 1


def pack_sibling(version: Sibling, actor: int, *, flags: int = 0, zero: int = 0, value_bytes: int | None = None) -> bytes:
    flags |= version.tombstone + 2 * version.last_write_wins
    stated = len(version.value) if value_bytes is None else value_bytes
    numbers = struct.pack("<IHBBQQ", stated, actor, flags, zero, version.dot.counter, version.timestamp_ms)
    return numbers + version.request_id + version.value


def pack(clock: VectorClock, siblings: Iterable[Sibling], cloud: Iterable[Dot] = ()) -> bytes:
    """The layout of _ext/object.h, written a second time."""
    actors = [(entry.node, entry.epoch) for entry in clock]
    packed = [pack_sibling(version, actors.index(version.dot[:2])) for version in siblings]
    dots = [struct.pack("<16sQQ", *dot) for dot in cloud]
    return struct.pack("<BBHHH", 1, 0, len(clock), len(packed), len(dots)) + clock.packed + b"".join(packed + dots)


def version(dot: Dot, value: bytes = b"v", *, timestamp_ms: int = 0, tombstone: bool = False, wins: bool = False) -> Sibling:
    return Sibling(value, tombstone, dot, timestamp_ms, bytes(16), wins)


@st.composite
def objects(draw: st.DrawFn) -> Siblings:
    """Any valid object: siblings anywhere under any clock, any cloud beside it, whether or not a history could lead to it."""
    actors = st.tuples(st.sampled_from([A, B, C]), st.sampled_from([0, 2**64 - 1]))
    clock = ModelClock(draw(st.dictionaries(actors, st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=4)))
    kept = {}
    for (node, epoch), (counter_max, _) in clock.events.items():
        for counter in draw(st.sets(st.integers(1, counter_max))):
            dot = Dot(node, epoch, counter)
            tombstone = draw(st.booleans())
            value = b"" if tombstone else draw(st.sampled_from([b"", b"x", b"y", b"long enough"]))
            kept[dot] = Sibling(value, tombstone, dot, draw(st.integers(0, 3)), bytes([draw(st.integers(0, 2))]) * 16,
                                draw(st.booleans()))
    dots = draw(st.sets(st.builds(lambda actor, counter: Dot(*actor, counter), actors, st.integers(1, 4)), max_size=5))
    cloud = sorted(dot for dot in dots if not covered(clock, dot))
    return Siblings(pack(clock.packed(), yield_to_newer(clock, kept), cloud))


@settings(max_examples=200)
@given(objects(), objects())
def test_any_two_valid_objects_merge_as_the_model_says(a: Siblings, b: Siblings) -> None:
    merged = a.merge(b)
    assert merged.packed == pack(merge_entries(a, b)[0].packed(), *merge_entries(a, b)[1:])
    assert b.merge(a) == merged
    assert Siblings(merged.packed) == merged
    assert a.merge(a) == a


@settings(max_examples=150)
@given(objects(), st.data())
def test_a_changed_byte_is_refused_or_is_another_valid_object(valid: Siblings, data: st.DataObject) -> None:
    packed = bytearray(valid.packed)
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] = data.draw(st.integers(0, 255))
    try:
        changed = Siblings(bytes(packed))
    except ObjectError:
        return
    assert pack(changed.clock, changed.siblings, changed.cloud) == packed  # canonical: nothing is ignored
    merged = changed.merge(valid)
    assert merged == valid.merge(changed)
    assert Siblings(merged.packed) == merged


@given(objects())
def test_every_cut_and_every_surplus_is_refused(valid: Siblings) -> None:
    for end in range(len(valid.packed)):
        with pytest.raises(ObjectError):
            Siblings(valid.packed[:end])
    with pytest.raises(ObjectError, match="more bytes than it announces"):
        Siblings(valid.packed + b"\0")


@given(st.binary(max_size=300))
def test_noise_never_passes_as_an_object_with_siblings(noise: bytes) -> None:
    for data in (noise, b"\x01\0\x01\0\x01\0\0\0" + noise):
        try:
            accepted = Siblings(data)
        except ObjectError:
            continue
        assert pack(accepted.clock, accepted.siblings, accepted.cloud) == data


def test_each_fault_is_told_apart() -> None:
    clock = VectorClock([(A, 0, 2, 5), (B, 0, 1, 9)])
    a1, a2, b1 = Dot(A, 0, 1), Dot(A, 0, 2), Dot(B, 0, 1)
    head = struct.pack("<BBHHH", 1, 0, 2, 1, 0) + clock.packed
    two = struct.pack("<BBHHH", 1, 0, 2, 2, 0) + clock.packed
    below, above, beside = (struct.pack("<16sQQ", *dot) for dot in (Dot(A, 0, 3), Dot(A, 0, 5), Dot(C, 2**64 - 1, NUMBER_MAX)))

    def clouded(*dots: bytes, count: int | None = None) -> bytes:
        stated = len(dots) if count is None else count
        return good[:6] + struct.pack("<H", stated) + good[8:] + b"".join(dots)

    good = head + pack_sibling(version(a1), 0)
    assert Siblings(good).values == (b"v",)
    assert Siblings(clouded(below, above, beside)).cloud == ((A, 0, 3), (A, 0, 5), (C, 2**64 - 1, NUMBER_MAX))
    for data, message in [
        (b"", "ends before"),
        (good[:7], "ends before"),
        (b"\x02" + good[1:], "unknown format"),
        (b"\0" + good[1:], "unknown format"),
        (good[:1] + b"\x01" + good[2:], "reserved byte"),
        (clouded(count=1), "ends before"),
        (clouded(below, count=2), "ends before"),
        (clouded(below, above, count=1), "more bytes"),
        (clouded(below[:-1], count=1), "ends before"),
        (clouded(above, below), "cloud is unsorted"),
        (clouded(beside, above), "cloud is unsorted"),
        (clouded(below, below), "cloud is unsorted"),
        (clouded(struct.pack("<16sQQ", A, 0, 2)), "that the clock covers"),
        (clouded(struct.pack("<16sQQ", B, 0, 1)), "that the clock covers"),
        (clouded(struct.pack("<16sQQ", C, 0, 0)), "out of range"),
        (clouded(struct.pack("<16sQQ", C, 0, 2**63)), "out of range"),
        (struct.pack("<BBHHH", 1, 0, 2, 0, 0) + clock.packed[40:] + clock.packed[:40], "unsorted"),
        (struct.pack("<BBHHH", 1, 0, 1638, 0, 0) + bytes(40 * 1638), "clock"),
        (struct.pack("<BBHHH", 1, 0, 65535, 65535, 0), "ends before"),
        (head + pack_sibling(version(a1), 0, flags=4), "reserved bits"),
        (head + pack_sibling(version(a1), 0, zero=1), "reserved bits"),
        (head + pack_sibling(version(a1, tombstone=True), 0), "tombstone with a value"),
        (head + pack_sibling(version(a1, timestamp_ms=2**63), 0), "reserved bits"),
        (head + pack_sibling(version(a1), 2), "outside the clock"),
        (head + pack_sibling(version(Dot(A, 0, 0)), 0), "outside the clock"),
        (head + pack_sibling(version(Dot(A, 0, 3)), 0), "outside the clock"),
        (two + pack_sibling(version(a2), 0) + pack_sibling(version(a1), 0), "unsorted or double"),
        (two + pack_sibling(version(a1), 0) * 2, "unsorted or double"),
        (two + pack_sibling(version(b1), 1) + pack_sibling(version(a1), 0), "unsorted or double"),
        (head + pack_sibling(version(a1), 0, value_bytes=2**32 - 1), "ends before"),
        (head + pack_sibling(version(a1), 0) + b"v", "more bytes"),
        (head + pack_sibling(version(a1, timestamp_ms=5, wins=True), 0), "beside a newer event"),
        (two + pack_sibling(version(a2, timestamp_ms=9, wins=True), 0)
         + pack_sibling(version(b1, timestamp_ms=9, wins=True), 1), "beside a newer event"),
        (two + pack_sibling(version(a2, timestamp_ms=20, wins=True), 0)  # each newer than all that the clock shows
         + pack_sibling(version(b1, timestamp_ms=25, wins=True), 1), "beside a newer event"),
    ]:
        with pytest.raises(ObjectError, match=message):
            Siblings(data)


def test_one_dot_with_two_contents_ends_the_same_on_all_replicas() -> None:
    clock = VectorClock([(A, 0, 1, 5)])
    dot = Dot(A, 0, 1)
    small, large = (Siblings(pack(clock, [version(dot, value, timestamp_ms=5)])) for value in (b"small", b"large!"))
    assert small.merge(large) == large.merge(small) == large
    further = Siblings(pack(VectorClock([(A, 0, 2, 6)]), [version(dot, b"small", timestamp_ms=5)]))
    assert further.merge(large) == large.merge(further)


def test_the_largest_of_everything() -> None:
    clock = VectorClock((bytes([i % 256, i // 256]) * 8, 2**64 - 1, NUMBER_MAX, NUMBER_MAX) for i in range(65535))
    top = next(iter(clock))
    siblings = [version(Dot(top.node, top.epoch, NUMBER_MAX - 65534 + i), b"", timestamp_ms=NUMBER_MAX) for i in range(65535)]
    full = Siblings(pack(clock, siblings))
    assert len(full) == 65535
    assert full.merge(Siblings()) is full
    one_more = Siblings().put(b"", node=bytes(range(16)))
    with pytest.raises(OverflowError, match="clock is full"):
        full.merge(one_more)
    fewer = Siblings(pack(VectorClock(list(clock)[:5]), siblings))
    with pytest.raises(OverflowError, match="too many siblings"):
        fewer.merge(one_more)
