"""Hinted handoff (paper 4.6): what this node keeps for homes that could not be reached goes home when they can.

A hint is an ordinary record in a partition of which this node is no home; its `owed` says for which homes it is kept (see
`replica.pyx`, which has the invariant). While it is here it is read and merged like any record. Once a second, and only if there
are hints, each reachable home is handed what is kept for it, by `delivery.py`, which paces itself by the receiver's latency; a home's
bit goes when it has the record on its disk, and the record goes with its last bit. A crash in between delivers again, which merges to
nothing new. A node that leaves, or has left, delivers like any other.

INVARIANT: no hint is ever dropped to make room: at its limit a node takes no more (copies.pyx), and does not acknowledge them. How many
bytes of hints the processes before this one have left, the first round finds out.
A hint that has become older than `hint_age_max_s` is handed to every home that can be reached, and goes once W of them have it on
disk: then it is as safe as any write, wherever its owner is.

In a change of members the slots of hints count in another placement from some moment on (cluster.hint_placement). INVARIANT: what an owner
has confirmed is noted in the slots of the placement in which it was found to be the owner, or not at all; the data plane sees to that, by
the placement's number. Then it is delivered again, to the homes that there are by then. A node that is to become a home, and does not
write to the homes that come yet, may be taken for a substitute: what it keeps so it delivers, and then has as its own. Records that nobody
is owed, in partitions that this node was a home of once, are none of this file's business (parting.py): they are passed by, and looked
through once and not every second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import trio

from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.delivery import Delivery, Entry
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import following, homes_of, partition_range
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import RecordParts, decode_record
from dynamo_fast.wire.control_messages import HintsReply, HintsRequest, OwnerHints
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

ROUND_S = 1.0
LATE_S = 10.0  # a round may be by so much, where a slow home held the one before up
AGED_EVERY_ROUNDS = 60  # how often hints that are too old are looked for
SCAN_RECORDS = 32  # read from the engine at once
LOOK_AGAIN_S = 60.0  # through a partition without hints whose tree is the same: what came may have been on a copy that was here before
SETTLED_MAX = 256  # confirmations that are written to the log together
AGED_RECORDS_MAX = 1000  # hints that are too old, of one partition, handed around together
ALL_HOMES = 0xFFFF


class Hint(NamedTuple):
    """One record kept for others."""

    store_key: bytes
    parts: RecordParts
    owed: int  # bit i: the home in slot i of the partition's preference list
    record_bytes: int  # what it takes in the engine

    @property
    def written_ms(self) -> int:
        """When its newest version was written, by the clock of whoever coordinated it."""
        return max((sibling.timestamp_ms for sibling in Siblings(self.parts.packed).siblings), default=0)

    @property
    def entry(self) -> Entry:
        return Entry(self.store_key, self.parts.hash, self.parts.bucket, self.parts.key, self.parts.packed)


class Without(NamedTuple):
    """A partition was looked through, and had no hint."""

    root: int  # of its tree, before the look
    hints_kept: int  # the data plane's count, before the look
    looked_s: float


class Handoff:
    """Delivers hints, and tells of them. `copies` is the W that makes a hint for an absent owner as safe as any write."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, peers: Peers, delivery: Delivery,
        hint_age_max_s: int, copies: int,
    ) -> None:  # fmt: skip
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._peers = peers
        self._delivery = delivery
        self._age_max_ms = 1000 * hint_age_max_s
        self._copies = copies
        self._kept_seen = -1  # hints that the data plane had kept when the partitions were last looked over; -1: never
        self._partitions: list[int] = []  # that had hints then
        self._counting = False
        self._bytes_found = 0  # of hints, in the first round
        self._told = False  # whether the data plane knows how many bytes there are
        self._foreign: tuple[tuple[int, ...], list[int]] = ((), [])  # names of placements, the partitions of which we are no home there
        self._without: dict[int, Without] = {}
        self._unsure = False  # whether the last round passed by a partition that it should have looked through
        self._slice = Slice(env)
        self.rounds = self.delivered = self.removed = self.aged = self.refused = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._env.sleep(ROUND_S * (0.75 + 0.5 * self._env.random()))
            if self._env.rarely("handoff: a round is late"):
                await self._env.sleep(LATE_S * self._env.random())
            await self.round()

    async def round(self) -> None:
        """Hands every reachable owner what is kept for it; owners side by side, so that a slow one holds up no other."""
        placement = self._cluster.hint_placement
        if placement is None:
            return
        same = self._foreign[0] == self._placements(placement)
        if same and not self._partitions and not self._unsure and self._kept_seen == self._data_plane.hints_kept:
            return
        self.rounds += 1
        self._kept_seen = self._data_plane.hints_kept
        self._unsure = False
        held = [one for one in await self._foreign_partitions(placement) if self._engine.holds(one)]
        self._without = {one: self._without[one] for one in held if one in self._without}
        self._partitions = [one for one in held if await self._keeps_hints(placement, one)]
        if not self._told:
            self._told = True
            self._data_plane.count_hints(self._bytes_found)
        elif not self._partitions and not self._unsure and self._kept_seen == self._data_plane.hints_kept:
            self._data_plane.count_hints(0)
        async with trio.open_nursery() as nursery:
            for index, node_id in enumerate(placement.node_ids):
                session = self._session(node_id)
                if session is not None:
                    nursery.start_soon(self._hand_over, placement, index, session)
        if self.rounds % AGED_EVERY_ROUNDS == 0:
            for partition in self._partitions:
                await self._hand_around(placement, partition)

    def _session(self, node_id: bytes) -> Session | None:
        """A session with the member, if it can be asked now."""
        return None if self._data_plane.suspects(node_id) else self._peers.up.get(node_id)

    def _placements(self, placement: Placement) -> tuple[int, ...]:
        """Names of those that say where a record cannot be a hint: that of the slots, and during a change the one that goes."""
        change = self._cluster.change
        return (placement.name,) if change is None else (change.old.name, placement.name)

    async def _foreign_partitions(self, placement: Placement) -> list[int]:
        """The partitions in which this node may keep hints."""
        names = self._placements(placement)
        if self._foreign[0] != names:
            await trio.lowlevel.checkpoint()
            change = self._cluster.change
            own = homes_of(placement, self._cluster.node_id).union(homes_of(change.old, self._cluster.node_id) if change else ())
            self._foreign = names, [partition for partition in range(placement.partitions) if partition not in own]
        return self._foreign[1]

    async def _keeps_hints(self, placement: Placement, partition: int) -> bool:
        """Whether there is a hint in a partition of which this node is no home. Old copies there are many, and change no more.

        One is enough to know; but in the first round all are counted. What comes or goes behind it meanwhile is not, which is made good
        when a round finds that nothing is left.
        """
        root, kept, now_s = self._engine.forest.root(partition), self._data_plane.hints_kept, self._env.now()
        before = self._without.get(partition)
        if before is not None and before.root == root:
            if before.hints_kept == kept:
                return False
            if now_s < before.looked_s + LOOK_AGAIN_S:
                self._unsure = True
                return False
        found = False
        for hint in self._hints(placement, partition):
            if hint is None:
                await self._slice.over()
                continue
            found = True
            if self._told:
                break
            self._bytes_found += hint.record_bytes
        if found:
            self._without.pop(partition, None)
        else:
            self._without[partition] = Without(root, kept, now_s)
        return found

    def _hints(self, placement: Placement, partition: int) -> Iterator[Hint | None]:
        """The hints of a partition, read a few at a time, each as it stands when it is drawn. None after every few records that were
        looked at, so that whoever draws can let others run."""
        at, end = partition_range(partition, placement.partitions)
        everyone = (1 << placement.replicas) - 1
        while found := self._engine.scan(at, end, SCAN_RECORDS):
            for store_key, record in found:
                parts = decode_record(record)
                current = parts.placement_number == placement.number & 0xFFFF
                owed = parts.owed if current or not parts.owed else everyone
                if owed:
                    yield Hint(store_key, parts, owed, len(record))
            yield None
            at = following(found[-1][0])

    # To the owner -----------------------------------------------------------------------------------------------------------------

    async def _hand_over(self, placement: Placement, owner: int, session: Session) -> None:
        """Everything that is kept for one node."""
        slots = {
            partition: 1 << placement.table[partition][: placement.replicas].index(owner)
            for partition in self._partitions
            if owner in placement.table[partition][: placement.replicas]
        }
        confirmed = Confirmations(self._data_plane, placement, slots)

        def kept() -> Iterator[Entry | None]:
            for partition, bit in slots.items():
                for hint in self._hints(placement, partition):
                    if hint is None:
                        yield None
                    elif hint.owed & bit:
                        yield hint.entry

        try:
            await self._delivery.push(session, placement.name, kept(), confirmed.settled)
        except CallFailed as error:
            log.debug("hints wait for another time", extra={"peer": session.connection.label, "reason": str(error)})
        except StorageError as error:
            log.warning("hints were delivered and cannot be removed here: they will be delivered again", extra={"reason": str(error)})
        finally:
            self._count(confirmed)
            if confirmed.delivered:
                log.info("hints are home", extra={"peer": str(session.connection.label), "hints": confirmed.delivered})

    def _count(self, confirmed: Confirmations) -> None:
        try:
            confirmed.write()
        except StorageError as error:
            log.warning("hints were delivered and cannot be removed here: they will be delivered again", extra={"reason": str(error)})
        self.delivered += confirmed.delivered
        self.removed += confirmed.removed
        self.refused += confirmed.refused

    # When the owner stays away ----------------------------------------------------------------------------------------------------

    async def _hand_around(self, placement: Placement, partition: int) -> None:
        """Hints that are too old to wait go to every home that is there, and may go once W of those have them."""
        oldest_ms = self._env.wall_ms() - self._age_max_ms
        aged: list[Hint] = []
        for hint in self._hints(placement, partition):
            if hint is None:
                await trio.lowlevel.checkpoint()
            elif hint.written_ms < oldest_ms:
                aged.append(hint)
            if len(aged) == AGED_RECORDS_MAX:
                break
        holders = {hint.store_key: 0 for hint in aged}

        def settled(entry: Entry, status: int, hash: int) -> None:
            holders[entry.store_key] += status == Status.OK

        for index in placement.table[partition][: placement.replicas] if aged else ():
            session = self._session(placement.node_ids[index])
            if session is None:
                continue
            try:
                await self._delivery.push(session, placement.name, (hint.entry for hint in aged), settled)
            except CallFailed as error:
                log.debug("old hints wait for another time", extra={"peer": session.connection.label, "reason": str(error)})
        enough = min(self._copies, placement.replicas)
        safe = [(hint.store_key, hint.parts.hash, ALL_HOMES) for hint in aged if holders[hint.store_key] >= enough]
        try:
            self.aged += self._data_plane.settle_hints(safe, placement.number)
        except StorageError as error:
            log.warning("old hints cannot be removed here", extra={"reason": str(error)})

    # For people -------------------------------------------------------------------------------------------------------------------

    async def answer(self, session: Session, request: HintsRequest) -> HintsReply:
        """How many hints this node keeps, for whom, and since when; counted now, from the records themselves."""
        placement = self._cluster.hint_placement
        if placement is None:
            raise Refusal(Status.NOT_READY, "this node knows of no cluster yet; ask a member, or wait")
        if self._counting:  # one at a time: many hints take long to count, and everybody else's questions wait behind
            raise Refusal(Status.OVERLOAD, "the hints of this node are being counted for somebody else; ask again later")
        self._counting = True
        try:
            return await self._count_hints(placement)
        finally:
            self._counting = False

    async def _count_hints(self, placement: Placement) -> HintsReply:
        counts = [0] * len(placement.node_ids)
        sizes = [0] * len(placement.node_ids)
        oldest_ms = [0] * len(placement.node_ids)
        for partition in await self._foreign_partitions(placement):
            if not self._engine.holds(partition):
                continue
            for hint in self._hints(placement, partition):
                if hint is None:
                    await trio.lowlevel.checkpoint()
                    continue
                for slot in range(placement.replicas):
                    if hint.owed >> slot & 1:
                        index = placement.table[partition][slot]
                        counts[index] += 1
                        sizes[index] += hint.entry.size
                        oldest_ms[index] = min(oldest_ms[index] or hint.written_ms, hint.written_ms)
        now_ms = self._env.wall_ms()
        return HintsReply(
            owners=[
                OwnerHints(node_id=node_id, hints=counts[index], size_bytes=sizes[index], oldest_s=max(0, now_ms - oldest_ms[index]) / 1000)
                for index, node_id in enumerate(placement.node_ids)
                if counts[index]
            ]
        )

    def statistics(self) -> dict[str, object]:
        """Counts since the start; `partitions_with_hints` as of the last round."""
        return {
            "rounds": self.rounds,
            "partitions_with_hints": len(self._partitions),
            "delivered": self.delivered,
            "removed": self.removed,
            "handed_around": self.aged,
            "refused_by_owner": self.refused,
        }


class Confirmations:
    """What one owner has confirmed, written to our log some at a time; dropped once slots count in another placement."""

    def __init__(self, data_plane: DataPlane, placement: Placement, slots: dict[int, int]) -> None:
        self._data_plane = data_plane
        self._number = placement.number
        self._shift = 128 - (placement.partitions.bit_length() - 1)
        self._slots = slots
        self._waiting: list[tuple[bytes, int, int]] = []
        self.delivered = self.removed = self.refused = 0

    def settled(self, entry: Entry, status: int, hash: int) -> None:
        """The owner has this very version on its disk (OK), or would not take it."""
        if status != Status.OK:
            self.refused += 1
            return
        self.delivered += 1
        self._waiting.append((entry.store_key, entry.hash, self._slots[int.from_bytes(entry.store_key[:16], "big") >> self._shift]))
        if len(self._waiting) >= SETTLED_MAX:
            self.write()

    def write(self) -> None:
        """StorageError when the disk refuses: the hints stay, and are delivered again."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.removed += self._data_plane.settle_hints(waiting, self._number)
