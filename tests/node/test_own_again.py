"""Records that a change of members makes a node's own, or no longer its own (replica.pyx, copies.pyx)."""

from __future__ import annotations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.core.merkle import Forest
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.data_messages import encode_replicate
from dynamo_fast.wire.status import MessageType, Status
from tests.node.between import Between
from tests.node.planes import PARTITIONS

ALL = 0b111


def a_hint_kept() -> tuple[Between, bytes, int]:
    """Two keeps a copy for three, of a key that three leaves to it when it goes."""
    cluster = Between([0, 1, 2, 3], [0, 1, 2])
    key = cluster.key_where(lambda old, new: 3 in old and 2 not in old)
    cluster.isolate(3)
    assert cluster.put(0, key, b"v", w=3).status == Status.OK
    assert cluster.owed(2, key)
    return cluster, key, 2


def root(cluster: Between, number: int) -> list[int]:
    forest = cluster.nodes[number].engine.forest
    assert isinstance(forest, Forest)
    return [forest.root(partition) for partition in range(PARTITIONS)]


def test_hints_of_a_node_that_has_become_a_home_become_its_own() -> None:
    cluster, key, keeper = a_hint_kept()
    plane, packed, roots = cluster.nodes[keeper].plane, cluster.packed(keeper, key), root(cluster, keeper)
    assert cluster.nodes[keeper].count("hint_bytes") > 0
    assert plane.own_hints([cluster.store_key(key)]) == 0, "it is none yet"
    assert cluster.owed(keeper, key)
    cluster.do(Step.KNOWN, keeper)
    assert plane.own_hints([cluster.store_key(key), cluster.store_key(b"nothing")]) == 1
    assert cluster.owed(keeper, key) == 0
    assert cluster.packed(keeper, key) == packed
    assert root(cluster, keeper) == roots
    assert cluster.nodes[keeper].count("hint_bytes") == 0
    assert plane.own_hints([cluster.store_key(key)]) == 0


@pytest.mark.parametrize("again", ["replicate", "merge", "retry"])
def test_a_hint_that_is_written_again_to_a_home_is_its_own_though_nothing_is_new(again: str) -> None:
    """Or it would be handed over and removed, though it was counted as a home's copy."""
    cluster = Between([0, 1, 2, 3], [0, 1, 2])
    key = cluster.key_where(lambda old, new: 3 in old and 2 not in old)
    cluster.isolate(3)
    put_id = b"I" * 16
    if again == "retry":
        for home in cluster.homes_before(key):
            cluster.isolate(home)
        assert cluster.put(2, key, b"v", w=1, put_id=put_id).status == Status.OK
    else:
        assert cluster.put(0, key, b"v", w=3).status == Status.OK
    before, packed = cluster.record(2, key), cluster.packed(2, key)
    assert before is not None
    assert packed is not None
    assert decode_record(before).owed
    cluster.do(Step.DOUBLE)
    if again == "replicate":
        cluster.inject(2, 0, MessageType.REPLICATE, encode_replicate(cluster.new.name, key, packed))
        cluster.run()
    elif again == "merge":
        assert cluster.nodes[2].plane.merge_entries([(b"", key, packed)])[0][0] == Status.OK
    else:
        cluster.link(2, 0)
        assert cluster.put(2, key, b"v", w=1, put_id=put_id).status == Status.OK
    after = cluster.record(2, key)
    assert after is not None
    assert decode_record(after) == decode_record(before)._replace(owed=0, placement_number=0)
    assert cluster.nodes[2].count("hint_bytes") == 0


