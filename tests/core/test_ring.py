"""Lookups against the model: the table of equal partitions, and the paper's ring of tokens."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.ring import BasicRing, Ring
from tests.models import ring as model

keys = st.binary(max_size=200)
positions = st.one_of(st.binary(min_size=16, max_size=16), st.integers(0, 20).map(lambda n: n.to_bytes(16, "big")))


def shuffled_lists(partitions: int, nodes: int, seed: int = 1) -> list[list[int]]:
    rng = random.Random(seed)
    return [rng.sample(range(nodes), nodes) for _ in range(partitions)]


@given(st.integers(0, 12), st.integers(1, 12), st.integers(1, 5), keys, st.binary(max_size=64))
def test_a_key_leads_to_its_partitions_row(bits: int, nodes: int, replicas: int, key: bytes, bucket: bytes) -> None:
    lists = shuffled_lists(1 << bits, nodes)
    ring = Ring(1 << bits, replicas, lists)
    partition = model.partition(model.key_position(key, bucket), 1 << bits)
    homes = min(nodes, replicas)
    assert (ring.partitions, ring.replicas, ring.node_count) == (1 << bits, homes, nodes)
    assert ring.partition(key, bucket) == partition
    assert ring.preference_list(key, bucket) == ring.homes_of(partition) == tuple(lists[partition][:homes])
    assert ring.fallbacks(key, bucket) == tuple(lists[partition][homes:])
    assert ring.order_of(partition) == tuple(lists[partition])


@given(st.lists(keys, max_size=60))
def test_a_batch_gives_what_single_keys_give(some: list[bytes]) -> None:
    ring = Ring(64, 3, shuffled_lists(64, 7))
    assert ring.preference_lists(some) == [ring.preference_list(key) for key in some]


def test_the_largest_ring() -> None:
    ring = Ring(65536, 1, [[0]] * 65536)
    assert ring.partition(b"key") == int.from_bytes(model.key_position(b"key")[:2], "big")


@pytest.mark.parametrize(
    ("partitions", "replicas", "lists", "reason"),
    [
        (3, 1, [[0]] * 3, "power of two"),
        (0, 1, [], "power of two"),
        (131072, 1, [[0]], "power of two"),
        (2, 1, [[0]], "as many preference lists"),
        (1, 0, [[0]], "replicas must be at least 1"),
        (1, 1, [[]], "1 to 65535 nodes"),
        (2, 1, [[0, 1], [0]], "partition 1 lists 1 nodes"),
        (1, 1, [[0, 2]], "every node from 0 to 1 once"),
        (1, 1, [[0, 0]], "every node from 0 to 1 once"),
        (1, 1, [[0, 65537]], "every node from 0 to 1 once"),
    ],
)
def test_a_wrong_table_is_refused(partitions: int, replicas: int, lists: list[list[int]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Ring(partitions, replicas, lists)


def test_wrong_arguments_raise() -> None:
    ring = Ring(2, 1, [[0, 1], [1, 0]])
    for partition in (-1, 2):
        with pytest.raises(IndexError, match=r"0\.\.1"):
            ring.homes_of(partition)
        with pytest.raises(IndexError, match=r"0\.\.1"):
            ring.order_of(partition)
    for wrong in ([None], ["text"]):
        with pytest.raises(TypeError):
            ring.preference_lists(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ring.preference_list("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 255"):
        ring.preference_list(b"key", b"b" * 256)


token_lists = st.lists(st.tuples(positions, st.integers(0, 9)), min_size=1, max_size=40, unique_by=lambda token: token[0])


@given(token_lists, positions, st.integers(0, 12))
def test_a_walk_over_tokens(tokens: list[tuple[bytes, int]], position: bytes, count: int) -> None:
    ring = BasicRing(tokens)
    assert ring.preference_list_at(position, count) == model.walk(tokens, position, count)
    assert ring.tokens() == sorted(tokens)
    assert ring.token_count == len(tokens)


@given(token_lists, keys, st.binary(max_size=64))
def test_a_key_walks_from_its_position(tokens: list[tuple[bytes, int]], key: bytes, bucket: bytes) -> None:
    assert BasicRing(tokens).preference_list(key, 3, bucket) == model.walk(tokens, model.key_position(key, bucket), 3)


@given(token_lists, positions)
def test_a_node_that_leaves_changes_only_lists_that_had_it(tokens: list[tuple[bytes, int]], position: bytes) -> None:
    before = BasicRing(tokens).preference_list_at(position, 10)
    left = [token for token in tokens if token[1] != before[0]]
    if left:
        assert BasicRing(left).preference_list_at(position, 10) == before[1:]


def test_tokens_by_weight() -> None:
    rng = random.Random(5)
    ring = BasicRing.random([100, 0, 300], rng.randbytes)
    assert (ring.token_count, ring.node_count) == (400, 3)
    first = [ring.preference_list(b"%d" % i, 1)[0] for i in range(20_000)]
    assert 1 not in first
    assert 0.65 < first.count(2) / len(first) < 0.85


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([], "at least one token"),
        ([(b"short", 1)], "16 bytes"),
        ([(bytes(16), -1)], "a node is a number"),
        ([(bytes(16), 65535)], "a node is a number"),
        ([(bytes(16), 1), (bytes(16), 2)], "same position"),
    ],
)
def test_wrong_tokens_are_refused(tokens: list[tuple[bytes, int]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BasicRing(tokens)


def test_tokens_that_are_counted_wrong_are_all_taken() -> None:
    class Miscounted(list[tuple[bytes, int]]):
        def __len__(self) -> int:
            return 1

    tokens = [(bytes([i]) * 16, i) for i in range(100)]
    assert BasicRing(Miscounted(tokens)).tokens() == tokens


def test_a_position_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        BasicRing([(bytes(16), 1)]).preference_list_at(bytes(15), 1)
