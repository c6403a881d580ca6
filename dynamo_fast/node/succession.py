"""How this node goes from one placement to the next (paper 4.8, 4.9): its part in the steps of core/change.py.

The task looks at what is known whenever there is news, and acts on it: it gets the tables, does the step that may be done, and tells of
it when that is over. Nothing is remembered here that is not in the history, in what nodes have told, or on disk, so a node that restarts
goes on where it was. When everything has settled and changes of members wait that no placement has taken in, the next one is announced:
by the node that was asked for them, or by any other when that one is slow to.
"""

from __future__ import annotations

import logging

import trio

from dynamo_fast.core.change import Step, pinned_by, step_to_do, waited_for
from dynamo_fast.core.lineage import NO_PARENT, Lineage, PlacementRecord, settle
from dynamo_fast.core.membership import Announce, ClusterView, HistoryError
from dynamo_fast.core.placement import Placement, PlacementError
from dynamo_fast.core.succession import placement_after
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.placements import roster_of
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.transfer import Transfer
from dynamo_fast.wire.membership_messages import TableReply, TableRequest
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

LOOK_S = 1.0  # without news
DRAIN_LOOK_S = 0.02
RETRY_S = 0.5  # after a disk or a peer refused
ANNOUNCE_PATIENCE_S = 2.0  # until another node announces what the one that was asked has not
TROUBLE = (OSError, HistoryError, CallFailed)

Work = tuple[bytes, Step, bytes]  # towards which placement, which step, and the digest of those known to be dead


def first_record(view: ClusterView) -> PlacementRecord:
    return PlacementRecord(1, NO_PARENT, (), view.placement_algorithm, view.placement_digest)


