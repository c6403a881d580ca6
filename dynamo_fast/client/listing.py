"""All keys of a bucket, page by page, from R homes of every partition.

One home may lack keys that a put of W copies left on the others, so each partition is told by R of its homes. A node tells all
partitions that are asked of it as one stream, in the order in which nodes keep their records (by store key: position, then hash), and
the streams are merged: a key is given out once every stream has passed it. When a node fails, other homes go on from where it stood.
One that may have lost records of a partition does not count as one of the R in it; where R that count cannot be had, all homes there
are must tell. Memory is bounded by a page per stream, not by the size of the bucket.

All R of a key are homes of one placement. Two of which one answered as a home in the placement that goes and the other as one in the
placement that comes may both lack what W homes of each hold, so when there is another placement, everything that has not been given
out yet is asked of its homes again. A node may be a step behind or ahead of what we know (core/change.py): it is asked again for a while.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio

from dynamo_fast.client.connection import Answers
from dynamo_fast.client.errors import DynamoError, QuorumFailed, Unknown, error_of, no_such_bucket
from dynamo_fast.client.pool import Node
from dynamo_fast.client.routing import reply_in
from dynamo_fast.client.shared import Shared
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.control_messages import (
    KEYS_PAGE_MAX,
    KEYS_PARTITIONS_MAX,
    KeysPageReply,
    KeysPageRequest,
    PlacementReply,
    Reply,
    encode,
)
from dynamo_fast.wire.frame import Frame
from dynamo_fast.wire.key_page import STORE_KEY_BYTES, KeyPage, merge_pages
from dynamo_fast.wire.status import MessageType, Status

OVERLOADS_MAX, OVERLOAD_PAUSE_S = 50, 0.02  # a node that says "overload" is asked again so often in a row, after so long
STALES_MAX, STALE_PAUSE_S = 50, 0.1  # and so one that is no home by the placement that it works by, and knows of no other than we

LAST = b"\xff" * STORE_KEY_BYTES  # the highest store key there can be


class _Stream:
    """How far one node has told the partitions that are asked of it."""

    def __init__(self, node: Node, partitions: Sequence[int], after: bytes) -> None:
        self.node = node
        self.partitions = partitions  # ascending
        self.after = after  # store key up to which the node has told everything
        self.page: KeyPage | None = None  # told and not yet given out
        self.done = False  # it has told everything
        self.overloads = self.stales = 0  # in a row
        self.doubted: set[int] = set()  # partitions of which the node may have lost records: what it tells of them does not count

    def rest(self, total: int) -> Sequence[int]:
        """The partitions that are not wholly told, of `total` there are."""
        return self.partitions[bisect_left(self.partitions, untold(self.after, total)) :]

    def take(self, reply: Reply, asked: Sequence[int]) -> list[int]:
        """One page more, of these partitions; returns those of them that are doubted from now on. Unknown when it is no page."""
        if not isinstance(reply, KeysPageReply) or not reply.next > self.after:
            raise Unknown(f"{self.node.address} answered with no page that leads on")
        try:
            self.page = KeyPage(reply.entries, self.after, reply.next)
        except ValueError as error:
            raise Unknown(f"{self.node.address} answered with a page that makes no sense: {error}") from error
        self.after = reply.next
        self.done = reply.done and asked[-1] == self.partitions[-1]
        self.overloads = self.stales = 0
        doubted = ({*asked} & {*reply.suspects}) - self.doubted
        self.doubted |= doubted
        return sorted(doubted)


def status_of(reply: Frame | DynamoError | None) -> int | None:
    """Of an answer that came; None for an error that stands for one."""
    return reply.status if isinstance(reply, Frame) else None


def untold(after: bytes, total: int) -> int:
    """The first partition, of `total` there are, that is not wholly told when everything is up to and including the store key `after`."""
    return (int.from_bytes(after, "big") + 1) * total >> 8 * STORE_KEY_BYTES if after else 0


def settings_of(placement: PlacementReply, bucket: bytes) -> BucketSettings | None:
    """What was set for a bucket; None when nothing was, which only the default bucket, of the empty name, can do without."""
    return next((entry.settings for entry in placement.buckets if entry.name == bucket), None)


class Keys:
    """Async iterator over the keys of one bucket, as bytes. Raises NoSuchBucket, or another DynamoError when R homes cannot be asked."""

    def __init__(self, shared: Shared, bucket: bytes, deadline_s: float, page: int) -> None:
        self._shared = shared
        self._bucket = bucket
        self._deadline_s = deadline_s  # of each round of pages
        self._page = max(1, min(page, KEYS_PAGE_MAX))
        self._r = 0  # homes that tell each partition, and count
        self._ready: deque[bytes] = deque()
        self._given = b""  # all keys up to this store key have been given out
        self._number = 0  # of the placement whose homes are asked
        self._streams: list[_Stream] | None = None  # those that are done too: they say whom not to ask again; None before the first page
        self._failed: defaultdict[int, set[Node]] = defaultdict(set)  # partition -> homes that are not asked for it again
        self.partitions = 0  # in all; 0 until the first key was asked for
        self.partitions_done = 0

    def __aiter__(self) -> Keys:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if not await self._advance():
                raise StopAsyncIteration
        return self._ready.popleft()

    async def take(self, count: int) -> list[bytes]:
        """The next `count` keys, fewer at the end, none after it."""
        while len(self._ready) < count and await self._advance():
            pass
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    async def _advance(self) -> bool:
        """One round of pages; False when all partitions are told."""
        if self._streams is None:
            await self._begin()
        assert self._streams is not None
        self._keep_up()
        if all(stream.done and stream.page is None for stream in self._streams):
            return False
        await self._ask([stream for stream in self._streams if stream.page is None and not stream.done])
        self._give()
        return True

    async def _begin(self) -> None:
        """The first streams."""
        placement = await self._shared.placement()
        settings = settings_of(placement, self._bucket)
        if settings is None and self._bucket:
            await self._shared.router.refresh()  # it may have been made since
            placement = await self._shared.placement()
            settings = settings_of(placement, self._bucket)
            if settings is None:
                raise no_such_bucket(self._bucket)
        self.partitions = placement.partitions
        self._keep_up()

    def _keep_up(self) -> bool:
        """When there is another placement than the one by which the homes were chosen, its homes tell all that has not been given out.

        True when there is one: then nothing that was asked before counts.
        """
        router = self._shared.router
        placement = router.placement
        assert placement is not None
        if self._streams is not None and placement.number == self._number:
            return False
        settings = settings_of(placement, self._bucket)
        self._r = min(placement.replicas, (settings and settings.r) or placement.defaults.r)
        self._number = placement.number
        self._streams = []
        self._failed.clear()
        self._complete(range(untold(self._given, self.partitions), self.partitions), self._given, QuorumFailed("it has none"))
        return True

    def _complete(self, partitions: Iterable[int], after: bytes, why: DynamoError) -> None:
        """Sees to it that R homes that count tell each of these partitions, or all homes there are; new streams begin behind `after`.

        Connected nodes are asked before others, then those asked for least. QuorumFailed, with why, when neither can be had.
        """
        assert self._streams is not None
        present: defaultdict[int, set[Node]] = defaultdict(set)
        counted: Counter[int] = Counter()
        for stream in self._streams:
            for partition in stream.partitions:
                present[partition].add(stream.node)
                counted[partition] += partition not in stream.doubted
        load: Counter[Node] = Counter()
        chosen: defaultdict[Node, list[int]] = defaultdict(list)
        router = self._shared.router
        for partition in partitions:
            failed = self._failed.get(partition, set())
            free = [node for node in router.homes_of(partition) if node not in present[partition] and node not in failed]
            for _ in range(self._r - counted[partition]):
                if not free and failed:
                    doubted = len(present[partition]) - counted[partition]
                    more = f"; and of the others {doubted} may have lost records of it" if doubted else ""
                    raise QuorumFailed(f"too few homes of partition {partition} could list their keys: {why}{more}")
                if not free:
                    break  # all tell: there is nobody who could know more
                node = min(free, key=lambda node: (node.connection is None, load[node]))
                free.remove(node)
                load[node] += 1
                chosen[node].append(partition)
        self._streams += [_Stream(node, told, after) for node, told in chosen.items()]

    async def _ask(self, asked: Sequence[_Stream]) -> None:
        """A page for each stream; what a stream cannot tell is asked of others in the next round."""
        answers = Answers()
        named: list[tuple[_Stream, Sequence[int]]] = []
        for stream in sorted(asked, key=lambda stream: stream.node.connection is None):  # nobody waits for who is away
            partitions = stream.rest(self.partitions)[:KEYS_PARTITIONS_MAX]
            request = KeysPageRequest(partitions=list(partitions), bucket=self._bucket, after=stream.after, limit=self._page)
            named.append((stream, partitions))
            try:
                connection = await stream.node.connected(trio.current_time() + self._deadline_s / 4)
            except DynamoError as error:
                answers.give(answers.expect(), error)
            else:
                now_s = trio.current_time()
                connection.send(MessageType.CONTROL, encode(request), answers, now_s, now_s + self._deadline_s)
        await answers.wait()
        if any(status_of(reply) not in (Status.OK, Status.OVERLOAD) for reply in answers.replies):
            calls = zip(named, answers.replies, strict=True)
            stale = [stream.node for (stream, _), reply in calls if status_of(reply) == Status.STALE_PLACEMENT]
            with suppress(DynamoError):  # a home has failed, or says that it is none: it may be one no more
                await self._shared.router.refresh(stale[0] if stale else None)
        if self._keep_up():
            return
        pause_s = 0.0
        for (stream, partitions), reply in zip(named, answers.replies, strict=True):
            assert reply is not None
            if status_of(reply) == Status.OVERLOAD and stream.overloads < OVERLOADS_MAX:
                stream.overloads += 1
                pause_s = max(pause_s, OVERLOAD_PAUSE_S)
            elif status_of(reply) == Status.STALE_PLACEMENT and stream.stales < STALES_MAX:
                stream.stales += 1
                pause_s = STALE_PAUSE_S
            else:
                self._take(stream, partitions, reply)
        if pause_s:
            await trio.sleep(pause_s)

    def _take(self, stream: _Stream, partitions: Sequence[int], reply: Frame | DynamoError) -> None:
        """Judges one answer, to a question for these partitions."""
        after = stream.after
        try:
            if isinstance(reply, DynamoError):
                raise reply
            if reply.status != Status.OK:
                raise error_of(reply.status, reply.body)
            doubted = stream.take(reply_in(reply.body, stream.node.address), partitions)
        except DynamoError as error:
            self._replace(stream, stream.rest(self.partitions), after, error)
        else:
            self._complete(doubted, after, Unknown(f"{stream.node.address} may have lost records of it"))

    def _replace(self, stream: _Stream, partitions: Sequence[int], after: bytes, why: DynamoError) -> None:
        """Others tell these partitions of the stream from `after` on; QuorumFailed when there are too few."""
        assert self._streams is not None
        gone = set(partitions)
        stream.partitions = [partition for partition in stream.partitions if partition not in gone]
        stream.done = stream.done or not stream.rest(self.partitions)
        for partition in partitions:
            self._failed[partition].add(stream.node)
        self._complete(partitions, after, why)

    def _give(self) -> None:
        """Takes from the streams the keys that all of them have passed."""
        assert self._streams is not None
        telling = [stream.after for stream in self._streams if not stream.done]
        bound = min(telling) if telling else None
        self._ready.extend(merge_pages([stream.page for stream in self._streams if stream.page is not None], bound))
        for stream in self._streams:
            if stream.page is not None and stream.page.told:
                stream.page = None
        self._given = LAST if bound is None else max(self._given, bound)
        self.partitions_done = untold(self._given, self.partitions)