def test_what_was_a_hint_is_not_removed_from_a_home_and_what_was_confirmed_in_other_slots_is_not_confirmed() -> None:
    cluster, key, keeper = a_hint_kept()
    plane, record = cluster.nodes[keeper].plane, cluster.record(keeper, key)
    assert record is not None
    confirmed = [(cluster.store_key(key), decode_record(record).hash, 0xFFFF)]
    assert plane.settle_hints(confirmed, cluster.new.number) == 0
    assert cluster.record(keeper, key) == record
    cluster.do(Step.KNOWN, keeper)
    assert plane.settle_hints(confirmed, cluster.old.number) == 0, "a home now"
    assert cluster.owed(keeper, key) == 0
    assert cluster.nodes[keeper].count("hint_bytes") == 0


def test_a_hint_from_before_the_change_goes_once_all_homes_after_have_confirmed_it() -> None:
    cluster = Between([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5])
    key = cluster.key_where(lambda old, new: 4 not in {*old, *new})
    keeper = cluster.old_ring.fallbacks(key)[0]
    if keeper in cluster.homes_after(key):
        keeper = cluster.old_ring.fallbacks(key)[1]
        cluster.isolate(cluster.old_ring.fallbacks(key)[0])
    cluster.isolate(cluster.homes_before(key)[2])
    assert cluster.put(cluster.homes_before(key)[0], key, b"v", w=3).status == Status.OK
    cluster.do(Step.SETTLED)
    record = cluster.record(keeper, key)
    assert record is not None
    plane, hash = cluster.nodes[keeper].plane, decode_record(record).hash
    for slot in range(3):
        assert cluster.owed(keeper, key) is not None
        assert plane.settle_hints([(cluster.store_key(key), hash, 1 << slot)], cluster.new.number) == (slot == 2)
    assert cluster.record(keeper, key) is None


# Old copies -------------------------------------------------------------------------------------------------------------------------


def an_old_copy() -> tuple[Between, bytes, int]:
    """Two was a home of the key, and is none in the end."""
    cluster = Between([0, 1, 2], [0, 1, 3])
    assert cluster.put(0, b"k", b"v", w=3).status == Status.OK
    return cluster, b"k", 2


def version(cluster: Between, number: int, key: bytes) -> tuple[bytes, int]:
    record = cluster.record(number, key)
    assert record is not None
    return cluster.store_key(key), decode_record(record).hash


def test_old_copies_are_removed_when_no_placement_has_this_node_as_a_home() -> None:
    cluster, key, was = an_old_copy()
    plane, copy = cluster.nodes[was].plane, version(cluster, was, key)
    for step in Step:
        if step < Step.SETTLED:
            cluster.do(step)
            assert plane.remove_old_copies([copy]) == 0, step.name
    cluster.do(Step.SETTLED)
    assert plane.remove_old_copies([(copy[0], copy[1] + 1), (cluster.store_key(b"nothing"), 1)]) == 0, "another version"
    assert plane.remove_old_copies([copy]) == 1
    assert cluster.record(was, key) is None
    assert root(cluster, was) == [0] * PARTITIONS
    assert cluster.nodes[0].plane.remove_old_copies([version(cluster, 0, key)]) == 0, "a home"


def test_hints_are_no_old_copies() -> None:
    cluster, key, keeper = a_hint_kept()
    assert cluster.nodes[keeper].plane.remove_old_copies([version(cluster, keeper, key)]) == 0


def test_an_old_copy_that_takes_a_hint_is_owed_to_all() -> None:
    """Nobody knows which of the homes has what stood there before."""
    cluster, key, was = an_old_copy()
    cluster.do(Step.SETTLED)
    packed = cluster.packed(was, key)
    assert packed is not None
    cluster.inject(was, 0, MessageType.REPLICATE, encode_replicate(cluster.new.name, key, packed, hint_slot=1))
    cluster.run()
    assert cluster.owed(was, key) == ALL


def test_a_log_that_takes_nothing_says_so() -> None:
    cluster, key, was = an_old_copy()
    cluster.do(Step.SETTLED)
    cluster.nodes[was].engine.failure = "no space left"
    with pytest.raises(StorageError):
        cluster.nodes[was].plane.remove_old_copies([version(cluster, was, key)])
