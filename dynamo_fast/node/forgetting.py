"""Forgetting what everybody has agreed on: tombstones are reaped, and the oldest events of long clocks settled (DESIGN of the paper's
truncation in 4.4, without what it loses).

A tombstone may go only when no copy of what it deleted can turn up any more, and a clock entry only when no version that it
supersedes can; else a merge would bring the dead back. So the first home of a partition, once what it has found is older than
`grace_s`, asks in this order, and begins again another time when anybody is away, refuses or has something else:

  1. CHECK    every home: do you hold this very version, on disk?                        (compare by hash)
  2. QUIESCE  every member: wait until all requests that you had under way are over and all objects that you were carrying have
              arrived, then make sure that every other member has read all that you have sent it
  3. STRAYS   every member: do you keep a hint in one of these partitions?
  4. FORGET   every home: drop it, if you still hold this very version.                   (compare by hash, and drop)

Why nothing old can come back after 4. Call what the forgotten version supersedes "old". After 1 no home holds anything old, and a home
never does again unless something old arrives. What can carry something old: a request under way at a coordinator (its merge of
earlier answers goes into read repair), a batch of a delivery or exchange, a frame in a connection, a hint. 2 begins after 1, so
requests and batches begun later are made of what homes hold by then, which is not old, or of hints. Those begun earlier end within 2,
and what they sent has been read by its receivers when 2 ends: a PING follows on the same connection, and one connection is all there is
between two nodes. Merges that were only queued when they were read stand in their node's queue before 4. So after 2 only hints are left,
new ones are copies of hints or of what homes hold, and 3 finds that there are none. A member that is away blocks all of it; one that
restarts in between lost its connections, and 2 fails. What homes have written anew since 1 has another hash, and stays.
4 may reach some homes only: the others still hold the version and an exchange brings it back, whole; it is forgotten another time.

unrest.py says why that stays true when members change: while they do, every node refuses every step.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import trio

from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.failures import failure_of
from dynamo_fast.node.flights import Flights
from dynamo_fast.node.forget_scan import forgettable
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import following, partition_range
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.node.unrest import unrest
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire import replica_messages as messages
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

CLOCK_ENTRIES_KEPT = 10  # the paper's threshold
CLOCK_ENTRIES_KEPT_MIN = 1  # fewer may be kept as well: nothing that is settled is needed
PERIOD_S_MAX = 3600.0  # between two looks for what could be forgotten
SCAN_RECORDS = 64  # read at once
VERSIONS_MAX = 4096  # forgotten in one go; the next round brings the rest
QUIESCE_POLL_S = 0.25
QUIESCE_PATIENCE_S = 4000.0  # requests may have deadlines of up to an hour
QUIESCES_MAX = 64  # under way at once on one node
CHECK_S = 15.0  # for a home to look and to sync
VERSION = struct.Struct("<24sQ")

Version = tuple[bytes, int]  # store key and hash
T = TypeVar("T", bound=messages.ReplicaReply)


class NotNow(Exception):
    """Somebody is away, or has something else: another time."""


def packed(versions: Iterable[Version]) -> bytes:
    return b"".join(VERSION.pack(*version) for version in versions)


class Quiesce:
    """One wait of step 2 on this node."""

    def __init__(self) -> None:
        self.done = False
        self.failure: str | None = None


class Forgetting:
    """Both sides of the four steps, and the task that begins them. `grace_s`: nothing younger is forgotten."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, peers: Peers, flights: Flights, grace_s: float
    ) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._peers = peers
        self._flights = flights
        self._grace_s = grace_s
        self._quiesces: dict[int, Quiesce] = {}
        self._tokens = 0
        self._entries_kept = CLOCK_ENTRIES_KEPT
        self._nursery: trio.Nursery | None = None
        self.rounds = self.postponed = self.reaped = self.settled = 0
        self.last_reason = ""

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                await self._env.sleep(min(self._grace_s / 4, PERIOD_S_MAX) * (0.75 + 0.5 * self._env.random()))
                await self.round()

    async def round(self) -> int:
        """Forgets what can be forgotten now in the partitions of which this node is the first home; how many versions that were."""
        placement = self._cluster.placement
        if placement is None or self._cluster.node_id not in placement.node_ids:
            return 0
        if unrest(self._cluster) is not None:
            self.last_reason = unrest(self._cluster) or ""
            return 0
        forgotten = 0
        shorter = self._env.rarely("forgetting: clocks are cut shorter")
        self._entries_kept = CLOCK_ENTRIES_KEPT_MIN if shorter else CLOCK_ENTRIES_KEPT
        while versions := await self._candidates(placement):
            self.rounds += 1
            try:
                done = await self._forget(placement, versions)
            except (NotNow, CallFailed, StorageError) as reason:
                self.postponed += 1
                self.last_reason = str(reason)
                log.debug("nothing is forgotten now", extra={"reason": str(reason)})
                break
            forgotten += done
            if len(versions) < VERSIONS_MAX or not done:
                break
        return forgotten

    async def _candidates(self, placement: Placement) -> list[Version]:
        """Old deletes and long clocks of the partitions that this node comes first for."""
        own = placement.node_ids.index(self._cluster.node_id)
        before_ms = self._before_ms()
        found: list[Version] = []
        slice_ = Slice(self._env)
        # From anywhere, so that versions on which the homes cannot agree do not keep the others from their turn.
        first = int(self._env.random() * placement.partitions)
        for partition in (*range(first, placement.partitions), *range(first)):
            if placement.table[partition][0] != own or not self._engine.holds(partition):
                continue
            at, end = partition_range(partition, placement.partitions)
            while records := self._engine.scan(at, end, SCAN_RECORDS):
                found += forgettable(records, before_ms, self._entries_kept)
                if len(found) >= VERSIONS_MAX:
                    return found[:VERSIONS_MAX]
                at = following(records[-1][0])
                await slice_.over()
        return found

    def _before_ms(self) -> int:
        return max(0, self._env.wall_ms() - int(self._grace_s * 1000))

    # The four steps ---------------------------------------------------------------------------------------------------------------

    async def _forget(self, placement: Placement, versions: list[Version]) -> int:
        """NotNow, CallFailed or StorageError when it has to wait."""
        self._check_rest(placement)
        if self._env.rarely("forgetting: few versions at a time"):
            versions = versions[:1]
        sessions = self._everyone(placement)
        versions = await self._check(placement, sessions, versions)
        if not versions:
            raise NotNow("homes differ, or are not synced")
        await self._quiesce(sessions)
        strays = await self._strays(placement, sessions, sorted({self._partition(placement, version) for version in versions}))
        versions = [version for version in versions if self._partition(placement, version) not in strays]
        if not versions:
            raise NotNow("hints are kept in these partitions")
        self._check_rest(placement)
        await self._drop(placement, sessions, versions)
        return len(versions)

    def _check_rest(self, placement: Placement) -> None:
        """NotNow unless all is as it was when the round began."""
        reason = unrest(self._cluster)
        if reason is not None or placement is not self._cluster.placement:
            raise NotNow(reason or "the members have changed")

    def _everyone(self, placement: Placement) -> dict[int, Session]:
        """A session with every other member, by node index; NotNow when one is away."""
        sessions = {}
        for index, node_id in enumerate(placement.node_ids):
            if node_id == self._cluster.node_id:
                continue
            session = self._peers.up.get(node_id)
            if session is None or self._data_plane.suspects(node_id):
                raise NotNow(f"member {node_id.hex()} is away")
            sessions[index] = session
        return sessions

    @staticmethod
    def _partition(placement: Placement, version: Version) -> int:
        return int.from_bytes(version[0][:16], "big") >> (128 - (placement.partitions.bit_length() - 1))

    def _by_home(self, placement: Placement, versions: Sequence[Version]) -> dict[int, list[Version]]:
        """Which other home holds which of the versions."""
        found: dict[int, list[Version]] = {}
        for version in versions:
            for index in placement.table[self._partition(placement, version)][: placement.replicas]:
                if placement.node_ids[index] != self._cluster.node_id:
                    found.setdefault(index, []).append(version)
        return found

    async def _check(self, placement: Placement, sessions: dict[int, Session], versions: list[Version]) -> list[Version]:
        """Step 1: the versions that every home holds, on disk."""
        agreed = {version for version, same in zip(versions, await self._held(packed(versions)), strict=True) if same}

        async def ask(index: int, theirs: list[Version]) -> None:
            request = messages.ForgetCheckRequest(placement=placement.name, versions=packed(theirs))
            reply = await self._call(sessions[index], request, messages.ForgetCheckReply, CHECK_S)
            if len(reply.held) != len(theirs):
                raise CallFailed("the answer tells of other versions than were asked for")
            agreed.difference_update(version for version, same in zip(theirs, reply.held, strict=True) if not same)

        await self._side_by_side(ask, self._by_home(placement, versions).items())
        return [version for version in versions if version in agreed]

    async def _quiesce(self, sessions: dict[int, Session]) -> None:
        """Step 2, on every member, this one too."""

        async def ask(index: int, session: Session) -> None:
            token = 0
            with trio.fail_after(QUIESCE_PATIENCE_S):
                while True:
                    reply = await self._call(session, messages.QuiesceRequest(token=token), messages.QuiesceReply)
                    if reply.done:
                        return
                    token = reply.token
                    await self._env.sleep(QUIESCE_POLL_S)

        async def own(index: int, session: Session) -> None:
            quiesce = Quiesce()
            await self._settle_down(quiesce)
            if quiesce.failure:
                raise NotNow(quiesce.failure)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._side_by_side, own, [(-1, None)])
                nursery.start_soon(self._side_by_side, ask, sessions.items())
        except BaseExceptionGroup as group:
            failure = failure_of(group, NotNow, CallFailed, trio.TooSlowError)
            raise failure if isinstance(failure, BaseExceptionGroup) else NotNow(str(failure)) from None

    async def _strays(self, placement: Placement, sessions: dict[int, Session], partitions: list[int]) -> set[int]:
        """Step 3: the partitions in which somebody keeps a hint."""
        strays: set[int] = set()

        async def ask(index: int, session: Session) -> None:
            request = messages.StraysRequest(placement=placement.name, partitions=partitions)
            strays.update((await self._call(session, request, messages.StraysReply)).partitions)

        await self._side_by_side(ask, sessions.items())
        return strays  # this node is a home of all of them

    async def _drop(self, placement: Placement, sessions: dict[int, Session], versions: list[Version]) -> None:
        """Step 4, others and this node alike. One that does not answer may have done it or not: both are safe."""
        before_ms = self._before_ms()

        async def ask(index: int, theirs: list[Version]) -> None:
            request = messages.ForgetRequest(
                placement=placement.name, versions=packed(theirs), before_ms=before_ms, entries_max=self._entries_kept
            )
            await self._call(sessions[index], request, messages.ForgetReply, CHECK_S)

        await self._side_by_side(ask, self._by_home(placement, versions).items())
        self._check_rest(placement)
        self._count(self._data_plane.forget(packed(versions), before_ms, self._entries_kept))

    @staticmethod
    async def _side_by_side(ask: Callable[..., object], each: Iterable[tuple[int, object]]) -> None:
        """All at once; the first failure, as itself."""
        try:
            async with trio.open_nursery() as nursery:
                for index, what in each:
                    nursery.start_soon(ask, index, what)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:
            raise failure_of(group, NotNow, CallFailed, StorageError) from None

    @staticmethod
    async def _call(session: Session, request: messages.ReplicaRequest, wanted: type[T], timeout_s: float = 5.0) -> T:
        reply = await session.call(request, timeout_s)
        if not isinstance(reply, wanted):
            raise CallFailed(f"wanted {wanted.__name__}, got {type(reply).__name__}")
        return reply

    # The other side ---------------------------------------------------------------------------------------------------------------

    async def _held(self, versions: bytes) -> bytes:
        """For each version 1 when this node holds it, on disk, else 0."""
        held = self._data_plane.holds_versions(versions)
        await self._data_plane.wait_durable(self._engine.position)
        return held

    async def answer_check(self, session: Session, request: messages.ForgetCheckRequest) -> messages.ForgetCheckReply:
        self._check_peer(session, request.placement)
        try:
            return messages.ForgetCheckReply(held=await self._held(request.versions))
        except StorageError as error:
            raise Refusal(Status.READ_ONLY, str(error)) from error

    async def answer_quiesce(self, session: Session, request: messages.QuiesceRequest) -> messages.QuiesceReply:
        """Begins a wait, or tells of one that was begun; never waits itself, so that others are answered meanwhile."""
        if not session.trusted:
            raise Refusal(Status.BAD_REQUEST, "only members of the cluster may ask this")
        self._refuse_in_unrest()
        if request.token == 0:
            if len(self._quiesces) >= QUIESCES_MAX:  # those that are over were asked for by somebody who has gone
                self._quiesces = {token: one for token, one in self._quiesces.items() if not one.done and not one.failure}
            if len(self._quiesces) >= QUIESCES_MAX or self._nursery is None:
                raise Refusal(Status.OVERLOAD, "too many wait for this node to quiesce already; try again later")
            self._tokens += 1
            quiesce = self._quiesces[self._tokens] = Quiesce()
            self._nursery.start_soon(self._settle_down, quiesce)
            return messages.QuiesceReply(token=self._tokens, done=False)
        found = self._quiesces.get(request.token)
        if found is None:
            raise Refusal(Status.NOT_READY, "this node knows of no such wait: it has restarted")
        if found.done or found.failure:
            del self._quiesces[request.token]
        if found.failure:
            raise Refusal(Status.NOT_READY, found.failure)
        return messages.QuiesceReply(token=request.token, done=found.done)

    async def _settle_down(self, quiesce: Quiesce) -> None:
        """Step 2 on this node: see above. `failure` says why it cannot be had now."""
        placement = self._cluster.placement
        mark_us = int(self._env.now() * 1e6)
        while 0 < self._data_plane.oldest_request_us <= mark_us:
            await self._env.sleep(QUIESCE_POLL_S)
        await self._flights.landed()
        for node_id in placement.node_ids if placement else ():
            if node_id != self._cluster.node_id and not await self._data_plane.flush(node_id):
                quiesce.failure = f"member {node_id.hex()} did not confirm that it has read what it was sent"
                return
        quiesce.done = True

    async def answer_strays(self, session: Session, request: messages.StraysRequest) -> messages.StraysReply:
        placement = self._check_peer(session, request.placement)
        own = placement.node_ids.index(self._cluster.node_id)
        if any(partition >= placement.partitions for partition in request.partitions):
            raise Refusal(Status.BAD_REQUEST, f"there are {placement.partitions} partitions")
        return messages.StraysReply(
            partitions=[
                partition
                for partition in request.partitions
                if own not in placement.table[partition][: placement.replicas] and self._engine.holds(partition)
            ]
        )

    async def answer_forget(self, session: Session, request: messages.ForgetRequest) -> messages.ForgetReply:
        self._check_peer(session, request.placement)
        try:
            reaped, settled = self._data_plane.forget(request.versions, request.before_ms, request.entries_max)
        except StorageError as error:
            raise Refusal(Status.READ_ONLY, str(error)) from error
        self._count((reaped, settled))
        return messages.ForgetReply(reaped=reaped, settled=settled)

    def _check_peer(self, session: Session, placement: int) -> Placement:
        if not session.trusted:
            raise Refusal(Status.BAD_REQUEST, "only members of the cluster may ask this")
        known = self._cluster.placement
        if known is None or known.name != placement or self._cluster.node_id not in known.node_ids:
            raise Refusal(Status.STALE_PLACEMENT, "this node works by another placement")
        self._refuse_in_unrest()
        return known

    def _refuse_in_unrest(self) -> None:
        reason = unrest(self._cluster)
        if reason is not None:
            raise Refusal(Status.NOT_READY, reason)

    def _count(self, forgotten: tuple[int, int]) -> None:
        self.reaped += forgotten[0]
        self.settled += forgotten[1]

    def statistics(self) -> dict[str, object]:
        """Counts since the start; `postponed_because`: why the last attempt had to wait."""
        return {
            "rounds": self.rounds,
            "postponed": self.postponed,
            "postponed_because": self.last_reason,
            "reaped": self.reaped,
            "settled": self.settled,
            "objects_in_flight": len(self._flights),
        }
