"""Objects on their way from one node to another: the one engine that hinted handoff, anti-entropy and transfers move data with.

`push` takes records of this node's own and hands them to another node, which merges them and answers once they are on its disk: whoever
deletes a copy on another's word has waited for an fdatasync (!). Merging is all the receiver does, so whatever is sent twice, late, out
of order or half does no harm, and nothing can come of it that was not written.

What is moved must not be felt. Batches are cut by bytes and sized so that merging one keeps the receiver's loop for about half a
millisecond; after each the sender pauses for as long as it waited, so that at most half of the time anything is under way at one
receiver, unless that one says that it has nothing else to do. Memory is a batch on each side. An object larger than a batch goes
alone; merging it takes what it takes, as when it was put.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dynamo_fast.core.histogram import Histogram
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.flights import Flights
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.control_messages import MERGE_ENTRIES_MAX, MergeReply, MergeRequest
from dynamo_fast.wire.status import Status

BATCH_BYTES_MIN, BATCH_BYTES_FIRST, BATCH_BYTES_MAX = 2048, 16 * 1024, 64 * 1024  # of keys and objects in one message
STALL_WANTED_S = 0.0005  # of the receiver's loop, for one batch
MERGES_AT_ONCE = 2  # batches that this node merges or syncs at a time; the control plane's other workers stay free
ANSWER_S = 15.0  # for a batch to be merged and synced: a slow disk is not a broken one
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


class Pace:
    """How much to send at once and how long to wait after it. Pure."""

    def __init__(self) -> None:
        self.batch_bytes = BATCH_BYTES_FIRST

    def answered(self, took_s: float, stalled_s: float, idle: bool) -> float:
        """A batch has been answered after `took_s`, having kept its receiver for `stalled_s`: the seconds to pause now."""
        if stalled_s > STALL_WANTED_S:
            self.batch_bytes = max(self.batch_bytes // 2, BATCH_BYTES_MIN)
        elif stalled_s < STALL_WANTED_S / 2:
            self.batch_bytes = min(self.batch_bytes * 2, BATCH_BYTES_MAX)
        return 0.0 if idle else took_s


Settled = Callable[[Entry, int, int], None]


class Delivery:
    """Both ends: `push`, and the answer to a MergeRequest."""

    def __init__(self, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self.flights = Flights()
        self._merging = 0
        self._foreground_seen = 0
        self.entries_sent = self.entry_bytes_sent = self.entries_merged = self.batches_merged = 0
        self.stall_us = Histogram()

    async def push(self, session: Session, placement: int, entries: Iterable[Entry], settled: Settled) -> None:
        """Hands entries to the member at the other end, which must be a home of their partitions in the placement of that name.

        `settled(entry, status, hash)` is called for each once it is on that node's disk (OK and the hash of what it holds now, which
        is another than the entry's when it had something of its own) or was not taken (any other status, and 0). Entries are drawn
        batch by batch, so give a generator that reads each as late as that. CallFailed when the other node is gone, refuses or does
        not answer: whatever was not settled is to be taken as not sent, though it may have arrived.
        """
        with self.flights.flight():
            await self._push(session, placement, entries, settled)

    async def _push(self, session: Session, placement: int, entries: Iterable[Entry], settled: Settled) -> None:
        pace = Pace()
        left = iter(entries)
        entry = next(left, None)
        while entry is not None:
            batch: list[Entry] = []
            size = 0
            while entry is not None and len(batch) < MERGE_ENTRIES_MAX and (not batch or size + entry.size <= pace.batch_bytes):
                batch.append(entry)
                size += entry.size
                entry = next(left, None)
            request = MergeRequest(placement=placement, entries=[(one.bucket, one.key, one.packed) for one in batch])
            began_s = self._env.now()
            reply = await self._offer(session, request)
            took_s = self._env.now() - began_s
            self.entries_sent += len(batch)
            self.entry_bytes_sent += size
            for one, (status, hash) in zip(batch, reply.results, strict=True):
                settled(one, status, hash)
            await self._env.sleep(pace.answered(took_s, reply.stalled_us / 1e6, reply.idle))

    async def _offer(self, session: Session, request: MergeRequest) -> MergeReply:
        """Sends one batch; a node that has no room for it now is asked again a few times."""
        for pause_s in (*OVERLOAD_PAUSES_S, None):
            try:
                reply = await session.call(request, ANSWER_S)
            except CallFailed as error:
                if error.status != Status.OVERLOAD or pause_s is None:
                    raise
                await self._env.sleep(pause_s * (0.5 + self._env.random()))
            else:
                if not isinstance(reply, MergeReply) or len(reply.results) != len(request.entries):
                    raise CallFailed("the answer to a merge tells of other entries than were sent")
                return reply
        raise AssertionError("the last attempt returns or raises")

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
            idle = self._idle()
            began_s = self._env.now()
            results = self._data_plane.merge_entries(request.entries)
            stalled_us = int((self._env.now() - began_s) * 1e6)
            self.stall_us.record(stalled_us)
            self.batches_merged += 1
            await self._data_plane.wait_durable(self._engine.position)
            self.entries_merged += sum(status == Status.OK for status, _ in results)
            return MergeReply(results=results, stalled_us=stalled_us, idle=idle)
        except StorageError as error:
            raise Refusal(Status.READ_ONLY, str(error)) from error
        finally:
            self._merging -= 1

    def check_peer(self, session: Session, placement: int) -> None:
        """Refusal unless a member of our cluster asks who works by our placement: in another one we may be no home."""
        if not session.trusted:
            raise Refusal(Status.BAD_REQUEST, "only members of the cluster exchange objects")
        if self._cluster.placement is None or placement != self._cluster.placement.name:
            raise Refusal(Status.STALE_PLACEMENT, "this node works by another placement")

    def _idle(self) -> bool:
        """Whether nothing but deliveries has come since the last one."""
        before, self._foreground_seen = self._foreground_seen, self._data_plane.foreground
        return before == self._foreground_seen

    def statistics(self) -> dict[str, object]:
        """Counts since the start; bytes are of keys and objects; `stall_us`: how long each batch kept the loop."""
        return {
            "entries_sent": self.entries_sent,
            "entry_bytes_sent": self.entry_bytes_sent,
            "entries_merged": self.entries_merged,
            "batches_merged": self.batches_merged,
            "stall_us": self.stall_us,
        }
