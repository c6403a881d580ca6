"""Records of placements: their bytes, and the chain that any set of them settles into."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.lineage import (
    NO_PARENT,
    LineageError,
    PlacementRecord,
    decode_placement_record,
    encode_placement_record,
    settle,
)


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


FIRST = PlacementRecord(1, NO_PARENT, (), 2, digest(1))


def child(parent: PlacementRecord, *changes: int, table: int = 7) -> PlacementRecord:
    return PlacementRecord(parent.number + 1, parent.digest, tuple(digest(change) for change in sorted(changes)), 2, digest(table))


@st.composite
def families(draw: st.DrawFn) -> list[PlacementRecord]:
    """A first placement and descendants at random, each of any that was there before it."""
    records = [FIRST]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(records))
        record = child(parent, *draw(st.sets(st.integers(1, 20), max_size=3)), table=draw(st.integers(1, 3)))
        if record not in records:
            records.append(record)
    return records


@given(families(), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_settle_into_the_same_lineage(records: list[PlacementRecord], rng: random.Random) -> None:
    again = [*records, *rng.choices(records, k=3)]
    rng.shuffle(again)
    assert settle(again) == settle(records)


@given(families())
def test_a_chain_goes_from_parent_to_the_child_that_has_children_or_else_the_smallest_digest(records: list[PlacementRecord]) -> None:
    lineage = settle(records)
    assert lineage.chain[0] == FIRST
    assert lineage.orphans == ()
    for parent, following in zip(lineage.chain, lineage.chain[1:], strict=False):
        children = [record for record in records if record.parent_digest == parent.digest]
        parents = {record.parent_digest for record in records}
        with_children = [record for record in children if record.digest in parents]
        assert following.digest == min(record.digest for record in with_children or children)
    assert not [record for record in records if record.parent_digest == lineage.chain[-1].digest]
    assert sorted([*lineage.chain, *lineage.beaten], key=lambda record: record.digest) == sorted(records, key=lambda record: record.digest)


@given(families())
def test_no_change_is_lost_with_the_placement_that_took_it_in(records: list[PlacementRecord]) -> None:
    lineage = settle(records)
    taken = {change for record in lineage.chain for change in record.changes}
    assert taken | set(lineage.changes_left) == {change for record in records for change in record.changes}
    assert not taken & set(lineage.changes_left)


@given(families(), st.integers(0, 12))
def test_news_replace_nothing_but_what_has_a_smaller_sibling_or_one_with_children(records: list[PlacementRecord], known: int) -> None:
    before, after = settle(records[: known + 1]).chain, settle(records).chain
    for earlier, later in zip(before, after, strict=False):
        if earlier != later:
            assert (later.number, later.parent_digest) == (earlier.number, earlier.parent_digest)
            assert later.digest < earlier.digest or any(record.parent_digest == later.digest for record in records)
            break
    else:
        assert len(after) >= len(before)


def test_of_two_children_one_counts_and_the_changes_of_the_other_are_left_for_the_next() -> None:
    left, right = sorted((child(FIRST, 10, 11), child(FIRST, 11, 12, 13)), key=lambda record: record.digest)
    lineage = settle([right, left, FIRST])
    assert lineage.chain == (FIRST, left)
    assert lineage.beaten == (right,)
    assert set(lineage.changes_left) == set(right.changes) - set(left.changes)
    following = PlacementRecord(3, left.digest, lineage.changes_left, 2, digest(9))
    assert settle([right, left, FIRST, following]).changes_left == ()
    assert settle([right, left, FIRST, child(right, 14)]).chain == (FIRST, right, child(right, 14))


def test_what_has_no_known_ancestor_waits() -> None:
    second, third = child(FIRST, 1), child(child(FIRST, 1), 2)
    assert settle([FIRST, third]).orphans == (third,)
    assert settle([FIRST, third]).chain == (FIRST,)
    assert settle([second, third]).orphans == (second, third)
    assert settle([second, third]).chain == ()
    assert settle([FIRST, second, third]).chain == (FIRST, second, third)
    skipping = msgspec.structs.replace(second, number=5)
    assert settle([FIRST, skipping]).orphans == (skipping,)


def test_two_first_placements_are_two_clusters() -> None:
    with pytest.raises(LineageError, match="2 different first placements"):
        settle([FIRST, msgspec.structs.replace(FIRST, table_digest=digest(2))])


def test_a_digest_tells_apart_what_has_one_table() -> None:
    records = [FIRST, child(FIRST), child(FIRST, 1), child(FIRST, 2), child(FIRST, 1, 2), child(child(FIRST)), child(FIRST, table=8)]
    assert len({record.digest for record in records}) == len(records)


def test_the_digest_and_the_bytes_are_the_same_for_ever() -> None:
    record = child(FIRST, 2, 5)
    assert record.digest.hex() == "e3dc257f97eb681732a46dba2e77b5db"
    assert encode_placement_record(record).hex() == (
        "9502c4100000000000000000000000000000000192c41000000000000000000000000000000002c410000000000000000000"
        "0000000000000502c41000000000000000000000000000000007"
    )


@given(families())
def test_a_record_survives_being_sent(records: list[PlacementRecord]) -> None:
    for record in records:
        assert decode_placement_record(encode_placement_record(record)) == record


def test_every_cut_of_a_record_is_refused() -> None:
    data = encode_placement_record(child(FIRST, 1, 2))
    for cut in range(len(data)):
        with pytest.raises(LineageError):
            decode_placement_record(data[:cut])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"number": 0}, "not a record"),
        ({"number": 1 << 32}, "not a record"),
        ({"algorithm": 0}, "not a record"),
        ({"parent_digest": b"short"}, "not a record"),
        ({"table_digest": bytes(17)}, "not a record"),
        ({"changes": (digest(2), digest(1))}, "placement 2 does not name its changes sorted"),
        ({"changes": (digest(1), digest(1))}, "every one once"),
        ({"number": 1}, "placement 1 says it has a parent"),
        ({"parent_digest": NO_PARENT}, "placement 2 says it has no parent"),
    ],
)
def test_wrong_records_are_refused(wrong: dict[str, object], reason: str) -> None:
    data = msgspec.msgpack.encode(msgspec.structs.replace(child(FIRST, 1), **wrong))
    with pytest.raises(LineageError, match=reason):
        decode_placement_record(data)


def test_a_first_placement_takes_in_no_changes() -> None:
    with pytest.raises(LineageError, match="placement 1"):
        decode_placement_record(msgspec.msgpack.encode(msgspec.structs.replace(FIRST, changes=(digest(1),))))


def test_a_pinned_child_counts_before_a_smaller_one() -> None:
    one, two = sorted((child(FIRST, 1), child(FIRST, 2)), key=lambda record: record.digest)
    assert settle([FIRST, one, two]).chain[-1] == one
    lineage = settle([FIRST, one, two], pinned={two.digest})
    assert lineage.chain[-1] == two
    assert lineage.changes_left == one.changes
