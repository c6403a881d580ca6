"""A node brings what it gains in a change of members up to date, and on its disk (core/change.py, step SYNCED; paper, section 6.2).

Each partition is streamed from one of the nodes that hold it, in order of store key and in batches that requests do not feel (ranges.py),
a few at once and spread over the sources. Then this node meets every source, about the partitions that have been streamed, until an
exchange that began after that has found everything the source holds to be here: what the streams passed by, what another source holds that
the first one lacks, what was written meanwhile. What is decided is decided in gaining.py.

Nothing else moves these partitions here: rounds compare by the placement that reads go by, in which this node is no home of them. And
nothing is streamed twice: a stream that breaks goes on where it was, with another source if need be, and after a restart where it was when
that was last written down, together with what it had brought.

What is here already needs no stream: old copies of a partition that this node was a home of once and has not parted with, or objects that
are written all the time, which arrive as writes. The first page shows it, and then the exchanges alone bring the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

import trio

from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.anti_entropy import AntiEntropy
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.delivery import Delivery, Pace
from dynamo_fast.node.exchange import BadAnswer
from dynamo_fast.node.gaining import Gaining, read_cursors
from dynamo_fast.node.identity import DataDirectory
from dynamo_fast.node.interfaces import DataPlane, Engine
from dynamo_fast.node.keys import following, partition_range
from dynamo_fast.node.meeting import Meeting, Tally, Terms
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.ranges import Ranges
from dynamo_fast.node.rounds import collided
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record

log = logging.getLogger("dynamo_fast.node")

CURSORS = "transfer"  # the file in the data directory
STREAMS_MAX = 4  # partitions that are streamed here at once
LOOK_S = 0.25  # between two looks at what can be done, when nothing could
RETRY_S = 2.0  # after something has failed
SAVE_S = 2.0  # between two writes of the cursors: what a restart may have streamed twice
SCAN_RECORDS = 64  # of our own, read at once
RATE_S = 10.0  # over which bytes per second are counted
TROUBLE = (CallFailed, BadAnswer, StorageError)


class Transfer:
    """`bring` does the work while it runs; it has no task of its own. One at a time."""

    def __init__(
        self, *, env: Env, cluster: Cluster, engine: Engine, data_plane: DataPlane, peers: Peers, delivery: Delivery,
        ranges: Ranges, anti_entropy: AntiEntropy, directory: DataDirectory,
    ) -> None:  # fmt: skip
        self._env = env
        self._cluster = cluster
        self._engine = engine
        self._data_plane = data_plane
        self._peers = peers
        self._delivery = delivery
        self._ranges = ranges
        self._anti_entropy = anti_entropy
        self._directory = directory
        self._gaining: Gaining | None = None  # of the last `bring`, that under way or one that is over
        self._tally = Tally()  # of its exchanges
        self._samples: deque[tuple[float, int, float]] = deque()  # when, bytes so far, share of the whole so far
        self._news = trio.Event()
        self._said: dict[bytes, str] = {}  # the last trouble that was logged, by source
        self._began_s = self._ended_s = 0.0  # of the last `bring`
        self.hints_owned = 0

    async def bring(self, old: Placement, new: Placement) -> None:
        """Returns when everything that this node gains from `old` to `new` is here, up to date with all that hold it, and on disk.

        Waits for sources that are away, unless they have been declared dead. Can be cancelled at any time, and begun again.
        """
        cursors = read_cursors(await self._env.offload(self._directory.read, CURSORS), old)
        gaining = self._gaining = Gaining(old, new, self._cluster.node_id, cursors)
        self._tally, self._said = Tally(), {}
        self._samples.clear()
        self._began_s, self._ended_s = self._env.now(), 0.0
        if gaining.parts:
            log.info("partitions are brought here", extra={"partitions": len(gaining.parts), "streamed_before": len(cursors)})
            await self._keep_trying(self._begin, gaining)
            async with trio.open_nursery() as nursery:
                for _ in range(STREAMS_MAX):
                    nursery.start_soon(self._stream, gaining)
                for source in sorted(gaining.left):
                    nursery.start_soon(self._meet, gaining, source)
                nursery.start_soon(self._remember, gaining)
                while not gaining.done:
                    self._sample(gaining)
                    gaining.leave_out(self._dead())
                    await self._look_again()
                nursery.cancel_scope.cancel()
            await self._keep_trying(self._delivery.durable)
            log.info("the partitions are here", extra={"partitions": len(gaining.parts), "objects": self._objects(gaining)})
        if cursors or gaining.parts:
            await self._save(b"")
        self._ended_s = self._env.now()

    def _dead(self) -> frozenset[bytes]:
        view = self._cluster.view
        return view.dead if view is not None else frozenset()

    def _tell(self) -> None:
        """Something is over that somebody may wait for: the streams, or the exchanges with a source."""
        self._news.set()
        self._news = trio.Event()

    async def _look_again(self) -> None:
        """Returns when something is over, or after a while. Meanwhile more has been streamed, to be compared at once."""
        with trio.move_on_after(LOOK_S):
            await self._news.wait()

    async def _keep_trying(self, what: object, *arguments: object) -> None:
        """A disk that refuses now may take it later; if it never does, the operator is told by the node's state."""
        while True:
            try:
                return await what(*arguments)  # type: ignore[operator, no-any-return]
            except StorageError as error:
                log.warning("partitions cannot be brought here now", extra={"reason": str(error)})
                await self._env.sleep(RETRY_S)

    async def _begin(self, gaining: Gaining) -> None:
        """Hints for these partitions are this node's own now, and what it may have lost of them is no matter.

        Every other node has been told to write to the homes that come, so no hint for one of these partitions can arrive any more. And
        whatever a partition lacks now is brought by the exchanges, all of which begin after this; so it is not suspect, and is again if
        something is lost from here on. Its tree must tell what is there, though, or the exchanges would pass over what is not.
        """
        suspects = self._engine.suspects.intersection(gaining.new_here)
        await self._anti_entropy.recount(suspects)
        for partition in suspects:
            self._engine.forgive(partition)
        slice_ = Slice(self._env)
        for partition in gaining.new_here:
            for keys in self._hints(gaining, partition) if self._engine.holds(partition) else ():
                self.hints_owned += self._data_plane.own_hints(keys) if keys else 0
                await slice_.over()

    def _hints(self, gaining: Gaining, partition: int) -> Iterator[list[bytes]]:
        """Store keys of what is kept for others in a partition, some at a time."""
        at, end = partition_range(partition, gaining.new.partitions)
        while found := self._engine.scan(at, end, SCAN_RECORDS):
            yield [store_key for store_key, record in found if decode_record(record).owed]
            at = following(found[-1][0])

    def _session(self, source: bytes) -> Session | None:
        """A session with the source, if it can be asked now."""
        return None if self._data_plane.suspects(source) or source in self._dead() else self._peers.up.get(source)

    # Streams ----------------------------------------------------------------------------------------------------------------------

    async def _stream(self, gaining: Gaining) -> None:
        """One partition after another, until all have been streamed. What a page may be long is found out once, not for each of them."""
        pace = Pace()
        while not gaining.all_streamed:
            taken = gaining.take_stream([source for source in gaining.left if self._session(source) is not None])
            if taken is None:
                await self._env.sleep(LOOK_S)
                continue
            partition, source = taken
            trouble = False
            try:
                await self._stream_partition(gaining, partition, source, pace)
            except TROUBLE as error:
                trouble = True
                self._say(source, error)
            finally:
                gaining.end_stream(partition, source)
            if trouble:
                await self._env.sleep(RETRY_S * (0.5 + self._env.random()))

    async def _stream_partition(self, gaining: Gaining, partition: int, source: bytes, pace: Pace) -> None:
        """Page after page. CallFailed, or StorageError, when it has to go on later."""
        part, fetched = gaining.parts[partition], gaining.fetched[source]
        while not part.streamed:
            session = self._session(source)
            if session is None:
                raise CallFailed("the source is away")
            # Where something is here already, the first page is a short one, to see how much.
            look = not part.after and self._engine.holds(partition)
            page = await self._ranges.pull(session, gaining.new.name, partition, part.after, Pace() if look else pace)
            fetched.objects += page.objects
            fetched.bytes += page.bytes
            fetched.wire_bytes += page.wire_bytes
            fetched.refused += page.refused
            # If most of the beginning is here already, comparing is cheaper than sending everything again. Behind a cursor it would prove
            # nothing: it may have come from there before a restart.
            known = not part.after and 2 * page.held > page.objects
            part.after, part.streamed = page.last, page.done or known
        if gaining.all_streamed:
            self._tell()

    # Exchanges --------------------------------------------------------------------------------------------------------------------

    async def _meet(self, gaining: Gaining, source: bytes) -> None:
        """Exchanges with one source until it has nothing that is not here."""
        while gaining.left[source]:
            session, partitions = self._session(source), gaining.to_meet(source)
            if session is None or not partitions or not self._anti_entropy.free(source):
                await self._look_again()
                continue
            meeting = Meeting(self._anti_entropy, session, self._tally, Terms(gaining.new, partitions))
            trouble = False
            try:
                await self._anti_entropy.hold(meeting)
            except TROUBLE as error:
                trouble = True
                self._say(source, error)
            gaining.in_line(source, meeting.in_line)
            if trouble:
                await self._env.sleep(RETRY_S * (0.5 + self._env.random()))
                continue
            if not gaining.left[source]:
                self._tell()
            await self._look_again()

    def _say(self, source: bytes, error: Exception) -> None:
        """Once for each trouble: it is tried again until it works. An exchange that gave way to another is none."""
        if not collided(error) and self._said.get(source) != str(error):
            self._said[source] = str(error)
            log.info("partitions wait for another try", extra={"peer": source.hex(), "reason": str(error)})

    # What is remembered ---------------------------------------------------------------------------------------------------------------

    async def _remember(self, gaining: Gaining) -> None:
        """Writes down how far the streams have come, until cancelled."""
        written = b""
        while True:
            await self._env.sleep(SAVE_S)
            cursors = gaining.file()
            if cursors != written:
                try:
                    # What the cursors say is here must be on disk before they are.
                    await self._delivery.durable()
                except StorageError:
                    continue
                written = cursors if await self._save(cursors) else written

    async def _save(self, data: bytes) -> bool:
        """Whether it is on disk. If not, a restart streams again what it need not, and that is all."""
        try:
            await self._env.offload(self._directory.write, CURSORS, data)
        except OSError as error:
            log.warning("how far partitions have come cannot be written down", extra={"reason": str(error)})
            return False
        return True

    # For people -----------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _objects(gaining: Gaining) -> int:
        return sum(one.objects for one in gaining.fetched.values())

    def _sample(self, gaining: Gaining) -> None:
        now_s = self._env.now()
        if not self._samples or now_s >= self._samples[-1][0] + RATE_S / 10:
            self._samples.append((now_s, sum(one.bytes for one in gaining.fetched.values()), gaining.share))
        while len(self._samples) > 2 and self._samples[0][0] < now_s - RATE_S:
            self._samples.popleft()

    def statistics(self) -> dict[str, object]:
        """Of the change under way, or the last one since the start. Bytes are of keys and objects, `wire_bytes` of the messages they came
        in; `seconds` since it was begun, or until it was over; `keys_compared_in` came by exchanges. `seconds_left` is what the streams
        will take, at the rate of the last ten seconds."""
        gaining = self._gaining
        if gaining is None:
            return {"partitions_wanted": 0, "partitions_done": 0}
        rate = left_s = None
        if not gaining.done and len(self._samples) > 1:
            (first_s, first_bytes, first_share), (last_s, last_bytes, last_share) = self._samples[0], self._samples[-1]
            rate = (last_bytes - first_bytes) / (last_s - first_s)
            if last_share > first_share:
                left_s = round((1.0 - last_share) * (last_s - first_s) / (last_share - first_share), 1)
        return {
            "partitions_wanted": len(gaining.parts),
            "partitions_streamed": sum(part.streamed for part in gaining.parts.values()),
            "partitions_done": sum(not part.sources for part in gaining.parts.values()),
            "objects": self._objects(gaining),
            "bytes": sum(one.bytes for one in gaining.fetched.values()),
            "wire_bytes": sum(one.wire_bytes for one in gaining.fetched.values()),
            "seconds": round((self._ended_s or self._env.now()) - self._began_s, 3),
            "bytes_per_s": None if rate is None else round(rate),
            "seconds_left": left_s,
            "keys_compared_in": self._tally.keys_pulled,
            "keys_refused": self._tally.refused + sum(one.refused for one in gaining.fetched.values()),
            "hints_owned": self.hints_owned,
            "waiting_for": [source for source, left in sorted(gaining.left.items()) if left and self._session(source) is None],
            "sources": {source.hex(): {"objects": one.objects, "bytes": one.bytes} for source, one in gaining.fetched.items()},
        }
