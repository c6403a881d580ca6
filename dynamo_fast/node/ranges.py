"""Whole partitions on their way to a node that becomes a home of them: page after page, in order of store key, named by nobody.

A page costs its objects and little more, where an object that is asked for by name costs its name, and being found to be missing. Nobody
makes Python objects of what is in it: the source packs records into one value of bytes, and the receiver checks it whole and merges it in
one pass of its loop. Pages are paced like any batch (delivery.py), and each is a step of background work for both ends. Whoever fetches
remembers how far it has come; the source remembers nothing, so any home can go on where another one ended.

What a page costs besides its objects is the same whatever its length. So while neither end has requests to serve, pages are as long as
they may be without a pass becoming long; and while the write buffer or the log are filling up, nothing is asked for until the disk has
caught up.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynamo_fast.env import Env
from dynamo_fast.node.admission import Admission
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.delivery import ANSWER_S, BATCH_BYTES_MAX, Delivery, Pace
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import following, last_before, partition_range
from dynamo_fast.node.object_scan import add_objects
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.wire import control_messages
from dynamo_fast.wire.object_page import ObjectPageWriter
from dynamo_fast.wire.replica_messages import RangeReply, RangeRequest
from dynamo_fast.wire.status import Status

SCAN_RECORDS_FIRST, SCAN_RECORDS_MAX = 16, 256  # read at once: a page of large objects is not read many times over
IDLE_BYTES_MAX = 256 * 1024  # of keys and objects in a page while nobody asks for anything: half a millisecond of merging
ROOM_LOOK_S = 0.01  # between two looks at whether the disk has caught up


@dataclass
class RangePage:
    """What one page of a partition brought. All up to and including store key `last` has been told; `done`: and that is all there is."""

    last: bytes
    done: bool
    objects: int
    bytes: int  # of keys and objects
    wire_bytes: int  # of the message, its frame left out
    held: int  # objects that added nothing to what was here
    refused: int  # objects that could not be merged here


class Ranges:
    """Both ends: `pull` fetches a page, `answer` gives one."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, delivery: Delivery, admission: Admission
    ) -> None:
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._delivery = delivery
        self._admission = admission
        self._record_bytes = 0  # of keys and objects, on average in the last page given
        self.objects_sent = self.bytes_sent = 0  # bytes of keys and objects

    async def pull(self, session: Session, placement: int, partition: int, after: bytes, pace: Pace) -> RangePage:
        """Fetches the next page of a partition, from behind `after`, from a home of it and merges it into ours. A step of background work.

        Raises as a pull does; CallFailed too when this node's data plane is no home of the partition yet: nothing has been merged then.
        """
        while self._engine.fullness and self._engine.read_only is None:
            await self._env.sleep(ROOM_LOOK_S)
        async with self._admission.slot(session.node_id) as slot:
            request = RangeRequest(placement=placement, partition=partition, after=after, bytes_max=pace.batch_bytes)
            # As in a pull: what arrives was read after the flight began, and is merged before it ends.
            with self._delivery.flights.flight():
                body = await session.call_encoded(control_messages.encode(request), ANSWER_S)
                try:
                    reply = control_messages.decode_reply(body)
                except control_messages.ControlMessageError as error:
                    raise CallFailed(str(error)) from error
                if not isinstance(reply, RangeReply):
                    raise CallFailed(f"wanted RangeReply, got {type(reply).__name__}")
                slot.pause_us = reply.pause_us
                page, slot.worked_s = self._merge(request, reply, len(body))
        pace.bytes_max = IDLE_BYTES_MAX if self._admission.share == 1.0 and reply.pause_us == 0 else BATCH_BYTES_MAX
        pace.merged(slot.worked_s)
        return page

    def _merge(self, request: RangeRequest, reply: RangeReply, wire_bytes: int) -> tuple[RangePage, float]:
        """Merges a page, and how long that kept the loop. CallFailed when the page does not lead on, or has what was not asked for."""
        view = self._cluster.view
        assert view is not None, "without a cluster there are no members to ask"
        start, end = partition_range(request.partition, view.partitions)
        told = max(request.after, last_before(start) if request.partition else b"")
        if not reply.done and not (len(reply.last) == len(end) and told < reply.last < end):
            raise CallFailed("a page of a partition that does not lead on")
        began_s = self._env.now()
        try:
            merged = self._data_plane.merge_page(reply.objects, request.partition, told, last_before(end) if reply.done else reply.last)
        except ValueError as error:
            raise CallFailed(str(error)) from error
        if merged is None:
            raise CallFailed("this node is no home of that partition yet", Status.STALE_PLACEMENT)
        objects, size, held, refused = merged
        stalled_s = self._delivery.merged(objects - refused, began_s)
        return RangePage(reply.last, reply.done, objects, size, wire_bytes, held, refused), stalled_s

    async def answer(self, session: Session, request: RangeRequest) -> RangeReply:
        """The next page of a partition of which this node is a home; read in slices, as a pull is."""
        placement = self._delivery.check_peer(session, request.placement)
        if request.partition not in self._delivery.own_partitions():
            raise Refusal(Status.BAD_REQUEST, f"this node is no home of partition {request.partition}")
        at, end = partition_range(request.partition, placement.partitions)
        if request.after:
            at = max(at, following(request.after.ljust(24, b"\0")))
        page, last = ObjectPageWriter(), request.after
        done = full = False
        step = SCAN_RECORDS_FIRST if not self._record_bytes else request.bytes_max // self._record_bytes + 1
        slice_ = Slice(self._env)
        while not (full or done):
            step = max(1, min(SCAN_RECORDS_MAX, step))
            found = self._engine.scan(at, end, step)
            added = add_objects(page, found, request.bytes_max)
            full, done = added < len(found), added == len(found) < step
            if added:
                last = found[added - 1][0]
                at = following(last)
                self._record_bytes = page.size // page.count + 1
                step = 1 + (request.bytes_max - page.size) // self._record_bytes
            await slice_.over()
        self.objects_sent += page.count
        self.bytes_sent += page.size
        pause_us = self._admission.answered(slice_.worked_s)
        return RangeReply(objects=bytes(page), last=last_before(end) if done else last, done=done, pause_us=pause_us)