class Succession:
    """The task, and the answer to a TableRequest. `asked_here` are ids of change records that this node was asked for."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, peers: Peers, transfer: Transfer
    ) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._peers = peers
        self._transfer = transfer
        self._nursery: trio.Nursery | None = None
        self._work: Work | None = None
        self._work_scope = trio.CancelScope()
        self._untaken_since_s: float | None = None
        self._said = ""
        self._lineage: tuple[ClusterView, set[bytes], Lineage] | None = None  # the last one, and what it was made from
        self.asked_here: set[bytes] = set()
        self.announced = self.changes = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                news = self._cluster.news()
                wait_s = LOOK_S
                try:
                    await self._look()
                except TROUBLE as error:
                    self._say(f"a change of members has to wait: {error}")
                    wait_s = RETRY_S
                with trio.move_on_after(wait_s * (0.75 + 0.5 * self._env.random())):
                    await news.wait()

    async def _look(self) -> None:
        view = self._cluster.view
        if view is None:
            return
        lineage = self.lineage(view)
        tip = lineage.chain[-1]
        await self._own_up(view)
        placement = await self._table(tip, lineage)
        if placement is None:
            return
        if self._settled(tip):
            await self._settle(placement)
            await self._announce(view, lineage, placement)
            return
        parent = await self._table(lineage.chain[-2], lineage)
        if parent is not None:
            await self._go_on(view, parent, placement)

    def lineage(self, view: ClusterView) -> Lineage:
        """The placements that count, as far as this node knows."""
        pinned = pinned_by(self._cluster.progress, view.dead)
        if self._lineage is None or self._lineage[0] is not view or self._lineage[1] != pinned:
            self._lineage = view, pinned, settle([first_record(view), *view.announced], pinned)
        return self._lineage[2]

    def _settled(self, tip: PlacementRecord) -> bool:
        """Whether the change to the last placement is over everywhere."""
        digest = tip.digest
        return tip.number == 1 or any(one.placement == digest and one.step == Step.SETTLED for one in self._cluster.progress.values())

    async def _own_up(self, view: ClusterView) -> None:
        """A directory that is older than what it has told was restored or copied: this node may lack anything that it has acknowledged."""
        if self._cluster.restored:
            log.error(
                "this data directory is older than what others know of this node, or in use twice: it was restored or copied."
                " It counts for no strict read before everything in it has been compared with the other homes"
            )
            for partition in range(view.partitions):  # also where no table is known yet: it may make this node a home again
                self._engine.suspect(partition)
            await self._cluster.take_back()

    # A change under way -----------------------------------------------------------------------------------------------------------

    async def _go_on(self, view: ClusterView, old: Placement, new: Placement) -> None:
        """Does the step that may be done, and sees to it that it is told of when it is over."""
        cluster = self._cluster
        needed = needed_for(old, new, view)
        if cluster.node_id not in needed:
            return  # nobody waits for us; we go by the old placement until the new one has settled
        dead = cluster.dead_digest
        step = step_to_do(new.digest, needed, cluster.progress, dead)
        if step == Step.SETTLED:
            return await self._settle(new)
        told = cluster.progress.get(cluster.node_id)
        told = told if told is not None and told.placement == new.digest else None
        doing = cluster.change.step if cluster.change is not None and cluster.change.new.digest == new.digest else Step.NONE
        step = max(step, doing, Step(told.step) if told is not None else Step.NONE)
        if cluster.change is None or cluster.change.new.digest != new.digest:
            self.changes += 1
            log.info("the members change", extra={"from": old.number, "to": new.number})
        await cluster.work_by(old, new, step)
        if told is not None and told.step >= step and told.dead == dead:
            return
        if told is not None and told.step >= step:
            # Another member was declared dead: its connections end before what was told is told anew.
            self._peers.expel()
            return await cluster.tell(new.digest, Step(told.step), dead)
        self._begin((new.digest, step, dead), old, new)

    def _begin(self, work: Work, old: Placement, new: Placement) -> None:
        if work != self._work:
            assert self._nursery is not None, "the task runs"
            self._work_scope.cancel()
            self._work, self._work_scope = work, trio.CancelScope()
            self._nursery.start_soon(self._do, work, self._work_scope, old, new)

    async def _do(self, work: Work, scope: trio.CancelScope, old: Placement, new: Placement) -> None:
        """What a step asks for, and then the word that it is done; begun again when the disk refuses."""
        digest, step, dead = work
        with scope:
            if self._env.rarely("succession: a step begins late"):
                await self._env.sleep(LOOK_S * self._env.random())
            self._peers.expel()
            if step == Step.SYNCED:
                await self._transfer.bring(old, new)
            elif step > Step.KNOWN:
                await self._older_requests()
            if self._env.rarely("succession: a step is told of late"):
                await self._env.sleep(LOOK_S * self._env.random())
            while True:
                try:
                    return await self._cluster.tell(digest, step, dead)
                except OSError as error:
                    self._say(f"a change of members has to wait: {error}")
                    await self._env.sleep(RETRY_S)

    async def _older_requests(self) -> None:
        """Returns when every request is over that began before now."""
        mark_us = int(self._env.now() * 1e6)
        while 0 < self._data_plane.oldest_request_us <= mark_us:
            await self._env.sleep(DRAIN_LOOK_S)

    async def _settle(self, placement: Placement) -> None:
        """The change is over: one placement is all there is."""
        cluster = self._cluster
        if cluster.change is not None or cluster.placement is None or cluster.placement.digest != placement.digest:
            self._work_scope.cancel()
            self._work = None
            await cluster.work_by(placement)
            log.info("the members have changed", extra={"placement": placement.number, "members": len(placement.node_ids)})
        told = cluster.progress.get(cluster.node_id)
        if placement.number == 1 or cluster.node_id not in placement.node_ids:
            return
        if told is None or (told.placement, told.step) != (placement.digest, Step.SETTLED):
            await cluster.tell(placement.digest, Step.SETTLED, cluster.dead_digest)

    # The next one -----------------------------------------------------------------------------------------------------------------

    def untaken(self, view: ClusterView, lineage: Lineage) -> list[bytes]:
        """Ids of the changes of members that no placement has taken in, in order."""
        taken = {change for record in lineage.chain for change in record.changes}
        return [one for one in view.member_changes if one not in taken]

    async def _announce(self, view: ClusterView, lineage: Lineage, parent: Placement) -> None:
        """The placement that takes in what waits: at once where it was asked for, elsewhere when nobody else does."""
        untaken = self.untaken(view, lineage)
        if not untaken:
            self._untaken_since_s = None
            self.asked_here.clear()
            return
        now_s = self._env.now()
        if self._untaken_since_s is None:
            self._untaken_since_s = now_s
        if self._cluster.node_id not in parent.node_ids or self._cluster.node_id in view.dead:
            return
        waited_s = now_s - self._untaken_since_s
        patient = waited_s < ANNOUNCE_PATIENCE_S * (1 + self._env.random())
        if patient and not self.asked_here.intersection(untaken) and not self._env.rarely("succession: announced by who was not asked"):
            return
        if len(untaken) > 1 and self._env.rarely("succession: one change after the other"):
            untaken = untaken[:1]
        roster = roster_of(view, lineage.chain, self._cluster.history)
        records = self._cluster.history.records_of(untaken)
        try:
            child, _ = await self._env.offload(placement_after, parent, roster, records, view.replicas)
        except PlacementError as error:
            self._say(f"no placement can take in the changes of members that wait: {error}")
            return
        self._cluster.placements.note(child)
        await self._cluster.add(Announce(placement=child.record))
        self.announced += 1

    # Tables -----------------------------------------------------------------------------------------------------------------------

    async def _table(self, record: PlacementRecord, lineage: Lineage) -> Placement | None:
        """The placement of a record of the chain: known, computed, or fetched; None when it cannot be had now."""
        placements = self._cluster.placements
        known = placements.of(record.digest)
        if known is not None:
            return known
        before = [one for one in lineage.chain if one.number < record.number]
        if self._env.rarely("succession: a table is fetched that could be computed"):
            return await self._fetch(record)
        computed = await placements.compute(record, before, self._cluster.history)
        return computed if computed is not None else await self._fetch(record)

    async def _fetch(self, record: PlacementRecord) -> Placement | None:
        for session in list(self._peers.up.values()):
            try:
                reply = await session.call(TableRequest(digest=record.digest))
                if not isinstance(reply, TableReply) or reply.record.digest != record.digest:
                    raise CallFailed("the answer is another placement than was asked for")
                placement = await self._env.offload(Placement.from_table, reply.record, reply.replicas, reply.node_ids, reply.table)
            except (CallFailed, PlacementError) as error:
                self._say(f"placement {record.number} cannot be fetched from {session.connection.label}: {error}")
                continue
            self._cluster.placements.note(placement)
            return placement
        return None

    async def answer_table(self, session: Session, request: TableRequest) -> TableReply:
        placement = self._cluster.placements.of(request.digest)
        if placement is None:
            raise Refusal(Status.NOT_READY, "this node does not know that placement; ask another")
        return TableReply(
            record=placement.record, replicas=placement.replicas, node_ids=list(placement.node_ids), table=placement.table_bytes()
        )

    # For people -------------------------------------------------------------------------------------------------------------------

    def waits_for(self) -> list[bytes]:
        """Who has not told of the step that this node does; nobody in peace."""
        view, change = self._cluster.view, self._cluster.change
        if view is None or change is None or change.step == Step.NONE:
            return []
        needed = needed_for(change.old, change.new, view)
        return waited_for(change.step, change.new.digest, needed, self._cluster.progress, self._cluster.dead_digest)

    def waiting_changes(self) -> int:
        """How many changes of members no placement has taken in."""
        view = self._cluster.view
        return 0 if view is None else len(self.untaken(view, self.lineage(view)))

    def statistics(self) -> dict[str, object]:
        """Counts since the start."""
        return {"changes": self.changes, "announced": self.announced, "waiting_changes": self.waiting_changes()}

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning(text)


def needed_for(old: Placement, new: Placement, view: ClusterView) -> list[bytes]:
    """Whose word a change waits for; sorted."""
    return sorted({*old.node_ids, *new.node_ids} - view.dead)
