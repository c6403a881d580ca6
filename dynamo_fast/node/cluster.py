"""What this node knows of its cluster, on disk before it is in force: the history of changes and the placement that follows from it.

Every change, our own or learned, goes through `merge`: first the new history is written and synced, then the data plane is told, then
whoever waits for news is woken. A crash in between leaves a node that knows more than it has acted on, and acts on it when it starts.

Nothing here moves data yet, so the placement is the one of the birth for the life of the cluster; a change that would need another one
is refused where it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.membership import (
    AddressChange,
    Change,
    ClusterView,
    HistoryError,
    MemberChange,
    NodeEntry,
    Record,
    hybrid_time,
    make_record,
)
from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.birth import placement_of
from dynamo_fast.node.identity import DataDirectory
from dynamo_fast.node.interfaces import DataPlane

log = logging.getLogger("dynamo_fast.node")


class PlacementRefused(HistoryError):
    """The history asks for a placement that this version does not reproduce; working by another one would lose writes."""


class ChangeRefused(HistoryError):
    """A change of members is asked for, which this version could write down and not carry out."""


@dataclass(frozen=True)
class UnderWay:
    """A change that is under way on this node: from which placement to which, and the step that this node does (core/change.py)."""

    old: Placement
    new: Placement
    step: Step


class Cluster:
    """The history and placement of one node. `own` is how this node presents itself to the others."""

    def __init__(
        self, directory: DataDirectory, own: NodeEntry, env: Env, data_plane: DataPlane, *, partitions: int, replicas: int
    ) -> None:
        self.own = own
        self.history = directory.load_history()
        self.placement: Placement | None = None  # by which reads go, and all that there is but during a change
        self.change: UnderWay | None = None
        self._directory = directory
        self._env = env
        self._data_plane = data_plane
        self._numbers = (partitions, replicas)
        self._one_at_a_time = trio.Lock()
        self._news = trio.Event()
        self._told: ClusterView | None = None

    @property
    def node_id(self) -> bytes:
        return self.own.id

    @property
    def address(self) -> str:
        return self.own.address

    @property
    def view(self) -> ClusterView | None:
        return self.history.view

    @property
    def cluster_id(self) -> bytes | None:
        return self.view.cluster_id if self.view else None

    @property
    def is_member(self) -> bool:
        return self.view is not None and self.node_id in self.view.members

    @property
    def unretired(self) -> tuple[Placement, ...]:
        """The placements in which this node may be a home: the one in force; during a change the one that goes and the one that comes."""
        if self.change is not None:
            return self.change.old, self.change.new
        return () if self.placement is None else (self.placement,)

    def named(self, name: int) -> Placement | None:
        """The unretired placement of that name: what other members may work by."""
        return next((one for one in self.unretired if one.name == name), None)

    @property
    def hint_placement(self) -> Placement | None:
        """In whose slots hints are kept now, and to whose homes they are handed."""
        if self.change is not None and self.change.step >= Step.DOUBLE:
            return self.change.new
        return self.change.old if self.change is not None else self.placement

    def news(self) -> trio.Event:
        """Set at the next change of the history; ask again after each."""
        return self._news

    def start(self) -> None:
        """Puts in force what was on disk; PlacementRefused when this version cannot work by it."""
        self._apply()

    async def merge(self, records: Iterable[Record]) -> list[Record]:
        """Takes in records and returns those that were new, once they are on disk and in force.

        Raises HistoryError (ForeignHistoryError) for records that do not fit, OSError when the disk refuses: then nothing changed.
        """
        async with self._one_at_a_time:
            return await self._merge(records)

    async def add(self, change: Change) -> Record:
        """Makes a record of a change decided here; as `merge`. It is later than all that this node knows.

        Raises ChangeRefused for a change of members: nothing here moves data yet.
        """
        if isinstance(change, MemberChange):
            raise ChangeRefused("this version moves no data between nodes, so no member can join, leave, be replaced or change its share")
        async with self._one_at_a_time:
            time = hybrid_time(self.history.last_time, self._env.wall_ms())
            record = make_record(change, author=self.node_id, time=time)
            await self._merge([record])
            return record

    async def announce(self) -> None:
        """A member that has moved says so: the same id at another address is the same member."""
        view = self.view
        if view is not None and self.node_id in view.members and view.members[self.node_id].address != self.address:
            log.info("this member has moved", extra={"from": view.members[self.node_id].address, "to": self.address})
            await self.add(AddressChange(node_id=self.node_id, address=self.address))

    async def _merge(self, records: Iterable[Record]) -> list[Record]:
        merged = self.history.copy()
        new = merged.merge(records)
        if not new:
            return []
        if self.view is None and merged.view is not None:
            self._placement_of(merged.view)  # a birth that this version cannot work by is refused before it is kept
        await self._env.offload(self._directory.save_history, merged)
        self.history = merged
        self._apply()
        self._news, happened = trio.Event(), self._news
        happened.set()
        return new

    def _apply(self) -> None:
        view = self.view
        if view is None or view == self._told:
            return
        if self.placement is None:
            self.placement = self._placement_of(view)
            self._data_plane.set_cluster(view.cluster_id, view.mac_key)
            known = {"cluster": view.cluster_id.hex(), "members": len(view.members), "member": self.is_member}
            log.info("the cluster is known", extra=known)
        if self._told is None or self._told.members != view.members:
            first = {member.id: member for member in view.first_members}
            entries = [view.members.get(node_id, first[node_id]) for node_id in self.placement.node_ids]
            self._data_plane.set_placement(
                in_force(self.placement), [entry.host for entry in entries], [entry.address for entry in entries]
            )
            if set(view.members) != set(self.placement.node_ids):
                log.warning("the history names other members than the placement; this version moves no data and keeps the placement")
        if self._told is None or self._told.buckets != view.buckets:
            self._data_plane.set_buckets(view.buckets)
        self._told = view

    def _placement_of(self, view: ClusterView) -> Placement:
        """The placement of the birth, which must come out as the birth says; PlacementRefused when it does not."""
        if (view.partitions, view.replicas) != self._numbers:
            raise PlacementRefused(
                f"the cluster was born with cluster.partitions = {view.partitions} and cluster.replicas = {view.replicas},"
                f" this node was started with {self._numbers[0]} and {self._numbers[1]}: give it the cluster's"
            )
        placement = placement_of(view.first_members, view.partitions, view.replicas)
        if placement.digest != view.placement_digest:
            raise PlacementRefused(
                f"the cluster's placement was made by algorithm {view.placement_algorithm}, which this version"
                f" (algorithm {placement.algorithm}) does not reproduce: run the version that made it"
            )
        return placement
