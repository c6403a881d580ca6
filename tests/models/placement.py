"""What a good placement is, said without saying how to find one: the oracle for core.placement and core.quota."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from dynamo_fast.core.placement import Member


def loads(table: Sequence[Sequence[int]], replicas: int, nodes: int) -> list[int]:
    """Partitions of which each node is a home."""
    counts = Counter(node for row in table for node in row[:replicas])
    return [counts[node] for node in range(nodes)]


def is_possible(members: Sequence[Member], load: Sequence[int], partitions: int, replicas: int) -> bool:
    """Whether partitions can be dealt out in these numbers with as many distinct hosts and zones in each as there are."""
    if any(not 0 <= held <= partitions for held in load):
        return False
    for label in ("host", "zone"):
        groups: Counter[str] = Counter()
        for member, held in zip(members, load, strict=True):
            groups[getattr(member, label)] += held
        enough = len(groups) >= replicas
        if any(held > partitions if enough else held < partitions for held in groups.values()):
            return False
    return True


def unfair_move(members: Sequence[Member], load: Sequence[int], partitions: int, replicas: int) -> tuple[int, int] | None:
    """Two nodes of which the first could give a partition to the second and still hold more for its weight; else None."""
    for giver, giving in enumerate(members):
        for taker, taking in enumerate(members):
            if Fraction(load[giver] - 1, giving.weight) > Fraction(load[taker] + 1, taking.weight):
                moved = list(load)
                moved[giver] -= 1
                moved[taker] += 1
                if is_possible(members, moved, partitions, replicas):
                    return giver, taker
    return None


def extra_load(table: Sequence[Sequence[int]], replicas: int, dead: set[int]) -> Counter[int]:
    """How many partitions each living node takes over when some are dead: one for each dead home, in preference order."""
    extra: Counter[int] = Counter()
    for row in table:
        living = [node for node in row[replicas:] if node not in dead]
        extra.update(living[: len(dead.intersection(row[:replicas]))])
    return extra
