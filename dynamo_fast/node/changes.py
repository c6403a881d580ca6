"""Changes of members that an operator asks for, on any node: looked at here, refused with a sentence or written to the history.

What is written is carried out by succession.py, here and everywhere. Several changes of one request go into one placement; what is
asked for while a change is under way waits for the next. Nothing is taken back: to cancel a join is to leave.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamo_fast.core.lineage import CHANGES_MAX
from dynamo_fast.core.membership import (
    ClusterView,
    Join,
    Leave,
    MemberChange,
    NodeEntry,
    Replace,
    Roster,
    WeightChange,
    ZoneChange,
    read_change,
)
from dynamo_fast.core.placement import Placement, PlacementError
from dynamo_fast.core.succession import UnsafePlan, member_of, next_placement
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.interfaces import DataPlane
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.placements import roster_of
from dynamo_fast.node.sessions import CallFailed, Session, Sessions
from dynamo_fast.node.succession import Succession
from dynamo_fast.wire.membership_messages import ChangeReply, ChangeRequest
from dynamo_fast.wire.status import Status

CLOCK_OFF_MS_MAX = 60_000  # a node whose clock is further off its peers' would order changes wrongly


class ChangeRefused(ValueError):
    """A change cannot be made, or had better not be; the sentence says why and what would help."""


class Changes:
    """The answer to a ChangeRequest."""

    def __init__(
        self, *, env: Env, cluster: Cluster, data_plane: DataPlane, peers: Peers, sessions: Sessions, succession: Succession
    ) -> None:
        self._env = env
        self._cluster = cluster
        self._data_plane = data_plane
        self._peers = peers
        self._sessions = sessions
        self._succession = succession

    async def answer(self, session: Session, request: ChangeRequest) -> ChangeReply:
        view = self._cluster.view
        # Who departs takes changes as long as it is a home: with all members being replaced and a newcomer dead, nobody else can be told.
        if view is None or self._cluster.placement is None or not (self._cluster.is_member or self._cluster.is_home):
            raise Refusal(Status.NOT_READY, "this node is no member of a cluster, so it cannot change one: ask a member")
        try:
            self._check_clock()
            check(view, request.changes)
            await self._check_there(view, request.changes, unsafe=request.unsafe)
            await self._check_plan(view, request.changes, unsafe=request.unsafe)
        except ChangeRefused as error:
            raise Refusal(Status.BAD_REQUEST, str(error)) from error
        records = await self._cluster.add(*request.changes)
        ids = [record.id for record in records]
        self._succession.asked_here.update(ids)
        self._cluster.wake()
        under_way = self._cluster.change is not None
        return ChangeReply(ids=ids, number=0 if under_way else self._cluster.placement.number + 1)

    def _check_clock(self) -> None:
        """The times of changes order them, so they are made by who has the time of the others."""
        offsets = sorted(self._cluster.clock_offsets_ms[node_id] for node_id in self._peers.up if node_id in self._cluster.clock_offsets_ms)
        off_ms = offsets[len(offsets) // 2] if offsets else 0
        if abs(off_ms) > CLOCK_OFF_MS_MAX:
            raise ChangeRefused(
                f"this node's clock is {abs(off_ms) / 1000:.0f} s {'behind' if off_ms > 0 else 'ahead of'} the others':"
                " set it right, or ask another node"
            )

    async def _check_there(self, view: ClusterView, changes: Sequence[MemberChange], *, unsafe: bool) -> None:
        """Who comes can be reached; who goes in good order too, and who is declared dead cannot."""
        for change in changes:
            if isinstance(change, Join | Replace):
                await self._check_newcomer(change.member)
            if isinstance(change, Leave | Replace) and not unsafe:
                node_id = change.node_id if isinstance(change, Leave) else change.old
                there = node_id == self._cluster.node_id or (node_id in self._peers.up and not self._data_plane.suspects(node_id))
                name = view.everyone[node_id].address
                if change.dead and there:
                    raise ChangeRefused(f"{name} is to be declared dead and answers: stop it first, or let it leave in good order")
                if not change.dead and not there:
                    raise ChangeRefused(
                        f"{name} cannot be reached, so it cannot hand over what it holds: wait until it is back, or declare it dead"
                    )

    async def _check_newcomer(self, member: NodeEntry) -> None:
        try:
            async with self._sessions.contact(member.address) as found:
                if found.node_id != member.id:
                    other = found.node_id.hex() if found.node_id else "no node"
                    raise ChangeRefused(f"at {member.address} is {other}, not {member.id.hex()}")
        except CallFailed as error:
            raise ChangeRefused(f"the new node cannot be reached from here: {error}") from error

    async def _check_plan(self, view: ClusterView, changes: Sequence[MemberChange], *, unsafe: bool) -> None:
        """What would come of it, with all that waits."""
        lineage = self._succession.lineage(view)
        parent = self._cluster.placements.of(lineage.chain[-1].digest)
        untaken = self._succession.untaken(view, lineage)
        if parent is None:
            raise ChangeRefused("this node does not know the last placement yet; try again in a moment, or ask another")
        if len(untaken) + len(changes) > CHANGES_MAX:
            raise ChangeRefused(f"{len(untaken)} changes wait already: let them come into force first")
        before = roster_of(view, lineage.chain, self._cluster.history)
        asked = [*(read_change(record) for record in self._cluster.history.records_of(untaken)), *changes]
        after = before.after(asked)
        try:
            await self._env.offload(plan, parent, before, after, view.replicas, before.heirs(asked), unsafe)
        except UnsafePlan as error:
            raise ChangeRefused(f"{named(str(error), view)}; --unsafe insists") from error
        except PlacementError as error:
            raise ChangeRefused(named(str(error), view)) from error


def plan(parent: Placement, before: Roster, after: Roster, replicas: int, replaced: dict[bytes, bytes], unsafe: bool) -> None:
    """PlacementError or UnsafePlan as of `next_placement`."""
    were, are = ([member_of(one) for one in roster.members.values()] for roster in (before, after))
    next_placement(parent, were, are, replicas, replaced=replaced, unsafe=unsafe)


def named(text: str, view: ClusterView) -> str:
    """A sentence with addresses in the place of ids."""
    for node_id, entry in view.everyone.items():
        text = text.replace(f"node {node_id.hex()}", entry.address)
    return text


def check(view: ClusterView, changes: Sequence[MemberChange]) -> None:
    """ChangeRefused when a change is of somebody who is none, or was one before. Pure."""
    coming: set[bytes] = set()
    for change in changes:
        if isinstance(change, Join | Replace):
            member = change.member
            if member.id in view.members:
                raise ChangeRefused(f"{member.address} is a member already")
            if member.id in view.everyone:
                raise ChangeRefused(
                    f"{member.address} has the id of a member that has departed, which never returns: start it with an empty data directory"
                )
            if member.id in coming:
                raise ChangeRefused(f"{member.address} is to join twice")
            holder = next((one for one in view.members.values() if one.address == member.address), None)
            if holder is not None and not (isinstance(change, Replace) and change.old == holder.id):
                raise ChangeRefused(f"{member.address} is the address of member {holder.id.hex()}")
            coming.add(member.id)
        if isinstance(change, Leave | WeightChange | Replace):
            node_id = change.old if isinstance(change, Replace) else change.node_id
            dies_leaving = isinstance(change, Leave) and change.dead and node_id in view.leaving
            if node_id not in view.members and not dies_leaving:
                state = "has departed" if node_id in view.departed else "is no member"
                raise ChangeRefused(f"node {node_id.hex()} {state}")
        if isinstance(change, ZoneChange) and all(one.host != change.host for one in view.members.values()):
            raise ChangeRefused(f"no member is on host {change.host!r}")
