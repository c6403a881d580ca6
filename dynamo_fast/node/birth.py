"""The birth of a cluster: `--bootstrap a,b,c` on each of its first members.

The node whose address sorts first waits until every address of the list has asked, then makes the one birth record: cluster id, secret,
members, and the placement that follows from them. It is on that node's disk before anyone is told, so that a crash at any point leads
to one birth or none: before, all ask again; after, all who ask are given what is written. Nodes ask under the id in their data
directory; the last id to ask from an address counts until the birth, and none after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamo_fast.core.membership import Birth, NodeEntry
from dynamo_fast.core.placement import Placement, PlacementError, first_placement
from dynamo_fast.core.succession import member_of

RandomBytes = Callable[[int], bytes]


class BirthRefused(ValueError):
    """This node cannot be part of the birth; the sentence says why."""


def first_of(bootstrap: Sequence[str]) -> str:
    """The address whose node makes the birth record."""
    return min(bootstrap)


def placement_of(members: Sequence[NodeEntry], partitions: int, replicas: int) -> Placement:
    """The first placement of these members."""
    return first_placement([member_of(one) for one in members], partitions, replicas)


class Roll:
    """Who of the list has asked so far. Belongs to the node whose address sorts first."""

    def __init__(self, bootstrap: Sequence[str], own: NodeEntry) -> None:
        if own.address not in bootstrap:
            raise BirthRefused(f"--bootstrap {','.join(bootstrap)} does not name this node's own address, {own.address}")
        self._bootstrap = sorted(set(bootstrap))
        self._present = {own.address: own}

    @property
    def waiting_for(self) -> list[str]:
        """The addresses that have not asked yet, sorted."""
        return [address for address in self._bootstrap if address not in self._present]

    def ask(self, member: NodeEntry, bootstrap: Sequence[str]) -> None:
        """A node of the list is here; BirthRefused when its list is another one, or its id is taken."""
        if sorted(set(bootstrap)) != self._bootstrap:
            raise BirthRefused(f"{member.address} was started with --bootstrap {','.join(sorted(set(bootstrap)))},"
                               f" this node with {','.join(self._bootstrap)}: all must be given the same list")  # fmt: skip
        if member.address not in self._bootstrap:
            raise BirthRefused(f"{member.address} is not in its own --bootstrap {','.join(self._bootstrap)}")
        twin = next((one for one in self._present.values() if one.id == member.id and one.address != member.address), None)
        if twin is not None:
            raise BirthRefused(f"{member.address} and {twin.address} have the same node id: one data directory is a copy of the other")
        self._present[member.address] = member

    def birth(self, partitions: int, replicas: int, random_bytes: RandomBytes) -> Birth:
        """The record, once nobody is waited for. Every call makes another cluster: call it once and keep the result first."""
        if self.waiting_for:
            raise BirthRefused(f"the birth still waits for {', '.join(self.waiting_for)}")
        members = sorted(self._present.values(), key=lambda one: one.id)
        try:
            placement = placement_of(members, partitions, replicas)
        except PlacementError as error:
            raise BirthRefused(f"the birth has no placement: {error}") from error
        return Birth(cluster_id=random_bytes(16), mac_key=random_bytes(16), partitions=partitions, replicas=replicas, members=members,
                     placement_algorithm=placement.algorithm, placement_digest=placement.digest)  # fmt: skip
