"""Who has asked, who is missing, and one record from whoever was there."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.node.birth import BirthRefused, Roll, first_of, placement_of

ADDRESSES = ["c:1", "a:1", "b:1"]


def entry(address: str, number: int | None = None) -> NodeEntry:
    return NodeEntry(id=(ord(address[0]) if number is None else number).to_bytes(16, "big"), address=address, host=address)


def test_the_first_in_order_makes_it() -> None:
    assert first_of(ADDRESSES) == "a:1"


@given(st.permutations(["b:1", "c:1", "b:1", "c:1"]), st.integers(0, 99))
def test_any_order_and_repetition_of_asking_names_the_same_members(order: list[str], seed: int) -> None:
    roll = Roll(ADDRESSES, entry("a:1"))
    assert roll.waiting_for == ["b:1", "c:1"]
    for address in order:
        roll.ask(entry(address), ADDRESSES[::-1])
    assert roll.waiting_for == []
    birth = roll.birth(64, 3, random.Random(seed).randbytes)
    assert [member.address for member in birth.members] == ["a:1", "b:1", "c:1"]
    assert birth.placement_digest == placement_of(birth.members[::-1], 64, 3).digest
    assert birth.cluster_id != birth.mac_key


def test_the_last_id_from_an_address_counts() -> None:
    roll = Roll(["a:1", "b:1"], entry("a:1"))
    roll.ask(entry("b:1", 1), ["a:1", "b:1"])
    roll.ask(entry("b:1", 2), ["a:1", "b:1"])
    assert (2).to_bytes(16, "big") in {member.id for member in roll.birth(64, 3, random.Random(1).randbytes).members}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(BirthRefused, match="does not name this node's own address, d:1"):
        Roll(ADDRESSES, entry("d:1"))
    roll = Roll(ADDRESSES, entry("a:1"))
    with pytest.raises(BirthRefused, match="all must be given the same list"):
        roll.ask(entry("b:1"), ["a:1", "b:1"])
    with pytest.raises(BirthRefused, match="is not in its own --bootstrap"):
        roll.ask(entry("d:1"), ADDRESSES)
    with pytest.raises(BirthRefused, match="one data directory is a copy of the other"):
        roll.ask(entry("b:1", ord("a")), ADDRESSES)
    alone = Roll(["a:1"], entry("a:1"))
    with pytest.raises(BirthRefused, match="partitions must be a power of two"):
        alone.birth(63, 3, random.Random(1).randbytes)
    with pytest.raises(BirthRefused, match="still waits for b:1, c:1"):
        roll.birth(64, 3, random.Random(1).randbytes)
