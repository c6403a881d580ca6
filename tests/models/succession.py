"""The least that any change of placement can move, found by trying everything: the oracle for core.moves and core.succession."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product

from dynamo_fast.core.placement import Member
from tests.models.placement import is_possible


def fullest(members: Sequence[Member], load: Sequence[int]) -> Fraction:
    """The most that a node holds for its weight."""
    return max(Fraction(held, member.weight) for member, held in zip(members, load, strict=True))


def is_fair(members: Sequence[Member], load: Sequence[int], partitions: int, replicas: int) -> bool:
    """No node could give a partition to one that would then hold less for its weight than the giver did."""
    for giver, giving in enumerate(members):
        for taker, taking in enumerate(members):
            if Fraction(load[giver], giving.weight) > Fraction(load[taker] + 1, taking.weight):
                moved = list(load)
                moved[giver] -= 1
                moved[taker] += 1
                if is_possible(members, moved, partitions, replicas):
                    return False
    return True


def least_fullest(members: Sequence[Member], partitions: int, replicas: int) -> Fraction:
    """The least that the fullest node can hold for its weight, over all ways to deal whole partitions out. For small clusters."""
    most = range(partitions + 1)
    return min(
        fullest(members, load)
        for load in product(most, repeat=len(members))
        if sum(load) == partitions * replicas and is_possible(members, load, partitions, replicas)
    )


def spread_rows(members: Sequence[Member], replicas: int) -> list[tuple[int, ...]]:
    """Every set of homes that a partition may have: as many distinct hosts and zones as there are."""
    hosts, zones = ({getattr(member, label) for member in members} for label in ("host", "zone"))
    return [
        row
        for row in combinations(range(len(members)), replicas)
        if len({members[node].host for node in row}) == min(replicas, len(hosts))
        and len({members[node].zone for node in row}) == min(replicas, len(zones))
    ]


def least_moves(members: Sequence[Member], replicas: int, kept: Sequence[set[int]]) -> int:
    """The fewest replicas that must be copied to a node that had none, over all fair tables; kept: each partition's homes by now."""
    rows = spread_rows(members, replicas)
    cost = {(0,) * len(members): 0}
    for homes in kept:
        following: dict[tuple[int, ...], int] = {}
        for load, moved in cost.items():
            for row in rows:
                reached = tuple(held + (node in row) for node, held in enumerate(load))
                total = moved + len(set(row) - homes)
                if total < following.get(reached, total + 1):
                    following[reached] = total
        cost = following
    return min(moved for load, moved in cost.items() if is_fair(members, load, len(kept), replicas))
