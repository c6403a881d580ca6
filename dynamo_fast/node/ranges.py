"""Whole partitions on their way to a node that becomes a home of them: page after page, in order of store key, named by nobody.

A page costs its objects and little more, where an object that is asked for by name costs its name, and being found to be missing. Pages are
merged like any batch (delivery.py), paced like one, and each is a step of background work for both ends. Whoever fetches remembers how far
it has come; the source remembers nothing, so any home can go on where another one ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynamo_fast.core.digest import key_position
from dynamo_fast.env import Env
from dynamo_fast.node.admission import Admission
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.delivery import ANSWER_S, Delivery, Pace, own_hash
from dynamo_fast.node.interfaces import Engine
from dynamo_fast.node.keys import following, last_before, partition_range
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.wire import control_messages
from dynamo_fast.wire.replica_messages import MERGE_ENTRIES_MAX, RangeReply, RangeRequest
from dynamo_fast.wire.status import Status

SCAN_RECORDS_FIRST, SCAN_RECORDS_MAX = 16, 64  # read at once: a page of large objects is not read many times over


@dataclass
class RangePage:
    """What one page of a partition brought. All up to and including store key `last` has been told; `done`: and that is all there is."""

    last: bytes
    done: bool
    objects: int
    bytes: int  # of keys and objects
    wire_bytes: int  # of the message, its frame left out
    held: int  # objects that added nothing to what was here; 0 where nothing was
    refused: int  # objects that could not be merged here


class Ranges:
    """Both ends: `pull` fetches a page, `answer` gives one."""

    def __init__(self, *, env: Env, cluster: Cluster, engine: Engine, delivery: Delivery, admission: Admission) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._delivery = delivery
        self._admission = admission
        self.objects_sent = self.bytes_sent = 0  # bytes of keys and objects

    async def pull(self, session: Session, placement: int, partition: int, after: bytes, pace: Pace) -> RangePage:
        """Fetches the next page of a partition, from behind `after`, from a home of it and merges it into ours. A step of background work.

        Raises as a pull does; CallFailed too when this node's data plane is no home of the partition yet: nothing has been merged then.
        """
        request = RangeRequest(placement=placement, partition=partition, after=after, bytes_max=pace.batch_bytes)
        async with self._admission.slot() as slot:
            # As in a pull: what arrives was read after the flight began, and is merged before it ends.
            with self._delivery.flights.flight():
                body = await session.call_encoded(control_messages.encode(request), ANSWER_S)
                try:
                    reply = control_messages.decode_reply(body)
                except control_messages.ControlMessageError as error:
                    raise CallFailed(str(error)) from error
                if not isinstance(reply, RangeReply):
                    raise CallFailed(f"wanted RangeReply, got {type(reply).__name__}")
                slot.their_share = reply.share
                keys = self._check_range(request, reply)
                before = [own_hash(self._engine, one) for one in keys] if self._engine.holds(partition) else [None] * len(keys)
                results, stalled_s = self._delivery.merge(reply.entries)
                pace.merged(stalled_s)
        if any(status == Status.STALE_PLACEMENT for status, _ in results):
            raise CallFailed("this node is no home of that partition yet", Status.STALE_PLACEMENT)
        return RangePage(
            last=reply.last,
            done=reply.done,
            objects=len(keys),
            bytes=sum(len(bucket) + len(key) + len(packed) for bucket, key, packed in reply.entries),
            wire_bytes=len(body),
            held=sum(status == Status.OK and was == now for was, (status, now) in zip(before, results, strict=True)),
            refused=sum(status != Status.OK for status, _ in results),
        )

    def _check_range(self, request: RangeRequest, reply: RangeReply) -> list[bytes]:
        """The store keys of a page. CallFailed when it does not lead on, or has what lies elsewhere or is out of order."""
        view = self._cluster.view
        assert view is not None, "without a cluster there are no members to ask"
        start, end = partition_range(request.partition, view.partitions)
        keys = [encode_store_key(view.mac_key, key_position(key, bucket), key, bucket) for bucket, key, _ in reply.entries]
        told = max(request.after, last_before(start) if request.partition else b"")
        for key in (*keys, reply.last) if not keys or keys[-1] != reply.last else keys:
            if not told < key < end and not (reply.done and key == reply.last):
                raise CallFailed("a page of a partition that does not lead on, or has what was not asked for")
            told = key
        return keys

    async def answer(self, session: Session, request: RangeRequest) -> RangeReply:
        """The next page of a partition of which this node is a home; read in slices, as a pull is."""
        placement = self._delivery.check_peer(session, request.placement)
        if request.partition not in self._delivery.own_partitions():
            raise Refusal(Status.BAD_REQUEST, f"this node is no home of partition {request.partition}")
        self._admission.note_work()
        at, end = partition_range(request.partition, placement.partitions)
        if request.after:
            at = max(at, following(request.after.ljust(24, b"\0")))
        entries: list[tuple[bytes, bytes, bytes]] = []
        size, last, done, step = 0, request.after, False, SCAN_RECORDS_FIRST
        slice_ = Slice(self._env)
        full = False
        while not (full or done):
            found = self._engine.scan(at, end, step)
            for store_key, record in found:
                parts = decode_record(record)
                added = len(parts.bucket) + len(parts.key) + len(parts.packed)
                full = bool(entries) and (size + added > request.bytes_max or len(entries) == MERGE_ENTRIES_MAX)
                if full:
                    break
                entries.append((parts.bucket, parts.key, parts.packed))
                size += added
                last = store_key
            done = not full and len(found) < step
            at = following(last) if last else at
            if entries:
                step = max(1, min(SCAN_RECORDS_MAX, 1 + (request.bytes_max - size) * len(entries) // max(size, 1)))
            await slice_.over()
        self.objects_sent += len(entries)
        self.bytes_sent += size
        return RangeReply(entries=entries, last=last_before(end) if done else last, done=done, share=self._admission.share)
