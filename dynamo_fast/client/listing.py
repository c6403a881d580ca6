"""All keys of a bucket, page by page, from R homes of every partition.

One home may lack keys that a put of W copies left on the others, so each partition is read from R of its homes and merged by store key
(24 bytes: position, then hash), the order in which nodes keep their records. Several partitions are asked for at once; memory is bounded
by pages, not by the size of the bucket.
"""

from __future__ import annotations

from collections import deque

import trio

from dynamo_fast.client.connection import Answers
from dynamo_fast.client.errors import DynamoError, QuorumFailed, Unknown, error_of
from dynamo_fast.client.pool import Node
from dynamo_fast.client.routing import reply_in
from dynamo_fast.client.shared import Shared
from dynamo_fast.wire.control_messages import KEYS_PAGE_MAX, KeysPageReply, KeysPageRequest, Reply, encode
from dynamo_fast.wire.status import MessageType, Status

PARTITIONS_AT_ONCE = 16
OVERLOADS_MAX, OVERLOAD_PAUSE_S = 50, 0.02  # a home that says "overload" is asked again so often, after so long


class _Cursor:
    """How far one home has told one partition."""

    def __init__(self, node: Node, after: bytes) -> None:
        self.node = node
        self.after = after  # store key up to which the home has told everything
        self.entries: dict[bytes, bytes] = {}  # store key -> key, told and not yet given out
        self.done = False

    def take(self, page: Reply) -> None:
        """One page more; Unknown when it is none, or does not lead on."""
        if not isinstance(page, KeysPageReply) or not (page.done or page.next > self.after):
            raise Unknown(f"{self.node.address} answered with no page that leads on")
        self.entries.update(page.entries)
        self.after = max(self.after, page.next)
        self.done = page.done


class _Partition:
    """The merge of R cursors over one partition."""

    def __init__(self, number: int, homes: tuple[Node, ...], r: int) -> None:
        self.number = number
        self.overloads = 0
        self.given = b""  # every key up to this store key has been given out
        self.spare = list(homes[r:])
        self.cursors = [_Cursor(node, b"") for node in homes[:r]]

    @property
    def done(self) -> bool:
        return all(cursor.done and not cursor.entries for cursor in self.cursors)

    def wanting(self) -> list[_Cursor]:
        """The cursors without which nothing more can be given out."""
        return [cursor for cursor in self.cursors if not cursor.done and not cursor.entries]

    def replace(self, cursor: _Cursor, error: DynamoError) -> None:
        """Another home goes on where the partition stands; QuorumFailed when there is none."""
        if not self.spare:
            raise QuorumFailed(f"too few homes of partition {self.number} could list their keys: {error}")
        self.cursors[self.cursors.index(cursor)] = _Cursor(self.spare.pop(0), self.given)

    def give(self) -> list[bytes]:
        """The keys that all cursors have passed, each once."""
        telling = [cursor.after for cursor in self.cursors if not cursor.done]
        bound = min(telling) if telling else None
        merged: dict[bytes, bytes] = {}
        for cursor in self.cursors:
            passed = [store_key for store_key in cursor.entries if bound is None or store_key <= bound]
            merged.update((store_key, cursor.entries.pop(store_key)) for store_key in passed)
        if bound is not None:
            self.given = max(self.given, bound)
        return [merged[store_key] for store_key in sorted(merged)]


class Keys:
    """Async iterator over the keys of one bucket, as bytes. Raises DynamoError when R homes of a partition cannot be asked."""

    def __init__(self, shared: Shared, bucket: bytes, deadline_s: float, page: int) -> None:
        self._shared = shared
        self._bucket = bucket
        self._deadline_s = deadline_s  # of each round of pages
        self._page = max(1, min(page, KEYS_PAGE_MAX))
        self._ready: deque[bytes] = deque()
        self._open: list[_Partition] = []
        self._next_partition = 0
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
        placement = await self._shared.placement()
        router = self._shared.router
        self.partitions = placement.partitions
        settings = next((bucket.settings for bucket in placement.buckets if bucket.name == self._bucket), None)
        r = min(placement.replicas, (settings and settings.r) or placement.defaults.r)
        while len(self._open) < PARTITIONS_AT_ONCE and self._next_partition < self.partitions:
            homes = sorted(router.homes_of(self._next_partition), key=lambda node: node.connection is None)
            self._open.append(_Partition(self._next_partition, tuple(homes), r))
            self._next_partition += 1
        if not self._open:
            return False
        await self._ask([(partition, cursor) for partition in self._open for cursor in partition.wanting()])
        for partition in self._open:
            self._ready.extend(partition.give())
        still_open = [partition for partition in self._open if not partition.done]
        self.partitions_done += len(self._open) - len(still_open)
        self._open = still_open
        return True

    async def _ask(self, asked: list[tuple[_Partition, _Cursor]]) -> None:
        """A page for each cursor; a cursor whose home fails is replaced, and asked in the next round."""
        end_s = trio.current_time() + self._deadline_s
        answers = Answers()
        for partition, cursor in asked:
            request = KeysPageRequest(partition=partition.number, bucket=self._bucket, after=cursor.after, limit=self._page)
            try:
                connection = await cursor.node.connected(end_s)
            except DynamoError as error:
                answers.give(answers.expect(), error)
            else:
                connection.send(MessageType.CONTROL, encode(request), answers, trio.current_time(), end_s)
        await answers.wait()
        overloaded = False
        for (partition, cursor), reply in zip(asked, answers.replies, strict=True):
            assert reply is not None
            if isinstance(reply, DynamoError):
                partition.replace(cursor, reply)
            elif reply.status == Status.OVERLOAD and partition.overloads < OVERLOADS_MAX:
                partition.overloads += 1
                overloaded = True
            elif reply.status != Status.OK:
                partition.replace(cursor, error_of(reply.status, reply.body))
            else:
                try:
                    cursor.take(reply_in(reply.body, cursor.node.address))
                except DynamoError as error:
                    partition.replace(cursor, error)
        if overloaded:
            await trio.sleep(OVERLOAD_PAUSE_S)
