"""Placement against the model of a good one: spread over hosts and zones, fair by weight, the same on every node."""

import math
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_fast.core.digest import md5
from dynamo_fast.core.lineage import NO_PARENT
from dynamo_fast.core.placement import Member, Placement, PlacementError, canonical_bytes, first_placement
from tests.models import placement as model
from tests.models.succession import fullest, is_fair, least_fullest


def nodes(count: int, hosts: int | None = None, zones: int = 1, seed: int = 1) -> list[Member]:
    rng = random.Random(seed)
    hosts = hosts or count
    return [Member(rng.randbytes(16), f"host-{i % hosts}", f"zone-{i % hosts % zones}", 1) for i in range(count)]


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Member], int, int]:
    """Members of all shapes, a number of partitions that suffices for them, and a number of replicas."""
    count, hosts, zones = draw(st.integers(1, 12)), draw(st.integers(1, 8)), draw(st.integers(1, 5))
    weights = draw(st.sampled_from([st.just(1), st.integers(1, 4), st.integers(1, 1000)]))
    members = []
    for i in range(count):
        host = draw(st.integers(0, hosts - 1))
        members.append(Member(md5(b"%d" % i), f"host-{host}", f"zone-{host % zones}", draw(weights)))
    return members, draw(st.sampled_from([16, 64, 256])), draw(st.integers(1, 5))


def in_order(members: list[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.node_id)


@settings(max_examples=150)
@given(clusters())
def test_homes_are_spread_and_shared_out_by_weight(cluster: tuple[list[Member], int, int]) -> None:
    members, partitions, replicas = cluster
    placement = first_placement(members, partitions, replicas)
    members = in_order(members)
    replicas = min(replicas, len(members))
    assert (placement.partitions, placement.replicas) == (partitions, replicas)
    assert placement.node_ids == tuple(member.node_id for member in members)
    hosts, zones = ({getattr(member, label) for member in members} for label in ("host", "zone"))
    for row in placement.table:
        assert sorted(row) == list(range(len(members)))
        assert len({members[node].host for node in row[:replicas]}) == min(replicas, len(hosts))
        assert len({members[node].zone for node in row[:replicas]}) == min(replicas, len(zones))
    load = model.loads(placement.table, replicas, len(members))
    assert model.is_possible(members, load, partitions, replicas)
    assert model.unfair_move(members, load, partitions, replicas) is None


@settings(max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=3, max_size=20))
def test_no_node_holds_less_than_the_whole_part_of_its_share_when_nothing_stands_in_the_way(weights: list[int]) -> None:
    members = [replace(member, weight=weight) for member, weight in zip(nodes(len(weights)), weights, strict=True)]
    load = model.loads(first_placement(members, 256, 3).table, 3, len(members))
    if max(weights) * 3 <= sum(weights):
        for member, held in zip(in_order(members), load, strict=True):
            assert held >= 256 * 3 * member.weight // sum(weights)


@settings(max_examples=40)
@given(clusters())
def test_no_table_has_a_less_full_fullest_node(cluster: tuple[list[Member], int, int]) -> None:
    members, _, replicas = cluster
    members, replicas = members[:4], min(replicas, len(members[:4]))
    load = model.loads(first_placement(members, 4, replicas).table, replicas, len(members))
    assert is_fair(in_order(members), load, 4, replicas)
    assert fullest(in_order(members), load) == least_fullest(in_order(members), 4, replicas)


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3, 4), (7, 11, 13)])
def test_the_fullest_node_is_as_empty_as_whole_partitions_allow_at_every_size(weights: tuple[int, ...]) -> None:
    for count, partitions in ((3, 256), (4, 1024), (7, 256), (20, 4096), (50, 256), (111, 1024), (200, 256), (200, 4096)):
        members = [replace(member, weight=weights[i % len(weights)]) for i, member in enumerate(nodes(count, seed=count))]
        load = model.loads(first_placement(members, partitions, 3).table, 3, count)
        level = fullest(in_order(members), load)
        # Were the fullest to hold any less, there would not be room for everything.
        room = sum(min(math.ceil(level * member.weight) - 1, partitions) for member in members)
        assert room < partitions * 3


