"""Objects on their way from one node to another: the one engine that hinted handoff, anti-entropy and transfers move data with.

`push` takes records of this node's own and hands them to another node, which merges them and answers once they are on its disk: whoever
deletes a copy on another's word has waited for an fdatasync (!). `pull` fetches another node's records and merges them here. Merging is
all that happens to a copy, so whatever is sent twice, late, out of order or half does no harm, nothing can come of it that was not
written, and what one side lacks is never taken for a delete. Whole partitions are fetched by `ranges.py`, in the same way.

What is moved must not be felt. Batches are cut by bytes and sized so that merging one keeps a loop for about half a millisecond; each is
a step of background work for the admission controllers of both ends. Memory is a batch on each side. An object larger than a batch goes
alone; merging it takes what it takes, as when it was put.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.histogram import Histogram
from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.admission import Admission
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.flights import Flights
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import homes_of
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record, encode_store_key, record_hash
from dynamo_fast.wire.replica_messages import MERGE_ENTRIES_MAX, MergeReply, MergeRequest, PullReply, PullRequest
from dynamo_fast.wire.status import Status

BATCH_BYTES_MIN, BATCH_BYTES_FIRST, BATCH_BYTES_MAX = 2048, 16 * 1024, 64 * 1024  # of keys and objects in one message
STALL_WANTED_S = 0.0005  # of the loop of the node that merges, for one batch
PULL_KEYS_FIRST = 64  # asked for in the first message of a pull; then twice as many as the last one brought
MERGES_AT_ONCE = 2  # batches that this node merges or syncs at a time; the control plane's other workers stay free
ANSWER_S = 15.0  # for a batch to be merged and synced: a slow disk is not a broken one
LONG_S = 5.0  # a batch may be on its way for so long
OVERLOAD_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)  # before a batch is offered again to a node that had no room for it


class Entry(NamedTuple):
    """One record of this node's as it goes to another: where it stands, its Merkle hash, and what is sent."""

    store_key: bytes
    hash: int
    bucket: bytes
    key: bytes
    packed: bytes

    @property
    def size(self) -> int:
        """Bytes that it adds to a message, framing left out."""
        return len(self.bucket) + len(self.key) + len(self.packed)


def own_entry(engine: Engine, store_key: bytes) -> Entry | None:
    """This node's copy as it stands now; None when there is none that can be read."""
    record = engine.get(store_key)
    if record is None:
        return None
    parts = decode_record(record)
    return Entry(store_key, parts.hash, parts.bucket, parts.key, parts.packed)


def own_hash(engine: Engine, store_key: bytes) -> int | None:
    """The Merkle hash of this node's copy as it stands now; None when there is none that can be read."""
    record = engine.get(store_key)
    return None if record is None else record_hash(record)


@dataclass
class Pulled:
    """What became of the keys of a pull."""

    fetched: int = 0  # objects
    absent: int = 0  # keys that the other node does not have
    refused: int = 0  # objects that could not be merged here
    passed_over: list[bytes] = field(default_factory=list)  # keys that were wanted no more when their turn came


