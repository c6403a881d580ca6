"""Listing keys: pages of what this node holds in some partitions, read in slices so that the data plane is never kept waiting for long.

With R homes of each partition asked, a listing shows every key that a read with R answers of homes would find. So a node refuses for
partitions of which it is no home, and names those in which records of its own are lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import trio

from dynamo_fast.core.placement import Placement
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.interfaces import Engine
from dynamo_fast.node.key_scan import add_live_keys
from dynamo_fast.node.sessions import Session
from dynamo_fast.wire.control_messages import KeysPageReply, KeysPageRequest
from dynamo_fast.wire.key_page import KeyPageWriter
from dynamo_fast.wire.status import Status

POSITION_BITS = 128
PAGE_BYTES = 256 << 10  # a page ends with the entry that reaches so many,
PAGE_S = 0.05  # or when so much time has passed, whatever was found: keys of other buckets, deleted ones
SLICE_S = 0.001  # of reading, then others get a chance to run
STEP_RECORDS_FIRST, STEP_RECORDS_MAX = 16, 64  # read at once: with values of 1 MiB, or from a cold disk, few take a slice
FIRST, LAST = bytes(24), b"\xff" * 24  # store keys before and after all others


def partition_range(partition: int, partitions: int) -> tuple[bytes, bytes]:
    """The store keys of a partition: from the first, up to and not including the second."""
    width = 1 << (POSITION_BITS - (partitions.bit_length() - 1))
    start, end = partition * width, (partition + 1) * width
    return start.to_bytes(16, "big") + bytes(8), end.to_bytes(16, "big") + bytes(8) if end >> POSITION_BITS == 0 else LAST


def following(store_key: bytes) -> bytes:
    """The least store key after this one."""
    return (int.from_bytes(store_key, "big") + 1).to_bytes(24, "big") if store_key < LAST else LAST


def last_before(end: bytes) -> bytes:
    """The last store key of a range that `partition_range` ends there."""
    return (int.from_bytes(end, "big") - 1).to_bytes(24, "big") if end < LAST else LAST


def stretches(chosen: Sequence[int], partitions: int, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The store keys behind `after` of the chosen partitions (ascending), neighbours together: from the first, not including the second."""
    first = following(after) if after else FIRST
    at = 0
    while at < len(chosen):
        start, end = partition_range(chosen[at], partitions)
        at += 1
        while at < len(chosen) and chosen[at] == chosen[at - 1] + 1:
            end = partition_range(chosen[at], partitions)[1]
            at += 1
        if first < end:
            yield max(start, first), end


class Keys:
    """Answers KeysPageRequest from the engine."""

    def __init__(self, cluster: Cluster, engine: Engine, env: Env) -> None:
        self._cluster = cluster
        self._env = env
        self._engine = engine
        self._placement: Placement | None = None  # of which `_own` tells
        self._own: frozenset[int] = frozenset()
        self._step_records = STEP_RECORDS_FIRST  # as many as could lately be read in a part of a slice

    async def answer(self, session: Session, request: KeysPageRequest) -> KeysPageReply:
        partitions = self._check(request)
        page = KeyPageWriter()
        told = request.after
        page_began_s = slice_began_s = self._env.now()
        for start, end in stretches(request.partitions, partitions, request.after):
            while start < end:
                step_began_s = self._env.now()
                asked = self._step_records
                found = self._engine.scan(start, end, asked)
                looked_at = add_live_keys(page, found, request.bucket, request.limit, PAGE_BYTES)
                if looked_at == len(found) < asked:
                    told, start = last_before(end), end
                else:
                    told = found[looked_at - 1][0]
                    start = following(told)
                now_s = self._env.now()
                self._step_records = next_step(asked, now_s - step_began_s)
                if page.count >= request.limit or len(page) >= PAGE_BYTES or now_s - page_began_s >= PAGE_S:
                    return self._reply(request, page, told, partitions)
                if now_s - slice_began_s >= SLICE_S:
                    await trio.lowlevel.checkpoint()
                    slice_began_s = self._env.now()
        return self._reply(request, page, told, partitions)

    def _reply(self, request: KeysPageRequest, page: KeyPageWriter, told: bytes, partitions: int) -> KeysPageReply:
        """What this page found unreadable counts already: whoever asks must not take the page for all there was."""
        suspects = [partition for partition in request.partitions if self._engine.is_suspect(partition)]
        done = following(told) >= partition_range(request.partitions[-1], partitions)[1]
        return KeysPageReply(entries=bytes(page), next=told, done=done, suspects=suspects)

    def _check(self, request: KeysPageRequest) -> int:
        """The number of partitions there are; Refusal for a request that this node cannot answer."""
        placement = self._cluster.placement
        if placement is None:
            raise Refusal(Status.NOT_READY, "this node knows of no cluster yet; ask a member, or wait")
        asked = request.partitions
        if any(later <= earlier for earlier, later in pairwise(asked)):
            raise Refusal(Status.BAD_REQUEST, "partitions must ascend, each named once")
        if asked[-1] >= placement.partitions:
            raise Refusal(Status.BAD_REQUEST, f"partition {asked[-1]} does not exist: there are {placement.partitions}")
        if request.after and len(request.after) != len(FIRST):
            raise Refusal(Status.BAD_REQUEST, f"after has {len(FIRST)} bytes or none, not {len(request.after)}")
        if placement is not self._placement:
            self._placement, self._own = placement, homes_of(placement, self._cluster.node_id)
        if not self._own.issuperset(asked):
            strange = min(set(asked) - self._own)
            raise Refusal(Status.STALE_PLACEMENT, f"this node is no home of partition {strange}: fetch the placement again")
        return placement.partitions


def homes_of(placement: Placement, node_id: bytes) -> frozenset[int]:
    """The partitions of which that node is a home."""
    if node_id not in placement.node_ids:
        return frozenset()
    index = placement.node_ids.index(node_id)
    return frozenset(number for number, row in enumerate(placement.table) if index in row[: placement.replicas])


def next_step(records: int, took_s: float) -> int:
    """How many records to read at once when reading that many took so long: a step is to be a good part of a slice, and no more."""
    if took_s > SLICE_S / 2:
        return max(1, records // 2)
    return min(STEP_RECORDS_MAX, records * 2) if took_s < SLICE_S / 4 else records
