"""What this node knows of its cluster, on disk before it is in force: the history of changes, the placements that it works by, and how far
each node has said to be with a change of members (core/change.py).

Every change, our own or learned, goes through `merge`: first the new history is written and synced, then the data plane is told, then
whoever waits for news is woken. A crash in between leaves a node that knows more than it has acted on, and acts on it when it starts.
Likewise what this node tells of itself is on its disk before anybody hears it. How it goes from one placement to the next is decided in
succession.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import trio

from dynamo_fast.core.change import Progress, Step, digest_of_dead, merge_progress
from dynamo_fast.core.departure import Departure, departure_of, vouched_for
from dynamo_fast.core.in_force import InForce, in_force
from dynamo_fast.core.membership import (
    AddressChange,
    Change,
    ClusterView,
    HistoryError,
    NodeEntry,
    Record,
    hybrid_time,
    make_record,
)
from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.birth import placement_of
from dynamo_fast.node.identity import STARTS, DataDirectory, DirectoryRefused
from dynamo_fast.node.interfaces import DataPlane
from dynamo_fast.node.placements import Placements

log = logging.getLogger("dynamo_fast.node")

PROGRESS_FILE = "progress"
_progress_encoder = msgspec.msgpack.Encoder()
_progress_decoder = msgspec.msgpack.Decoder(Progress)


class PlacementRefused(HistoryError):
    """The history asks for a placement that this version does not reproduce; working by another one would lose writes."""


@dataclass(frozen=True)
class UnderWay:
    """A change that is under way on this node: from which placement to which, and the step that this node does (core/change.py)."""

    old: Placement
    new: Placement
    step: Step


class Cluster:
    """The history and placements of one node. `own` is how this node presents itself to the others."""

    def __init__(
        self, directory: DataDirectory, own: NodeEntry, env: Env, data_plane: DataPlane, *, partitions: int, replicas: int
    ) -> None:
        self.own = own
        self.history = directory.load_history()
        self.placement: Placement | None = None  # by which reads go, and all that there is but during a change
        self.change: UnderWay | None = None
        self.placements = Placements(directory, env)
        self.progress: dict[bytes, Progress] = load_progress(directory)
        self.clock_offsets_ms: dict[bytes, int] = {}  # by node, how far its clock was ahead of ours when we last spoke
        self.restored = False  # others have heard more from us, or of a later start, than this directory knows
        self.starts = directory.starts
        self.removed = False  # another member knows that we were declared dead, or are gone
        self._word = max((one.word for one in self.progress.values()), default=0)  # the last that this directory knows
        self._directory = directory
        self._env = env
        self._data_plane = data_plane
        self._numbers = (partitions, replicas)
        self._one_at_a_time = trio.Lock()
        self._news = trio.Event()
        self._told: ClusterView | None = None
        self._in_force: InForce | None = None

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
    def is_home(self) -> bool:
        """Of any partition, in a placement that may be worked by; as a member, or as one that departs and has not handed over yet."""
        return any(self.node_id in one.node_ids for one in self.unretired)

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
        """In whose slots hints are kept now, and to whose homes they are handed: as of InForce.hint_number."""
        if self.change is not None and self.change.step >= Step.SWITCHED:
            return self.change.new
        return self.change.old if self.change is not None else self.placement

    @property
    def company(self) -> frozenset[bytes]:
        """Whom this node keeps a connection with: members, those that leave, and all homes there are; never the dead, nor itself."""
        if self.view is None:
            return frozenset()
        homes = {node_id for placement in self.unretired for node_id in placement.node_ids}
        return frozenset((homes | self.view.members.keys() | self.view.leaving) - self.view.dead - {self.node_id})

    def refuses(self, node_id: bytes) -> bool:
        """Whether that node was declared dead, or has gone: an id that departed never returns."""
        return self.view is not None and node_id in self.view.dead

    def departure_of(self, node_id: bytes) -> Departure | None:
        """What that node is told when it dials us; None when it is not refused."""
        return departure_of(node_id, self.history)

    async def believes(self, departure: Departure) -> bool:
        """Whether it is true that this node was declared dead, or has left and is gone: then it serves nothing any more.

        It is when somebody who has the cluster's secret says so and our own history says the same once it has the records. OSError when
        these cannot be written.
        """
        view = self.view
        if view is None or not vouched_for(departure, self.node_id, view):
            return False
        try:
            await self.merge(departure.records)
        except HistoryError:
            return False
        if not self.refuses(self.node_id):
            return False
        if not self.removed:
            self.removed = True
            self._data_plane.drain()
            if len(departure.records) > 1:  # it has said itself that it is gone
                log.info("this node has left its cluster, and the others know that it is gone: it can be stopped")
            else:
                log.error("this node was declared dead and serves no requests any more: start it with an empty data directory")
        return True

    def news(self) -> trio.Event:
        """Set at the next change of the history, of the placements, or of what anybody has told; ask again after each."""
        return self._news

    def wake(self) -> None:
        """There is news."""
        self._news, happened = trio.Event(), self._news
        happened.set()

    def start(self) -> None:
        """Puts in force what was on disk; PlacementRefused when this version cannot work by it."""
        kept = self.placements.kept
        if len(kept) == 2:
            old, new = kept
            told = self.progress.get(self.node_id)
            step = Step(told.step) if told is not None and told.placement == new.digest else Step.NONE
            self._work_by(old, new, step, in_force(old, new, step))
        elif kept:
            self._work_by(kept[0], None, Step.NONE, in_force(kept[0]))
        self._apply()

    # The history ------------------------------------------------------------------------------------------------------------------

    async def merge(self, records: Iterable[Record]) -> list[Record]:
        """Takes in records and returns those that were new, once they are on disk and in force.

        Raises HistoryError (ForeignHistoryError) for records that do not fit, OSError when the disk refuses: then nothing changed.
        """
        async with self._one_at_a_time:
            return await self._merge(records)

    async def add(self, *changes: Change) -> list[Record]:
        """Makes records of changes decided here, in that order, all or none; as `merge`. They are later than all that this node knows."""
        async with self._one_at_a_time:
            time, records = self.history.last_time, []
            for change in changes:
                time = hybrid_time(time, self._env.wall_ms())
                records.append(make_record(change, author=self.node_id, time=time))
            await self._merge(records)
            return records

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
        if self._env.rarely("cluster: the disk is slow with the history"):
            await self._env.sleep(self._env.random())
        await self._env.offload(self._directory.save_history, merged)
        self.history = merged
        self._apply()
        self.wake()
        return new

    def _apply(self) -> None:
        view = self.view
        if view is None or view == self._told:
            return
        if self._told is None:
            self._data_plane.set_cluster(view.cluster_id, view.mac_key)
            known = {"cluster": view.cluster_id.hex(), "members": len(view.members), "member": self.is_member}
            log.info("the cluster is known", extra=known)
            if self._in_force is None and not view.announced:
                first = self._placement_of(view)
                self._work_by(first, None, Step.NONE, in_force(first))
            self._tell_data_plane(view)
        elif self._told.everyone != view.everyone:
            self._tell_data_plane(view)
        if self._told is None or self._told.buckets != view.buckets:
            self._data_plane.set_buckets(view.buckets)
        for node_id in view.dead:
            self.progress.pop(node_id, None)
        self._told = view

    def _placement_of(self, view: ClusterView) -> Placement:
        """The placement of the birth, which must come out as the birth says; PlacementRefused when it does not."""
        if (view.partitions, view.replicas) != self._numbers:
            raise PlacementRefused(
                f"the cluster was born with cluster.partitions = {view.partitions} and cluster.replicas = {view.replicas},"
                f" this node was started with {self._numbers[0]} and {self._numbers[1]}: give it the cluster's"
            )
        known = self.placements.of(view.placement_digest)
        if known is not None:
            return known
        placement = placement_of(view.first_members, view.partitions, view.replicas)
        if placement.digest != view.placement_digest:
            raise PlacementRefused(
                f"the cluster's placement was made by algorithm {view.placement_algorithm}, which this version"
                f" (algorithm {placement.algorithm}) does not reproduce: run the version that made it"
            )
        self.placements.note(placement)
        return placement

    # By what this node works ------------------------------------------------------------------------------------------------------

    async def work_by(self, old: Placement, new: Placement | None = None, step: Step = Step.NONE) -> None:
        """From now on this node does that step on the way from `old` to `new`, or knows `old` alone. The tables are on disk first."""
        change = None if new is None else UnderWay(old, new, step)
        if change == self.change and (change is not None or self.placement is old):
            return
        await self.placements.keep([old] if new is None else [old, new])
        self._work_by(old, new, step, await self._env.offload(in_force, old, new, step))
        self.wake()

    def _work_by(self, old: Placement, new: Placement | None, step: Step, in_force: InForce) -> None:
        self.change = None if new is None else UnderWay(old, new, step)
        self.placement = old if new is None or step < Step.SWITCHED else new
        self._in_force = in_force
        if self.view is not None and self._told is not None:  # else the data plane does not know the cluster yet
            self._tell_data_plane(self.view)

    def _tell_data_plane(self, view: ClusterView) -> None:
        if self._in_force is not None:
            entries = [view.everyone[node_id] for node_id in self._in_force.node_ids]
            self._data_plane.set_placement(self._in_force, [one.host for one in entries], [one.address for one in entries])

    # What is told of it -----------------------------------------------------------------------------------------------------------

    @property
    def dead_digest(self) -> bytes:
        return digest_of_dead(self.view.dead if self.view else ())

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be told: no change is under way, and all homes have said so."""
        view, placement = self.view, self.placement
        if view is None:
            return True
        if self.change is not None or placement is None or any(one.number > placement.number for one in view.announced):
            return False
        settled = placement.digest
        others = placement.node_ids if placement.number > 1 else ()
        told = (self.progress.get(node_id) for node_id in others if node_id not in view.dead)
        return all(one is not None and one.placement == settled and one.step == Step.SETTLED for one in told)

    async def tell(self, placement: bytes, step: Step, dead: bytes) -> None:
        """This node has got that far towards the placement with this digest, and knows so many to be dead. OSError: nothing was told."""
        async with self._one_at_a_time:
            told = Progress(self.node_id, self._word + 1, placement, step, dead)
            await self._env.offload(self._directory.write, PROGRESS_FILE, _progress_encoder.encode(told))
            self._word = told.word
            self.progress[self.node_id] = told
        self.wake()

    async def take_back(self) -> None:
        """What others have heard from us and this directory did not know is on its disk; OSError otherwise."""
        told = self.progress.get(self.node_id)
        if told is not None:
            await self._env.offload(self._directory.write, PROGRESS_FILE, _progress_encoder.encode(told))
        await self._env.offload(self._directory.write, STARTS, b"%d\n" % self.starts)
        self.restored = False

    def hear(self, told: Iterable[Progress], later_start: int = 0) -> None:
        """What another node has heard of all; and the number of a later start of this directory than ours, if it knows of one."""
        if later_start > self.starts:
            self.starts, self.restored = later_start + 1, True
            self.wake()
        if self.view is None:
            return
        if merge_progress(self.progress, (one for one in told if not self.refuses(one.node_id))):
            own = self.progress.get(self.node_id)
            if own is not None and own.word > self._word:
                self._word, self.restored = own.word, True
            self.wake()


def load_progress(directory: DataDirectory) -> dict[bytes, Progress]:
    """What this node has told last, by its id; nothing before it has told anything. DirectoryRefused when the file is damaged."""
    data = directory.read(PROGRESS_FILE)
    if data is None:
        return {}
    try:
        told = _progress_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise DirectoryRefused(f"{directory.path / PROGRESS_FILE} is damaged: {error}; start this node anew, empty") from error
    return {told.node_id: told}