class Pace:
    """How many bytes to move at once, and never more than `bytes_max`. Pure."""

    def __init__(self, bytes_max: int = BATCH_BYTES_MAX) -> None:
        self.batch_bytes = BATCH_BYTES_FIRST
        self.bytes_max = bytes_max

    def merged(self, stalled_s: float) -> None:
        """Merging a batch has kept its receiver's loop for that long."""
        if stalled_s > STALL_WANTED_S:
            self.batch_bytes = max(self.batch_bytes // 2, BATCH_BYTES_MIN)
        elif stalled_s < STALL_WANTED_S / 2:
            self.batch_bytes *= 2
        self.batch_bytes = min(self.batch_bytes, self.bytes_max)


Settled = Callable[[Entry, int, int], None]


class Delivery:
    """Both ends: `push` and `pull`, and the answers to MergeRequest and PullRequest."""

    def __init__(self, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, admission: Admission) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._admission = admission
        self.flights = Flights()
        self._merging = 0
        self._own: tuple[tuple[int, ...], frozenset[int]] = ((), frozenset())  # by the names of the placements that it follows from
        self.heard_s: dict[bytes, float] = {}  # by peer, when it last handed over, or asked for, anything that members tell each other
        self.entries_sent = self.entry_bytes_sent = self.entries_merged = self.batches_merged = 0
        self.stall_us = Histogram()

    async def push(self, session: Session, placement: int, entries: Iterable[Entry | None], settled: Settled) -> None:
        """Hands entries to the member at the other end, which must be a home of their partitions in the placement of that name.

        `settled(entry, status, hash)` is called for each once it is on that node's disk (OK and the hash of what it holds now, which
        is another than the entry's when it had something of its own) or was not taken (any other status, and 0). Entries are drawn
        batch by batch, so give a generator that reads each as late as that; one that looks long for the next gives None now and then, and
        others run. CallFailed when the other node is gone, refuses or does
        not answer: whatever was not settled is to be taken as not sent, though it may have arrived.
        """
        with self.flights.flight():
            await self._push(session, placement, entries, settled)

    @staticmethod
    async def _draw(left: Iterator[Entry | None], slice_: Slice) -> Entry | None:
        """The next one; None when there is none."""
        for entry in left:
            await slice_.over()
            if entry is not None:
                return entry
        return None

    async def _push(self, session: Session, placement: int, entries: Iterable[Entry | None], settled: Settled) -> None:
        pace = Pace()
        left = iter(entries)
        slice_ = Slice(self._env)
        entry = await self._draw(left, slice_)
        while entry is not None:
            batch: list[Entry] = []
            size = 0
            while entry is not None and len(batch) < MERGE_ENTRIES_MAX and (not batch or size + entry.size <= pace.batch_bytes):
                batch.append(entry)
                size += entry.size
                entry = await self._draw(left, slice_)
            self._admission.charge(slice_.worked_s)
            results = await self._offer(session, placement, batch, pace)
            self.entries_sent += len(batch)
            self.entry_bytes_sent += size
            for one, (status, hash) in zip(batch, results, strict=True):
                settled(one, status, hash)
            slice_ = Slice(self._env)

    async def _offer(self, session: Session, placement: int, batch: list[Entry], pace: Pace) -> list[tuple[int, int]]:
        """One batch to its end; a node that has no room for it now is asked again a few times."""
        request = MergeRequest(placement=placement, entries=[(one.bucket, one.key, one.packed) for one in batch])
        if self._env.rarely("delivery: a batch is on its way for long"):
            await self._env.sleep(LONG_S * self._env.random())
        for pause_s in (*OVERLOAD_PAUSES_S, None):
            async with self._admission.slot(session.node_id) as slot:
                try:
                    reply = await session.call(request, ANSWER_S)
                except CallFailed as error:
                    if error.status != Status.OVERLOAD or pause_s is None:
                        raise
                else:
                    if not isinstance(reply, MergeReply) or len(reply.results) != len(batch):
                        raise CallFailed("the answer to a merge tells of other entries than were sent")
                    pace.merged(reply.stalled_us / 1e6)
                    slot.pause_us = reply.pause_us
                    return reply.results
            await self._env.sleep(pause_s * (0.5 + self._env.random()))
        raise AssertionError("the last attempt returns or raises")

    async def pull(
        self, session: Session, placement: int, wanted: Mapping[bytes, int | None], *, whatever_is_here: bool = False
    ) -> Pulled:
        """Fetches objects from the member at the other end and merges them into ours.

        `wanted` has for each store key the hash of our copy, None for none, as it was when the object was found to be wanted: a key
        whose copy is another one by its turn is passed over, since somebody else has brought it, or a client has written it; unless all
        are wanted, `whatever_is_here`. What was merged is in our log, and on disk when the engine says so. Raises CallFailed as `push`
        does, StorageError when our log cannot be written.
        """
        pace = Pace()
        left = deque(wanted)
        pulled = Pulled()
        count = PULL_KEYS_FIRST
        while left:
            asked: list[bytes] = []
            while left and len(asked) < count:
                store_key = left.popleft()
                if whatever_is_here or own_hash(self._engine, store_key) == wanted[store_key]:
                    asked.append(store_key)
                else:
                    pulled.passed_over.append(store_key)
            if not asked:
                continue
            async with self._admission.slot(session.node_id) as slot:
                # What arrives was read after the flight began, and is merged before it ends.
                with self.flights.flight():
                    reply = await session.call(PullRequest(placement=placement, keys=asked, bytes_max=pace.batch_bytes), ANSWER_S)
                    if not isinstance(reply, PullReply) or not len(reply.entries) <= reply.answered <= len(asked):
                        raise CallFailed("the answer to a pull tells of other keys than were asked for")
                    slot.pause_us = reply.pause_us
                    self._check_asked(reply, asked[: reply.answered])
                    results, slot.worked_s = self.merge(reply.entries)
                    pace.merged(slot.worked_s)
            left.extendleft(reversed(asked[reply.answered :]))
            count = min(2 * reply.answered, MERGE_ENTRIES_MAX)
            pulled.fetched += len(reply.entries)
            pulled.absent += reply.answered - len(reply.entries)
            pulled.refused += sum(status != Status.OK for status, _ in results)
        return pulled

    async def durable(self) -> None:
        """Returns when all that was merged here so far is on disk; StorageError when it cannot be."""
        await self._data_plane.wait_durable(self._engine.position)

    def _check_asked(self, reply: PullReply, asked: list[bytes]) -> None:
        """A peer gives what was asked for: what it gives unasked would end in partitions that nobody compares."""
        view = self._cluster.view
        assert view is not None, "without a cluster there are no members to ask"
        wanted = set(asked)
        for bucket, key, _ in reply.entries:
            if encode_store_key(view.mac_key, key_position(key, bucket), key, bucket) not in wanted:
                raise CallFailed("the answer to a pull has a key that was not asked for")

    def merge(self, entries: list[tuple[bytes, bytes, bytes]]) -> tuple[list[tuple[int, int]], float]:
        """Merges a batch; what became of each, and how long the loop was kept."""
        began_s = self._env.now()
        results = self._data_plane.merge_entries(entries)
        return results, self.merged(sum(status == Status.OK for status, _ in results), began_s)

    def merged(self, entries: int, began_s: float) -> float:
        """Counts a batch that began to be merged then and has been; how long the loop was kept."""
        stalled_s = self._env.now() - began_s
        self.stall_us.record(int(stalled_s * 1e6))
        self.batches_merged += 1
        self.entries_merged += entries
        return stalled_s

    async def answer_merge(self, session: Session, request: MergeRequest) -> MergeReply:
        """Merges another member's objects into ours; the answer leaves after the fdatasync that covers all of them.

        Nothing is acknowledged when the log cannot be written or synced. An object that is none, or of a partition of which this node
        is no home, is answered alone, so that it does not keep the others from their place.
        """
        self.check_peer(session, request.placement)
        if self._merging >= MERGES_AT_ONCE:
            raise Refusal(Status.OVERLOAD, f"{MERGES_AT_ONCE} batches are being merged here already; try again later")
        self._merging += 1
        try:
            results, stalled_s = self.merge(request.entries)
            await self._data_plane.wait_durable(self._engine.position)
            return MergeReply(results=results, stalled_us=int(stalled_s * 1e6), pause_us=self._admission.answered(stalled_s))
        except StorageError as error:
            raise Refusal(Status.READ_ONLY, str(error)) from error
        finally:
            self._merging -= 1

    async def answer_pull(self, session: Session, request: PullRequest) -> PullReply:
        """Our copies of the first keys asked for; read in slices, since every key may be a look into LMDB."""
        self.check_peer(session, request.placement)
        entries: list[tuple[bytes, bytes, bytes]] = []
        size = answered = 0
        slice_ = Slice(self._env)
        for store_key in request.keys:
            entry = own_entry(self._engine, store_key)
            if entry is not None and entries and size + entry.size > request.bytes_max:
                break
            answered += 1
            if entry is not None:
                entries.append((entry.bucket, entry.key, entry.packed))
                size += entry.size
            await slice_.over()
        self.entries_sent += len(entries)
        self.entry_bytes_sent += size
        return PullReply(entries=entries, answered=answered, pause_us=self._admission.answered(slice_.worked_s))

    def own_partitions(self) -> frozenset[int]:
        """The partitions of which this node is a home in any placement that may be worked by: what it holds elsewhere is not its own."""
        unretired = self._cluster.unretired
        names = tuple(placement.name for placement in unretired)
        if self._own[0] != names:
            self._own = names, frozenset().union(*(homes_of(placement, self._cluster.node_id) for placement in unretired))
        return self._own[1]

    def check_peer(self, session: Session, placement: int) -> Placement:
        """The placement that the asker names. Refusal unless it is a member of our cluster, or one that leaves, and that placement is one
        that may be worked by: in another one we may be no home."""
        if not session.trusted:
            raise Refusal(Status.BAD_REQUEST, "only members of the cluster exchange objects")
        named = self._cluster.named(placement)
        if named is None:
            raise Refusal(Status.STALE_PLACEMENT, "this node works by another placement")
        assert session.node_id is not None, "members have said who they are"
        self.heard_s[session.node_id] = self._env.now()
        return named

    def statistics(self) -> dict[str, object]:
        """Counts since the start; bytes are of keys and objects; `stall_us`: how long each batch kept the loop."""
        return {
            "entries_sent": self.entries_sent,
            "entry_bytes_sent": self.entry_bytes_sent,
            "entries_merged": self.entries_merged,
            "batches_merged": self.batches_merged,
            "stall_us": self.stall_us,
        }
