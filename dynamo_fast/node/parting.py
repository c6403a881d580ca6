"""After a change of members: a node parts with what it holds where it is no home any more, and says that it is gone when it has left.

A record that is kept for nobody (`owed` is 0) in a partition of which this node is no home is an old copy. All that was acknowledged is
with the homes already (core/change.py), so it could go as it is; but it costs little to make sure. The homes are met, one-sidedly: they
get what they lack, and answer when all they have is on their disks. INVARIANT: an old copy goes only when at least W homes of its
partition, and every one that can be reached, hold its version or a later one on disk; a home that takes less of a partition than all keeps
the whole partition here. What goes is named by its hash as it was listed before the homes were met, so nothing goes that has changed since.

Nothing can become an old copy while members stay as they are: what a node takes in where it is no home it keeps for somebody. So a
partition in which none was found is not looked through again.

Nothing is parted with in the middle of a change, when it may be wanted again. Hints are not this file's business (handoff.py). A node that
has left and holds neither adds a record of it, and from then on nobody listens to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from dynamo_fast.core.membership import Gone
from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.anti_entropy import AntiEntropy
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.exchange import BadAnswer
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import following, partition_range
from dynamo_fast.node.meeting import Meeting, Tally, Terms
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.rounds import collided
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record

log = logging.getLogger("dynamo_fast.node")

LOOK_S, LOOK_S_MAX = 3.0, 60.0  # between two looks for old copies; longer and longer while the homes that are needed are away
BUSY_LOOK_S, BUSY_PATIENCE_S = 0.25, 30.0  # for a home that has an exchange with us under way: what others have said of these would be lost
LISTED_MAX = 1 << 17  # old copies whose names are held at a time: about 20 MiB
SCAN_RECORDS = 64  # read at once
REMOVED_AT_ONCE = 32  # in one write of the log
TROUBLE = (CallFailed, BadAnswer, StorageError)

Version = tuple[bytes, int]  # store key and hash


class Parting:
    """The task that parts with old copies. `copies` is the W of the cluster's defaults."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, peers: Peers, anti_entropy: AntiEntropy,
        copies: int,
    ) -> None:  # fmt: skip
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._peers = peers
        self._anti_entropy = anti_entropy
        self._copies = copies
        self._placement_name = 0  # as of the last look
        self._foreign: list[int] = []  # partitions of which this node is no home there, and in which there may be old copies
        self._tally = Tally()
        self._left: dict[int, int] = {}  # by partition, old copies as of the last look
        self._slice = Slice(env)
        self._gone = False
        self._looked_through = 0  # number of the placement by which all partitions have been looked through
        self.removed = self.postponed = 0
        self.last_reason = ""

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = LOOK_S
        while True:
            await self._env.sleep(pause_s * (0.75 + 0.5 * self._env.random()))
            removed = self.removed
            await self.round()
            pause_s = LOOK_S if self.removed > removed or not self._left else min(2 * pause_s, LOOK_S_MAX)

    async def round(self) -> None:
        """Parts with what may go now; as many partitions together as can be named."""
        placement = self._cluster.placement
        if placement is None or self._cluster.change is not None:
            return
        if self._placement_name != placement.name:
            self._placement_name, self._left = placement.name, {}
            own = self._anti_entropy.delivery.own_partitions()
            self._foreign = [one for one in range(placement.partitions) if one not in own]
        listed: dict[int, list[Version]] = {}
        count = 0
        clean: set[int] = set()
        for partition in self._foreign:
            await self._slice.over()
            versions, whole = await self._old_copies(placement, partition, LISTED_MAX - count)
            if not versions:
                if whole:
                    clean.add(partition)
                    self._left.pop(partition, None)
                continue
            listed[partition] = versions
            self._left[partition] = len(versions)
            count += len(versions)
            if count >= LISTED_MAX:
                await self._part(placement, listed)
                listed, count = {}, 0
        if listed:
            await self._part(placement, listed)
        self._foreign = [one for one in self._foreign if one not in clean]
        self._looked_through = placement.number
        await self._say_goodbye(placement)

    async def _old_copies(self, placement: Placement, partition: int, count_max: int) -> tuple[list[Version], bool]:
        """The first old copies of a partition, as they stand now; and whether that is all."""
        found: list[Version] = []
        if not self._engine.holds(partition):
            return found, True
        at, end = partition_range(partition, placement.partitions)
        if not self._engine.scan(at, end, 1):
            # What is left in the tree is of records that cannot be read, and homes have theirs.
            for leaf in range(self._engine.forest.leaf_count):
                self._engine.recompute(partition, leaf)
                await self._slice.over()
            return found, True
        while records := self._engine.scan(at, end, SCAN_RECORDS):
            for store_key, record in records:
                parts = decode_record(record)
                if not parts.owed:
                    found.append((store_key, parts.hash))
            if len(found) >= count_max:
                return found, False
            at = following(records[-1][0])
            await self._slice.over()
        return found, True

    async def _part(self, placement: Placement, listed: dict[int, list[Version]]) -> None:
        """Makes sure of these, and removes them where enough homes have them."""
        homes = {
            partition: {placement.node_ids[node] for node in placement.table[partition][: placement.replicas]} for partition in listed
        }
        safe: dict[int, set[bytes]] = {partition: set() for partition in listed}  # the homes that have all of it on disk

        async def meet(home: bytes) -> None:
            for partition in await self._met(placement, home, sorted(one for one in listed if home in homes[one])):
                safe[partition].add(home)

        # Side by side: what takes its time is the way to each home and back, again and again, while it has requests to serve.
        async with trio.open_nursery() as nursery:
            for home in sorted(set().union(*homes.values())):
                nursery.start_soon(meet, home)
        for partition, versions in listed.items():
            reachable = {home for home in homes[partition] if self._session(home) is not None}
            if len(safe[partition]) < min(self._copies, len(homes[partition])) or not reachable <= safe[partition]:
                self.postponed += 1
                continue
            if not await self._remove(placement, partition, versions):
                return

    def _session(self, home: bytes) -> Session | None:
        """A session with the home, if it can be asked now."""
        return None if self._data_plane.suspects(home) else self._peers.up.get(home)

    async def _met(self, placement: Placement, home: bytes, partitions: list[int]) -> Iterable[int]:
        """Of which of the partitions that home has, on disk, all that this node holds."""
        patient_until_s = self._env.now() + BUSY_PATIENCE_S
        in_line: set[int] = set()
        while in_line < set(partitions):
            session = self._session(home)
            if session is None:
                break
            if self._anti_entropy.free(home):
                left = [one for one in partitions if one not in in_line]
                meeting = Meeting(self._anti_entropy, session, self._tally, Terms(placement, left, push_only=True, durable=True))
                try:
                    await self._anti_entropy.hold(meeting)
                except TROUBLE as error:
                    self.last_reason = str(error)
                    log.debug("old copies wait for another time", extra={"peer": home.hex(), "reason": str(error)})
                    if not collided(error):
                        return in_line | meeting.in_line
                in_line |= meeting.in_line
            if self._env.now() >= patient_until_s:
                break
            await self._env.sleep(BUSY_LOOK_S * (0.5 + self._env.random()))
        return in_line

    async def _remove(self, placement: Placement, partition: int, versions: list[Version]) -> bool:
        """Whether it could go on: no change has begun, and the disk takes it."""
        for at in range(0, len(versions), REMOVED_AT_ONCE):
            if self._cluster.change is not None or self._cluster.placement is not placement:
                return False
            try:
                self.removed += self._data_plane.remove_old_copies(versions[at : at + REMOVED_AT_ONCE])
            except StorageError as error:
                self.last_reason = str(error)
                log.warning("old copies cannot be removed", extra={"reason": str(error)})
                return False
            self._left[partition] = max(0, len(versions) - at - REMOVED_AT_ONCE)
            await self._slice.over()
        return True

    async def _say_goodbye(self, placement: Placement) -> None:
        """A node that has left, is no home of anything in any placement in use, and holds nothing for anybody is gone."""
        view, own = self._cluster.view, self._cluster.node_id
        if view is None or own not in view.departed or own in view.dead or own in placement.node_ids or self._cluster.change is not None:
            return
        if self._gone or any(self._engine.holds(partition) for partition in range(placement.partitions)):
            return
        try:
            await self._anti_entropy.delivery.durable()  # else a loss of power would bring back what was removed
            await self._cluster.add(Gone(node_id=own))
        except (OSError, StorageError) as error:
            log.warning("that this node is gone cannot be written down", extra={"reason": str(error)})
            return
        self._gone = True
        log.info("this node has left, and holds nothing any more", extra={"removed": self.removed})

    def statistics(self) -> dict[str, object]:
        """`old_copies` that are left in so many partitions, once they have been looked for under the placement of number `looked_through`;
        counts since the start."""
        return {
            "old_copies": sum(self._left.values()),
            "looked_through": self._looked_through,
            "partitions": sum(count > 0 for count in self._left.values()),
            "removed": self.removed,
            "postponed": self.postponed,
            "postponed_because": self.last_reason,
            "keys_pushed": self._tally.keys_pushed,
        }
