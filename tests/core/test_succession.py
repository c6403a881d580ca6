"""Placements after the first, against everything that could have been done: fair, spread, and no replica moved without need."""

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from dynamo_fast.core.digest import md5
from dynamo_fast.core.membership import (
    AddressChange,
    Change,
    Join,
    Leave,
    NodeEntry,
    Record,
    Replace,
    Roster,
    WeightChange,
    ZoneChange,
    make_record,
)
from dynamo_fast.core.placement import Member, Placement, PlacementError, first_placement
from dynamo_fast.core.succession import UnsafePlan, gains, member_of, moves_between, next_placement, placement_after
from tests.models import placement as model
from tests.models.succession import is_fair, least_moves

KINDS = ("join", "leave", "replace", "weight", "zone")


def nodes(count: int, zones: int = 1, seed: int = 1, weights: Sequence[int] = (100,)) -> list[Member]:
    rng = random.Random(seed)
    return [Member(rng.randbytes(16), f"host-{i}", f"zone-{i % zones}", weights[i % len(weights)]) for i in range(count)]


def in_order(members: Sequence[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.node_id)


def moved(parent: Placement, child: Placement) -> int:
    return sum(len(move.gained) for move in moves_between(parent, child))


def check_spread(placement: Placement, members: Sequence[Member]) -> None:
    """Distinct nodes, and as many hosts and zones as there are, in every partition."""
    members = in_order(members)
    assert placement.node_ids == tuple(member.node_id for member in members)
    hosts, zones = ({getattr(member, label) for member in members} for label in ("host", "zone"))
    for row in placement.table:
        assert sorted(row) == list(range(len(members)))
        homes = [members[node] for node in row[: placement.replicas]]
        assert len({home.host for home in homes}) == min(placement.replicas, len(hosts))
        assert len({home.zone for home in homes}) == min(placement.replicas, len(zones))


def check_fair(placement: Placement, members: Sequence[Member]) -> None:
    loads = placement.loads()
    load = [loads[member.node_id] for member in in_order(members)]
    assert model.is_possible(in_order(members), load, placement.partitions, placement.replicas)
    assert is_fair(in_order(members), load, placement.partitions, placement.replicas)


class Story:
    """A cluster whose members change at random: every step is a step of one kind, on hosts and zones that stay consistent."""

    def __init__(self, rng: random.Random, hosts: int, zones: int, weights: Sequence[int]) -> None:
        self.rng = rng
        self.zone_of = {f"host-{host}": f"zone-{host % zones}" for host in range(hosts)}
        self.zones = [f"zone-{zone}" for zone in range(zones)]
        self.weights = weights
        self.members = [self.fresh()]

    def fresh(self) -> Member:
        host = self.rng.choice(list(self.zone_of))
        return Member(self.rng.randbytes(16), host, self.zone_of[host], self.rng.choice(self.weights))

    def step(self, most: int, kinds: Sequence[str] = KINDS) -> tuple[list[Member], dict[bytes, bytes]]:
        """The members after the next change, and who replaces whom."""
        kind, members = self.rng.choice(kinds), list(self.members)
        index = self.rng.randrange(len(members))
        if kind == "join" and len(members) < most:
            members.append(self.fresh())
        elif kind == "leave" and len(members) > 1:
            members.pop(index)
        elif kind == "replace":
            old, members[index] = members[index], self.fresh()
            return members, {old.node_id: members[index].node_id}
        elif kind == "weight":
            members[index] = replace(members[index], weight=self.rng.choice(self.weights))
        elif kind == "zone":
            self.zone_of[members[index].host] = self.rng.choice(self.zones)
            members = [replace(member, zone=self.zone_of[member.host]) for member in members]
        return members, {}


@pytest.mark.parametrize("seed", range(40))
def test_every_small_cluster_moves_as_little_as_anything_could(seed: int) -> None:
    rng = random.Random(seed)
    replicas, partitions = rng.randint(1, 3), rng.choice([4, 8])
    story = Story(rng, rng.randint(2, 5), rng.randint(1, 3), rng.choice([(1,), (1, 2, 3), (1, 7, 20)]))
    placement = first_placement(story.members, partitions, replicas)
    beyond = 0
    for _ in range(12):
        after, replaced = story.step(most=4)
        child = next_placement(placement, story.members, after, replicas, replaced=replaced, unsafe=True)
        check_spread(child, after)
        check_fair(child, after)
        index = {member.node_id: i for i, member in enumerate(in_order(after))}
        heirs = [index.get(replaced.get(node_id, node_id)) for node_id in placement.node_ids]
        kept = [{heir for node in row[: placement.replicas] if (heir := heirs[node]) is not None} for row in placement.table]
        inherited = placement.loads()[next(iter(replaced))] if replaced else 0
        # Copies to the heir of a replaced node are not in the model's count: it sees the heir as having what it is to get.
        beyond += max(0, moved(placement, child) - inherited - least_moves(in_order(after), child.replicas, kept))
        placement, story.members = child, after
    assert beyond <= 1  # a chain of hosts and zones in each other's way may move one more than the best


@pytest.mark.parametrize("seed", range(25))
def test_long_histories_do_not_drift(seed: int) -> None:
    rng = random.Random(seed)
    replicas, partitions, zones = rng.choice([2, 3, 5]), rng.choice([64, 256]), rng.choice([1, 2, 3, 5])
    story = Story(rng, rng.choice([8, 20]), zones, rng.choice([(1,), (1, 2), (50, 80, 100)]))
    placement = first_placement(story.members, partitions, replicas)
    for _ in range(40):
        after, replaced = story.step(most=16, kinds=("join", "join", *KINDS))
        child = next_placement(placement, story.members, after, replicas, replaced=replaced, unsafe=True)
        check_spread(child, after)
        check_fair(child, after)
        placement, story.members = child, after


@pytest.mark.parametrize(("count", "partitions"), [(3, 256), (4, 1024), (9, 256), (10, 1024), (30, 4096), (99, 1024), (199, 4096)])
@pytest.mark.parametrize("weights", [(100,), (80, 100, 120)])
def test_a_join_moves_the_joiners_share_and_nothing_else(count: int, partitions: int, weights: Sequence[int]) -> None:
    members = nodes(count + 1, weights=weights, seed=count)
    joiner = members[-1].node_id
    parent = first_placement(members[:-1], partitions, 3)
    child = next_placement(parent, members[:-1], members, 3)
    check_spread(child, members)
    moves = moves_between(parent, child)
    assert {node_id for move in moves for node_id in move.gained} == {joiner}
    assert moved(parent, child) == child.loads()[joiner]
    ideal = Fraction(partitions * 3 * members[-1].weight, sum(member.weight for member in members))
    assert moved(parent, child) <= max(ideal * 105 / 100, -(-ideal // 1))


@pytest.mark.parametrize("zones", [1, 3, 5])
@pytest.mark.parametrize(("count", "partitions"), [(5, 256), (10, 1024), (30, 4096), (200, 4096)])
def test_a_leave_moves_what_the_leaver_held(count: int, partitions: int, zones: int) -> None:
    members = nodes(count, zones=zones, seed=count)
    parent = first_placement(members, partitions, 3)
    for leaver in members[: max(1, 30 // count)]:
        stay = [member for member in members if member != leaver]
        child = next_placement(parent, members, stay, 3, unsafe=True)
        check_spread(child, stay)
        before, loads = parent.loads(), child.loads()
        needed = sum(max(0, loads[member.node_id] - before[member.node_id]) for member in stay)
        assert moved(parent, child) == needed
        # In three zones of 3 replicas everything of the leaver stays in its zone; else nobody else has anything to give either.
        assert needed == before[leaver.node_id]


@pytest.mark.parametrize("zones", [1, 3])
def test_a_replacement_takes_exactly_the_places_of_the_replaced(zones: int) -> None:
    members = nodes(12, zones=zones, weights=(100, 200))
    parent = first_placement(members, 1024, 3)
    old, new = members[4], replace(members[4], node_id=b"n" * 16, host="another")
    after = [new if member == old else member for member in members]
    child = next_placement(parent, members, after, 3, replaced={old.node_id: new.node_id})
    check_spread(child, after)
    held = {partition for partition, row in enumerate(parent.table) if parent.node_ids.index(old.node_id) in row[:3]}
    moves = moves_between(parent, child)
    assert {move.partition for move in moves} == held
    assert all((move.gained, move.lost) == ((new.node_id,), (old.node_id,)) for move in moves)


def test_a_weight_moves_only_what_it_gains_or_loses() -> None:
    members = nodes(10)
    parent = first_placement(members, 1024, 3)
    for weight in (50, 120, 200):
        after = [replace(members[0], weight=weight), *members[1:]]
        child = next_placement(parent, members, after, 3)
        check_fair(child, after)
        change = child.loads()[members[0].node_id] - parent.loads()[members[0].node_id]
        assert moved(parent, child) == abs(change)
        assert (change > 0) == (weight > 100)


@pytest.mark.parametrize("seed", range(10))
def test_who_becomes_a_home_takes_over_from_all_homes_before_and_who_is_one_has_what_it_needs(seed: int) -> None:
    rng = random.Random(seed)
    members = nodes(6, seed=seed)
    after = [*rng.sample(members, 4), *nodes(2, seed=100 + seed)]
    parent = first_placement(members, 64, 3)
    child = next_placement(parent, members, after, 3, unsafe=True)
    for member in after:
        gained = gains(parent, child, member.node_id)
        for partition in range(64):
            were, are = homes(parent, partition), homes(child, partition)
            assert (partition in gained) == (member.node_id in are - were)
            assert partition not in gained or gained[partition] == tuple(sorted(were))
    assert all(gains(parent, child, member.node_id) == {} for member in members if member not in after)


@pytest.mark.parametrize(("count", "left"), [(3, 2), (3, 1), (2, 1)])
def test_with_fewer_homes_than_before_those_that_stay_take_over_what_those_that_go_have(count: int, left: int) -> None:
    """Or W copies could be at those that go, but for one, and R of those that stay would miss them."""
    members = nodes(count)
    parent = first_placement(members, 16, 3)
    child = next_placement(parent, members, members[:left], 3, unsafe=True)
    gone = tuple(sorted(member.node_id for member in members[left:]))
    for member in members[:left]:
        assert gains(parent, child, member.node_id) == dict.fromkeys(range(16), gone)


def homes(placement: Placement, partition: int) -> set[bytes]:
    return {placement.node_ids[node] for node in placement.table[partition][: placement.replicas]}


def test_the_same_members_keep_every_home() -> None:
    members = nodes(10, zones=3, weights=(1, 2))
    parent = first_placement(members, 256, 3)
    child = next_placement(parent, members, members, 3)
    assert moves_between(parent, child) == []
    assert (child.number, child.parent_digest) == (2, parent.digest)


@pytest.mark.parametrize("seed", range(30))
def test_the_order_of_members_and_changes_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    story = Story(rng, 6, 3, (1, 2, 5))
    for _ in range(6):
        story.members, _ = story.step(most=9, kinds=("join",))
    parent = first_placement(story.members, 64, 3)
    after, replaced = story.step(most=9)
    ids = [rng.randbytes(16) for _ in range(4)]
    one = next_placement(parent, story.members, after, 3, replaced=replaced, changes=ids, unsafe=True)
    before, again = list(story.members), list(after)
    for order in (before, again, ids):
        rng.shuffle(order)
    assert next_placement(parent, before, again, 3, replaced=replaced, changes=ids, unsafe=True) == one
    assert one.record.changes == tuple(sorted(ids))
    assert Placement.from_table(one.record, one.replicas, one.node_ids, one.table_bytes()) == one


@pytest.mark.parametrize("partitions", [256, 1024])
@pytest.mark.parametrize("seed", range(5))
def test_a_dead_nodes_load_is_spread_after_any_number_of_changes(seed: int, partitions: int) -> None:
    rng = random.Random(seed + 1000)
    members = nodes(10, seed=seed)
    placement = first_placement(members, partitions, 3)
    for _ in range(10):
        leaver = rng.choice(members)
        fewer = [member for member in members if member != leaver]
        nine = next_placement(placement, members, fewer, 3)
        members = [*fewer, Member(rng.randbytes(16), leaver.host, leaver.zone, leaver.weight)]
        placement = next_placement(nine, fewer, members, 3)
    for dead in range(10):
        extra = model.extra_load(placement.table, 3, {dead})
        assert max(extra.values()) <= Fraction(sum(extra.values()), 9) * 13 / 10


def test_a_cluster_grows_from_one_node_to_its_replicas() -> None:
    members = nodes(5)
    placement = first_placement(members[:1], 64, 3)
    for count in (2, 3, 4, 5):
        child = next_placement(placement, members[: count - 1], members[:count], 3)
        assert child.replicas == min(count, 3)
        check_spread(child, members[:count])
        assert {node_id for move in moves_between(placement, child) for node_id in move.gained} == {members[count - 1].node_id}
        placement = child


def test_a_placement_of_a_history_is_the_same_for_ever() -> None:
    # Nodes of different releases must agree on it; another table is another algorithm.
    members = [Member(md5(b"%d" % i), f"h{i}", f"z{i % 3}", 1 + i % 3) for i in range(9)]
    parent = first_placement(members[:8], 64, 3)
    child = next_placement(parent, members[:8], members[1:], 3, changes=[b"c" * 16, b"a" * 16])
    assert (child.algorithm, child.digest.hex()) == (2, "5a69acee4315fbeb36197e8fddd9ce11")


def roster(count: int) -> Roster:
    entries = [NodeEntry(id=md5(b"%d" % i), address=f"10.0.0.{i}:7400", host=f"h{i}", zone=f"z{i % 3}") for i in range(count)]
    return Roster({entry.id: entry for entry in entries})


def records(*changes: Change, time: int = 1) -> list[Record]:
    return [make_record(change, author=b"a" * 16, time=time + i) for i, change in enumerate(changes)]


def test_a_placement_takes_in_the_changes_of_members_and_names_them() -> None:
    six = roster(6)
    ids = list(six.members)
    parent = first_placement([member_of(entry) for entry in six.members.values()], 64, 3)
    new, other = (NodeEntry(id=bytes([i]) * 16, address=f"{i}:1", host=f"new{i}", zone="z1") for i in (1, 2))
    changes = records(Join(member=new), Leave(node_id=ids[0]), WeightChange(node_id=ids[2], weight=120), ZoneChange(host="h3", zone="z1"),
                      Replace(old=ids[1], member=other), AddressChange(node_id=ids[4], address="moved:1"))  # fmt: skip
    child, after = placement_after(parent, six, changes[::-1], 3)
    assert set(child.record.changes) == {record.id for record in changes[:-1]}  # an address is none of its concerns
    assert set(child.node_ids) == set(after.members) == {new.id, other.id, *ids[2:]}
    assert (after.members[ids[2]].weight, after.members[ids[3]].zone, after.departed) == (120, "z1", {ids[0], ids[1]})
    check_spread(child, [member_of(entry) for entry in after.members.values()])
    check_fair(child, [member_of(entry) for entry in after.members.values()])


def test_a_late_record_comes_after_what_is_taken_in_whatever_its_time() -> None:
    six = roster(6)
    parent = first_placement([member_of(entry) for entry in six.members.values()], 64, 3)
    one = next(iter(six.members))
    second, after = placement_after(parent, six, records(WeightChange(node_id=one, weight=150), time=9), 3)
    third, last = placement_after(second, after, records(WeightChange(node_id=one, weight=50), time=2), 3)
    assert (after.members[one].weight, last.members[one].weight) == (150, 50)
    assert (third.number, third.parent_digest) == (3, second.digest)
    leaving, gone = placement_after(third, last, records(Leave(node_id=one), time=1), 3)
    again, still = placement_after(leaving, gone, records(Join(member=six.members[one]), time=12), 3)
    assert one not in still.members
    assert one not in again.node_ids


def refused(before: list[Member], after: list[Member], reason: str) -> None:
    parent = first_placement(before, 64, 3)
    with pytest.raises(UnsafePlan, match=reason):
        next_placement(parent, before, after, 3)
    check_spread(next_placement(parent, before, after, 3, unsafe=True), after)


def test_unsafe_plans_are_refused_with_what_would_help() -> None:
    three, six = nodes(3), nodes(6, zones=3)
    refused(three, three[:2], "2 members would be left for 3 replicas of each partition; let another node join first")
    shared = [*three[:2], replace(three[2], node_id=b"x" * 16, host=three[0].host), three[2]]
    refused(shared, shared[:3], "share a host: 2 hosts would be left for 3 replicas; let a node on another host join first")
    without = [member for member in six if member.zone != "zone-1"]
    refused(six, without, "in 3 zones would be in 2, because zone 'zone-1' would have no member left; let a node there, or in another new")
    even = nodes(6)
    heavy = [replace(even[0], weight=300), *even[1:]]
    refused(even, heavy, "for its weight of 300 among 500 of the others together; give it 249 at most, or the others more")
    two_zones = nodes(5, zones=2)
    alone = Member(b"a" * 16, "other", "zone-3", 100)
    refused(two_zones, [*two_zones, alone], "stands alone in zone 'zone-3' and each partition has a replica there; let more nodes join")


def test_what_is_no_worse_than_before_is_not_refused() -> None:
    two = nodes(2)
    next_placement(first_placement(two, 64, 3), two, two[:1] + nodes(3)[2:], 3)
    four = [replace(member, zone=zone) for member, zone in zip(nodes(4), "aabc", strict=True)]
    grown = [*four, Member(b"g" * 16, "more", "a", 100)]
    next_placement(first_placement(four, 64, 3), four, grown, 3)  # the nodes alone in their zones held everything already


def test_a_weight_that_is_just_not_too_much_is_not_refused() -> None:
    members = nodes(6)
    next_placement(first_placement(members, 64, 3), members, [replace(members[0], weight=240), *members[1:]], 3)


def test_contradictions_are_refused_even_as_unsafe() -> None:
    members = nodes(4)
    parent = first_placement(members[:3], 16, 3)
    strange = b"s" * 16

    def impossible(reason: str, before: list[Member], after: list[Member], replaced: dict[bytes, bytes]) -> None:
        with pytest.raises(PlacementError, match=reason):
            next_placement(parent, before, after, 3, replaced=replaced, unsafe=True)

    impossible("members before are not the 3 nodes of placement 1", members[:2], members, {})
    impossible("is to be replaced", members[:3], members, {members[0].node_id: members[3].node_id})
    impossible("is to be replaced", members[:3], members, {strange: members[3].node_id})
    impossible("is to replace another", members[:3], members[:2], {members[2].node_id: strange})
    impossible("cannot replace two", members[:3], members[2:], {member.node_id: members[3].node_id for member in members[:2]})
    impossible("1 to 1024 members, not 0", members[:3], [], {})
