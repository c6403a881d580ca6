"""Anti-entropy: two homes of a partition compare their Merkle trees and bring each other what they lack (paper, section 4.7).

An exchange with one peer: the roots of all partitions that both are homes of, in one message, 8 bytes each; that is all when they agree.
Where they do not, and still do not SETTLE_S later, down the trees to the leaves, then the keys of those with the hashes of their versions
(`exchange.py` compares). Then the objects: what they have and we lack is pulled, what we have and they lack or know less of is pushed.
Right before an object moves it is looked at again, by its outline, on both sides: a write that was under way when its key was listed has
arrived by then, and is no difference.

Nothing is remembered from one exchange to the next but the trees: a session that breaks leaves whatever has been merged, and the next
exchange begins with what still differs. Since all that ever happens to a copy is a merge, an exchange can add nothing that was not written,
a key that one side lacks is never taken for a delete, and a delete, which is a tombstone, moves like any other version.

A round compares the partitions of which both are homes in the placement that reads go by. A node that gains a partition is no home of it
there until it has all of it, so no round fills it beside the transfer that does (transfer.py). Both sides go by the placement that the
request names, as the other one may be a step ahead. An exchange may be limited to partitions that are listed (meeting.py): of those only
the one that is asked must be a home, in any placement in use. What a node holds where it is no home are hints and old copies; nobody asks
for them, handoff delivers the ones and parting.py the others.

Partitions that may lack something. The rule by which one is trusted again (exchange.Trust) counts the homes of one placement, so what was
compared under another does not count: a write from before is in W homes of the old placement, one from after in W homes of the new one,
and a count over both might meet neither. A partition that is gained needs no trust to begin with: transfer.py takes over all that any home
has, forgives it when that begins, and whatever is found lost after that waits for the rounds as ever, which see this node as a home as
soon as it is read from. Until then it stays suspect, although this node is no home of it by the placement of reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.env import Env
from dynamo_fast.node.admission import Admission
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.delivery import Delivery, own_entry
from dynamo_fast.node.exchange import (
    Trust,
    leaf_ranges,
    pack_listing,
    shared_partitions,
)
from dynamo_fast.node.interfaces import Engine
from dynamo_fast.node.keys import following
from dynamo_fast.node.meeting import Meeting, Tally, Terms
from dynamo_fast.node.sessions import Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import record_hash
from dynamo_fast.wire import replica_messages as messages
from dynamo_fast.wire.status import Status

VISIT_S = 5.0  # after a peer's last request its exchange with us is taken to be over
TREE_HASHES_MAX = 4096  # in one answer
SCAN_BYTES, SCAN_RECORDS_MAX = 256 * 1024, 64  # of records read at once when keys are listed
OUTLINE_BYTES_MAX = 64 * 1024  # of outlines in one message, after the first


class AntiEntropy:
    """Both sides of an exchange: `exchange` with a peer, and the answers to a peer's. Rounds decides with whom, and when."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, delivery: Delivery, admission: Admission, others_needed: int
    ) -> None:  # fmt: skip
        self.env = env
        self.cluster = cluster
        self.engine = engine
        self.delivery = delivery
        self.admission = admission
        self._shared: dict[tuple[int, bytes], list[int]] = {}  # by name of a placement in use, and peer
        self._visits: set[bytes] = set()  # peers that have begun an exchange with us and not said that it is over
        self._claims: dict[int, bytes] = {}  # by partition, with whom it is being brought in line
        self.meeting: set[bytes] = set()  # peers with whom an exchange begun here is under way
        self.met_s: dict[bytes, float] = {}  # by peer, when an exchange begun by either last came to its end
        self.total = Tally()
        self._others_needed = others_needed
        self._trust = Trust(others_needed)
        self._trusted_in = 0  # the name of the placement that `_trust` counts in
        self._recounted: set[int] = set()  # suspect partitions whose trees tell what their records are

    def suspects_with(self, peer: bytes) -> list[int]:
        """The partitions shared with the peer that may lack something of ours and have not been compared with it since."""
        placement = self.cluster.placement
        if placement is not None and self._trusted_in != placement.name:
            self._trusted_in, self._trust = placement.name, Trust(self._others_needed)
        suspects = self.engine.suspects
        self._trust.suspect(suspects)
        self._recounted &= suspects
        return sorted(set(self._trust.lacks(peer)).intersection(self.shared(peer))) if suspects else []

    def forgive_alone(self) -> None:
        """No comparison mends a partition of which there is no other home, and none of which we are no home, now or soon: that one's homes
        have all it should hold but hints, which nobody else has; and should we become a home of it, we are given all there is."""
        placement = self.cluster.placement
        if not self.engine.suspects or placement is None or self.cluster.node_id not in placement.node_ids:
            return
        own = placement.node_ids.index(self.cluster.node_id)
        for partition in self.engine.suspects:
            if partition not in self.delivery.own_partitions() or placement.table[partition][: placement.replicas] == (own,):
                self.engine.forgive(partition)

    async def recount(self, partitions: Iterable[int]) -> None:
        """Makes sure that the trees of suspect partitions know what was lost: a record that has gone may have left its hash behind."""
        count = self.engine.forest.leaf_count
        for partition in partitions:
            if partition not in self._recounted and self.engine.forest.root(partition):
                await self.recompute(range(partition * count, (partition + 1) * count), Slice(self.env))
            self._recounted.add(partition)

    async def trust(self, placement: Placement, peer: bytes, partitions: Sequence[int]) -> None:
        """Our copies of these have all that the peer's had: where enough other homes have been asked they are suspect no more."""
        if partitions:
            await self.delivery.durable()
            for partition in partitions if placement.name == self._trusted_in else ():
                if self._trust.compared(partition, peer, placement.replicas - 1):
                    self.engine.forgive(partition)

    def shared(self, peer: bytes, placement: Placement | None = None) -> list[int]:
        """The partitions that this node and the peer are homes of, in that placement or in the one that reads go by."""
        placement = placement or self.cluster.placement
        if placement is None:
            return []
        if (placement.name, peer) not in self._shared:
            in_use = {one.name for one in self.cluster.unretired}
            self._shared = {key: partitions for key, partitions in self._shared.items() if key[0] in in_use}
            self._shared[placement.name, peer] = shared_partitions(placement, self.cluster.node_id, peer)
        return self._shared[placement.name, peer]

    def free(self, peer: bytes) -> bool:
        """Whether no exchange with the peer is under way, begun by either."""
        return peer not in self.meeting and not self.visiting(peer)

    def visiting(self, peer: bytes) -> bool:
        """Whether an exchange that the peer has begun is under way."""
        return peer in self._visits and self.env.now() < self.delivery.heard_s.get(peer, 0.0) + VISIT_S

    def claim(self, peer: bytes, partitions: Iterable[int]) -> list[int]:
        """Those of the partitions that are brought in line with this peer from now on, until the exchange is over.

        With one peer at a time: two that hold the same would bring the same keys to a third that lacks them.
        """
        free = []
        for partition in partitions:
            holder = self._claims.get(partition, peer)
            if holder == peer or not (holder in self.meeting or self.visiting(holder)):
                self._claims[partition] = peer
                free.append(partition)
        return free

    def release(self, peer: bytes) -> None:
        """The exchange with this peer is over."""
        self._visits.discard(peer)
        self._claims = {partition: holder for partition, holder in self._claims.items() if holder != peer}

    async def exchange(self, session: Session, tally: Tally) -> None:
        """One exchange to its end, counted into `tally` as it goes. CallFailed, BadAnswer or StorageError when it ends early.

        CallFailed with OVERLOAD: some partitions were left to another exchange that is under way with one of the two.
        """
        assert self.cluster.placement is not None, "members have a placement"
        meeting = Meeting(self, session, tally, Terms(self.cluster.placement))
        await self.hold(meeting)
        self.met_s[meeting.peer] = self.env.now()

    async def hold(self, meeting: Meeting) -> None:
        """Any exchange to its end, as `exchange`. One at a time with a peer that is `free`."""
        self.meeting.add(meeting.peer)
        try:
            await meeting.run()
        finally:
            self.meeting.discard(meeting.peer)
            self.release(meeting.peer)

    # The other side -------------------------------------------------------------------------------------------------------------

    def _visited(self, session: Session, placement: int, partitions: Iterable[int] = ()) -> Placement:
        """Who asks is a member or leaves, works by a placement in use, and asks about what is ours: that placement.

        Whoever asks need not be a home itself: it may be about to become one, or have been one. All it can do is to learn what we hold
        and to add to it, as whoever reads and writes can.
        """
        named = self.delivery.check_peer(session, placement)
        assert session.node_id is not None, "members have said who they are"
        if not self.delivery.own_partitions().issuperset(partitions):
            raise Refusal(Status.BAD_REQUEST, "this node is no home of one of these partitions")
        self._visits.add(session.node_id)
        return named

    async def answer_compare(self, session: Session, request: messages.CompareRequest) -> messages.CompareReply:
        peer = session.node_id or b""
        if peer in self.meeting and self.cluster.node_id < peer:
            # Both have begun at once: the exchange of the smaller id goes on.
            raise Refusal(Status.OVERLOAD, "an exchange between these two nodes is under way")
        named = self._visited(session, request.placement, request.partitions or ())
        partitions = self.shared(peer, named) if request.partitions is None else request.partitions
        if len(request.roots) != 8 * len(partitions):
            raise Refusal(Status.BAD_REQUEST, f"{len(partitions)} partitions have {8 * len(partitions)} bytes of roots")
        roots = await self.roots(partitions)
        differing = [
            partition for i, partition in enumerate(partitions) if roots[8 * i : 8 * i + 8] != request.roots[8 * i : 8 * i + 8]
        ]
        if request.durable:
            try:
                await self.delivery.durable()
            except StorageError as error:
                raise Refusal(Status.READ_ONLY, str(error)) from error
        if request.finished or (request.partitions is None and not differing):
            self.met_s[peer] = self.env.now()
        if request.partitions == [] or (request.partitions is None and not differing):
            self.release(peer)
        if request.partitions is None:
            return messages.CompareReply(differing=differing)
        free = self.claim(peer, differing)
        return messages.CompareReply(differing=free, busy=sorted(set(differing) - set(free)))

    async def answer_tree(self, session: Session, request: messages.TreeRequest) -> messages.TreeReply:
        self._visited(session, request.placement, {node >> request.level for node in request.nodes})
        if len(request.nodes) << request.depth > TREE_HASHES_MAX:
            raise Refusal(Status.TOO_LARGE, f"at most {TREE_HASHES_MAX} hashes at once")
        try:
            hashes = self.engine.forest.descendants(request.level, request.nodes, request.depth)
        except IndexError as error:
            raise Refusal(Status.BAD_REQUEST, str(error)) from error
        return messages.TreeReply(hashes=hashes, pause_us=self.admission.answered())

    async def answer_entries(self, session: Session, request: messages.EntriesRequest) -> messages.EntriesReply:
        self._visited(session, request.placement, {leaf // self.engine.forest.leaf_count for leaf in request.leaves})
        slice_ = Slice(self.env)
        if request.recompute:
            await self.recompute(request.leaves, slice_)
        entries, done = await self.listing(self.ranges(request.leaves), request.after, slice_)
        packed = pack_listing(entries)
        return messages.EntriesReply(entries=packed, done=done, pause_us=self.admission.answered(slice_.worked_s))

    async def answer_outlines(self, session: Session, request: messages.OutlinesRequest) -> messages.OutlinesReply:
        self._visited(session, request.placement)
        outlines: list[bytes] = []
        size = 0
        slice_ = Slice(self.env)
        for store_key in request.keys:
            entry = own_entry(self.engine, store_key)
            outline = Siblings(entry.packed).outline().packed if entry is not None else b""
            size += len(outline)
            if outlines and size > OUTLINE_BYTES_MAX:
                break
            outlines.append(outline)
            await slice_.over()
        return messages.OutlinesReply(outlines=outlines, pause_us=self.admission.answered(slice_.worked_s))

    # What both sides do ---------------------------------------------------------------------------------------------------------

    async def roots(self, partitions: Sequence[int]) -> bytes:
        """8 little-endian bytes each. Trees that were written to since the last look are hashed anew, so in slices."""
        roots = bytearray()
        slice_ = Slice(self.env)
        for partition in partitions:
            roots += self.engine.forest.root(partition).to_bytes(8, "little")
            await slice_.over()
        return bytes(roots)

    def ranges(self, leaves: Iterable[int]) -> list[tuple[bytes, bytes]]:
        forest = self.engine.forest
        return leaf_ranges(leaves, forest.partitions * forest.leaf_count)

    async def recompute(self, leaves: Iterable[int], slice_: Slice) -> None:
        """Sums up leaves from what is in them; they are counted through the trees of all partitions."""
        for leaf in leaves:
            self.engine.recompute(*divmod(leaf, self.engine.forest.leaf_count))
            await slice_.over()

    async def listing(self, ranges: Sequence[tuple[bytes, bytes]], after: bytes, slice_: Slice) -> tuple[list[tuple[bytes, int]], bool]:
        """What this node holds in the ranges behind `after`, at most LISTED_MAX keys; and whether that is all."""
        entries: list[tuple[bytes, int]] = []
        first = following(after.ljust(24, b"\0")) if after else b""
        step = 16
        for start, end in ranges:
            start = max(start, first)
            while start < end:
                wanted = min(step, messages.LISTED_MAX - len(entries))
                if wanted == 0:
                    return entries, False
                found = self.engine.scan(start, end, wanted)
                entries += [(key, record_hash(record)) for key, record in found]
                if len(found) < wanted:
                    break
                start = following(found[-1][0])
                step = max(1, min(SCAN_RECORDS_MAX, SCAN_BYTES * len(found) // sum(len(record) for _, record in found)))
                await slice_.over()
        return entries, True
