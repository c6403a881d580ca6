"""Trees that are updated entry by entry against trees computed from all entries at once; two replicas that compare."""

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.merkle import Forest, entry_hash
from tests.models import merkle as model

SHAPES = [(1, 1), (1, 2), (4, 1), (2, 64), (4, 16), (2, 128), (8, 256)]
shapes = st.sampled_from(SHAPES)
# Few enough positions that entries meet in leaves, and are replaced and removed.
positions = st.integers(0, 60).map(lambda n: (n * 0x0437_1B2F_9D86_5A21 & (1 << 64) - 1).to_bytes(8, "big") + bytes(8))
writes = st.lists(st.tuples(positions, st.integers(0, (1 << 64) - 1)), max_size=60)


def grown(partitions: int, leaves: int, some: list[tuple[bytes, int]], look: bool = False) -> tuple[Forest, model.Forest]:
    """Both forests after the same writes; a hash of 0 removes the entry. With `look`, roots are read in between."""
    forest, oracle = Forest(partitions, leaves), model.Forest(partitions, leaves)
    for position, new_hash in some:
        forest.replace(position, oracle.entries.pop(position, 0), new_hash)
        if new_hash:
            oracle.entries[position] = new_hash
        if look:
            forest.root(forest.place(position)[0])
    return forest, oracle


@given(shapes, writes, st.booleans())
def test_every_node_is_as_if_computed_at_once(shape: tuple[int, int], some: list[tuple[bytes, int]], look: bool) -> None:
    forest, oracle = grown(*shape, some, look)
    for partition in range(forest.partitions):
        levels = oracle.levels(partition)
        assert forest.root(partition) == levels[0][0]
        assert [list(forest.nodes(partition, level)) for level in range(len(levels))] == levels
        assert forest.leaves(partition) == struct.pack(f"<{forest.leaf_count}Q", *levels[-1])


@given(shapes, st.binary(min_size=16, max_size=16))
def test_places(shape: tuple[int, int], position: bytes) -> None:
    assert Forest(*shape).place(position) == model.Forest(*shape).place(position)


@given(shapes, writes)
def test_order_does_not_matter_and_emptying_leaves_nothing(shape: tuple[int, int], some: list[tuple[bytes, int]]) -> None:
    forest, oracle = grown(*shape, some)
    again = Forest(*shape)
    for position, entry in sorted(oracle.entries.items(), reverse=True):
        again.replace(position, 0, entry)
    assert [forest.root(p) for p in range(forest.partitions)] == [again.root(p) for p in range(forest.partitions)]
    for position, entry in oracle.entries.items():
        forest.replace(position, entry, 0)
    assert all(forest.root(partition) == 0 for partition in range(forest.partitions))


@given(shapes, writes, writes)
def test_diff_finds_exactly_the_leaves_that_differ(
    shape: tuple[int, int], some: list[tuple[bytes, int]], others: list[tuple[bytes, int]]
) -> None:
    left, left_oracle = grown(*shape, some)
    right, right_oracle = grown(*shape, some + others)
    everywhere: list[int] = []
    for partition in range(left.partitions):
        pairs = zip(left_oracle.levels(partition)[-1], right_oracle.levels(partition)[-1], strict=True)
        expected = [leaf for leaf, (mine, theirs) in enumerate(pairs) if mine != theirs]
        assert left.diff(right, partition) == right.diff(left, partition) == expected
        counted = [partition * left.leaf_count + leaf for leaf in expected]
        assert walk_down(left, right, [partition], step=1) == counted
        everywhere += counted
    assert walk_down(left, right, list(range(left.partitions)), step=4) == everywhere