def test_the_fullest_node_is_within_one_percent_of_what_whole_partitions_allow() -> None:
    for count, partitions in ((5, 64), (7, 256), (10, 1024), (48, 1024)):
        for zones in (1, 3, 5):
            members = nodes(count - count % zones, zones=zones, seed=count)
            load = model.loads(first_placement(members, partitions, 3).table, 3, len(members))
            whole = -(-partitions * 3 // len(members))
            assert max(load) * 100 <= whole * 101, (count, zones)
            assert sum(load) == partitions * 3


@settings(max_examples=40)
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(cluster: tuple[list[Member], int, int], rng: random.Random) -> None:
    members, partitions, replicas = cluster
    again = list(members)
    rng.shuffle(again)
    assert first_placement(again, partitions, replicas) == first_placement(members, partitions, replicas)


def test_a_node_too_heavy_for_its_share_holds_every_partition_once() -> None:
    members = nodes(5)
    members[2] = replace(members[2], weight=100)
    load = model.loads(first_placement(members, 1024, 3).table, 3, 5)
    heavy = in_order(members).index(members[2])
    assert load.pop(heavy) == 1024
    assert load == [512] * 4


def test_workers_of_one_host_are_never_homes_of_one_partition() -> None:
    members = nodes(12, hosts=3)
    for row in first_placement(members, 1024, 3).table:
        assert len({in_order(members)[node].host for node in row[:3]}) == 3


def test_first_homes_are_shared_out_too() -> None:
    first = Counter(row[0] for row in first_placement(nodes(10), 1024, 3).table)
    assert max(first.values()) - min(first.values()) <= 3


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("replicas", [2, 3, 5])
@pytest.mark.parametrize("partitions", [256, 1024])
def test_a_dead_node_leaves_a_little_to_everyone(seed: int, replicas: int, partitions: int) -> None:
    table = first_placement(nodes(10, seed=seed), partitions, replicas).table
    for dead in range(10):
        extra = model.extra_load(table, replicas, {dead})
        mean = Fraction(sum(extra.values()), 9)
        assert max(extra.values()) <= mean * 13 / 10


def test_two_dead_nodes_leave_a_little_to_everyone() -> None:
    table = first_placement(nodes(10), 1024, 3).table
    for dead in ({0, 1}, {3, 7}, {8, 9}):
        extra = model.extra_load(table, 3, dead)
        assert max(extra.values()) <= Fraction(sum(extra.values()), 8) * 13 / 10


def test_a_dead_nodes_load_goes_to_others_by_weight() -> None:
    members = in_order([replace(member, weight=1 + i % 2) for i, member in enumerate(nodes(10))])
    table = first_placement(members, 1024, 3).table
    for dead in range(10):
        extra = model.extra_load(table, 3, {dead})
        living = [node for node in range(10) if node != dead]
        mean = Fraction(sum(extra.values()), sum(members[node].weight for node in living))
        assert all(Fraction(extra[node], members[node].weight) <= mean * 13 / 10 for node in living)


def test_partners_of_a_node_are_all_over_the_cluster() -> None:
    table = first_placement(nodes(10), 1024, 3).table
    for node in range(10):
        partners = Counter(other for row in table if node in row[:3] for other in row[:3] if other != node)
        assert len(partners) == 9
        assert max(partners.values()) <= 1.5 * sum(partners.values()) / 9


def test_the_first_fallback_is_on_a_new_host_and_in_a_new_zone_while_there_are_any() -> None:
    for members in (nodes(12, hosts=4), nodes(12, hosts=12, zones=4)):
        for row in first_placement(members, 256, 3).table:
            assert len({in_order(members)[node].host for node in row[:4]}) == 4
            assert len({in_order(members)[node].zone for node in row[:4]}) == min(4, len({m.zone for m in members}))


def test_a_placement_is_the_same_for_ever() -> None:
    # Nodes of different releases must agree on it; another table is another algorithm.
    placement = first_placement([Member(md5(b"%d" % i), f"h{i}", f"z{i % 2}", 1 + i % 3) for i in range(7)], 64, 3)
    assert placement.digest.hex() == "73065c0c50718022ad99a001d1630fb0"
    assert placement.algorithm == 2


def test_name_and_digest() -> None:
    placement = first_placement(nodes(4), 16, 3)
    assert placement.number == 1
    assert placement.parent_digest == NO_PARENT
    assert placement.record.changes == ()
    assert placement.digest == placement.record.table_digest
    assert placement.digest == md5(canonical_bytes(2, 3, placement.node_ids, placement.table_bytes()))
    assert placement.name.to_bytes(8, "little") == placement.digest[:4] + b"\1\0\0\0"


def test_the_ring_of_a_placement() -> None:
    placement = first_placement(nodes(5), 16, 3)
    ring = placement.ring()
    assert (ring.partitions, ring.replicas, ring.node_count) == (16, 3, 5)
    assert tuple(ring.order_of(partition) for partition in range(16)) == placement.table


def test_a_placement_survives_being_sent() -> None:
    placement = first_placement(nodes(5), 16, 3)
    sent = Placement.from_table(placement.record, 3, placement.node_ids, placement.table_bytes())
    assert sent == placement


def test_wrong_parts_are_refused() -> None:
    placement = first_placement(nodes(5), 16, 3)
    ids, table = placement.node_ids, placement.table_bytes()

    def refused(reason: str, replicas: int = 3, ids: tuple[bytes, ...] = ids, table: bytes = table) -> None:
        with pytest.raises(PlacementError, match=reason):
            Placement.from_table(placement.record, replicas, ids, table)

    refused("sorted", ids=ids[::-1])
    refused("sorted", ids=(*ids[:4], ids[3]))
    refused("sorted", ids=())
    refused("16 bytes", ids=(*ids[:4], b"short"))
    refused("9 are left over", table=table[:-1])
    refused("power of two", table=table[:-10])
    refused("power of two", table=b"")
    refused("6 distinct homes", replicas=6)
    refused("replicas must be from 1", replicas=0)
    refused("partition 15 does not list", table=table[:-2] + table[-4:-2])
    refused("another digest than its record's", table=table[10:] + table[:10])
    refused("another digest than its record's", replicas=2)


@pytest.mark.parametrize(
    ("members", "partitions", "replicas", "reason"),
    [
        ([], 16, 3, "1 to 1024 members, not 0"),
        (nodes(1025), 4096, 3, "not 1025"),
        (nodes(3), 12, 3, "power of two from 1 to 65536, not 12"),
        (nodes(3), 131072, 3, "power of two"),
        (nodes(129), 32768, 3, "4227072 entries of a table that holds at most 4194304"),
        (nodes(3), 16, 0, "replicas must be from 1 to 16, not 0"),
        (nodes(3), 16, 17, "replicas must be from 1 to 16, not 17"),
        ([*nodes(3), nodes(1)[0]], 16, 3, "is a member twice"),
        ([Member(b"short", "h", "z", 1)], 16, 3, "16 bytes, but 73686f7274 has 5"),
        ([replace(nodes(1)[0], weight=0)], 16, 3, "has weight 0; weights go from 1 to 65536"),
        ([replace(nodes(1)[0], weight=65537)], 16, 3, "has weight 65537"),
        ([replace(m, host="same", zone=f"zone-{i}") for i, m in enumerate(nodes(2))], 16, 3, "'same' is said to be in zone 'zone-0'"),
        (nodes(7), 2, 3, "2 partitions with 3 replicas are 6 to hold, so 7 nodes cannot have one each"),
    ],
)
def test_impossible_plans_are_refused(members: list[Member], partitions: int, replicas: int, reason: str) -> None:
    with pytest.raises(PlacementError, match=reason):
        first_placement(members, partitions, replicas)
