"""Nodes of which some cannot be reached: who stands in for whom."""

from __future__ import annotations

from itertools import combinations

from dynamo_fast.storage.schema import decode_record
from tests.node.planes import Planes

KEY = b"k"


def order(cluster: Planes, key: bytes = KEY) -> tuple[int, ...]:
    """All nodes in the key's preference order: homes, then fallbacks."""
    return cluster.homes(key) + cluster.ring.fallbacks(key)


def owed(cluster: Planes, node: int, key: bytes = KEY) -> int:
    record = cluster.record(node, key)
    assert record is not None
    return decode_record(record).owed


def kill(cluster: Planes, *numbers: int) -> None:
    for number in numbers:
        cluster.isolate(number)


def mend(cluster: Planes) -> None:
    for one, two in combinations(range(len(cluster.nodes)), 2):
        if not cluster.linked(one, two):
            cluster.link(one, two)