def walk_down(asking: Forest, answering: Forest, partitions: list[int], step: int) -> list[int]:
    """What two replicas do over the network: hashes of the nodes known to differ, `step` levels further down, and so on, through several
    trees at once. Leaves are counted through all trees."""
    level, differing = 0, asking.differing(0, partitions, 0, answering.descendants(0, partitions, 0))
    while differing and 1 << level < asking.leaf_count:
        depth = min(step, asking.leaf_count.bit_length() - 1 - level)
        hashes = answering.descendants(level, differing, depth)
        assert len(hashes) == len(differing) * 8 << depth
        differing = asking.differing(level, differing, depth, hashes)
        level += depth
    return differing


@given(shapes, writes, writes)
def test_forests_are_kept_and_added(shape: tuple[int, int], some: list[tuple[bytes, int]], others: list[tuple[bytes, int]]) -> None:
    whole, _ = grown(*shape, some + others)
    kept, oracle = grown(*shape, some)
    change = Forest(*shape)
    for position, new_hash in others:
        change.replace(position, oracle.entries.pop(position, 0), new_hash)
        if new_hash:
            oracle.entries[position] = new_hash
    for partition in range(whole.partitions):
        both = Forest(*shape)
        both.load(partition, kept.leaves(partition))
        assert both.root(partition) == kept.root(partition)
        both.add(partition, change.leaves(partition))
        assert both.root(partition) == whole.root(partition)
        both.clear(partition)
        assert both.root(partition) == 0
        assert both.leaves(partition) == bytes(8 * both.leaf_count)


def test_swapped_leaves_are_a_difference() -> None:
    left, right = Forest(1, 2), Forest(1, 2)
    left.load(0, struct.pack("<2Q", 1, 2))
    right.load(0, struct.pack("<2Q", 2, 1))
    assert left.root(0) != right.root(0)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=400))
def test_entry_hash_is_xxh3_of_position_and_object(position: bytes, packed: bytes) -> None:
    assert entry_hash(position, packed) == xxhash.xxh3_64_intdigest(position + packed)


def test_entry_hash_is_xxh3_at_every_length() -> None:
    """Short entries are hashed by our own C, long ones by the package."""
    position, packed = bytes(range(200, 216)), bytes(at * 131 % 251 for at in range(600))
    for n in range(len(packed)):
        assert entry_hash(position, packed[:n]) == xxhash.xxh3_64_intdigest(position + packed[:n])


def test_entry_hash_is_the_same_for_ever() -> None:
    # Trees are kept on disk and compared between releases.
    assert entry_hash(bytes(range(16)), b"object") == 0x44120DD5BEA5D8CC


def test_wrong_shapes_are_refused() -> None:
    for partitions, leaves, name in ((3, 4, "partitions"), (0, 4, "partitions"), (4, 3, "leaves"), (4, 131072, "leaves")):
        with pytest.raises(ValueError, match=f"{name} must be a power of two"):
            Forest(partitions, leaves)


def test_wrong_arguments_raise() -> None:
    forest = Forest(4, 16)
    for partition in (-1, 4):
        for ask in (forest.root, forest.leaves, forest.clear, lambda p: forest.nodes(p, 0), lambda p: forest.diff(forest, p)):
            with pytest.raises(IndexError, match=r"0\.\.3"):
                ask(partition)
    with pytest.raises(IndexError, match="past the leaves"):
        forest.nodes(0, 5)
    with pytest.raises(IndexError, match="past the leaves"):
        forest.descendants(2, [0], 3)
    for node in (-1, 16):
        with pytest.raises(IndexError, match="no node"):
            forest.descendants(2, [node], 1)
    with pytest.raises(ValueError, match="2 nodes have 32 bytes"):
        forest.differing(2, [0, 1], 1, bytes(8))
    for give in (forest.load, forest.add):
        with pytest.raises(ValueError, match="128 bytes"):
            give(0, bytes(127))
    for take in (forest.place, lambda short: forest.replace(short, 0, 1), lambda short: entry_hash(short, b"")):
        with pytest.raises(ValueError, match="16 bytes, not 15"):
            take(bytes(15))
    with pytest.raises(ValueError, match="one shape"):
        forest.diff(Forest(4, 8), 0)
