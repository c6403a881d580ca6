"""Listing keys: pages of one partition, read in short steps so that the data plane is never kept waiting for long."""

from __future__ import annotations

import trio

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.interfaces import Engine
from dynamo_fast.node.sessions import Session
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.control_messages import KeysPageReply, KeysPageRequest
from dynamo_fast.wire.status import Status

POSITION_BITS = 128
STEP_RECORDS = 16  # read at once; with values of 1 MiB that is the memory it takes
SLICE_S = 0.002  # of reading, then others get a chance to run
RECORDS_PER_PAGE_MAX = 20_000  # looked at for one page, whatever they were: keys of other buckets, deleted ones
FIRST, LAST = bytes(24), b"\xff" * 24  # store keys before and after all others


def partition_range(partition: int, partitions: int) -> tuple[bytes, bytes]:
    """The store keys of a partition: from the first, up to and not including the second."""
    width = 1 << (POSITION_BITS - (partitions.bit_length() - 1))
    start, end = partition * width, (partition + 1) * width
    return start.to_bytes(16, "big") + bytes(8), end.to_bytes(16, "big") + bytes(8) if end >> POSITION_BITS == 0 else LAST


def following(store_key: bytes) -> bytes:
    """The least store key after this one."""
    return (int.from_bytes(store_key, "big") + 1).to_bytes(24, "big") if store_key < LAST else LAST


class Keys:
    """Answers KeysPageRequest from the engine."""

    def __init__(self, cluster: Cluster, engine: Engine, env: Env) -> None:
        self._cluster = cluster
        self._env = env
        self._engine = engine

    async def answer(self, session: Session, request: KeysPageRequest) -> KeysPageReply:
        view = self._cluster.view
        if view is None:
            raise Refusal(Status.NOT_READY, "this node knows of no cluster yet; ask a member, or wait")
        if request.partition >= view.partitions:
            raise Refusal(Status.BAD_REQUEST, f"partition {request.partition} does not exist: there are {view.partitions}")
        start, end = partition_range(request.partition, view.partitions)
        if request.after:
            start = max(start, following(request.after.ljust(24, b"\0")))
        entries: list[tuple[bytes, bytes]] = []
        seen = 0
        told = request.after
        slice_began_s = self._env.now()
        while len(entries) < request.limit and seen < RECORDS_PER_PAGE_MAX:
            found = self._engine.scan(start, end, min(STEP_RECORDS, request.limit - len(entries)))
            if not found:
                return KeysPageReply(entries=entries, next=told, done=True)
            for store_key, record in found:
                parts = decode_record(record)
                if parts.bucket == request.bucket and is_live(parts.packed):
                    entries.append((store_key, parts.key))
            seen += len(found)
            told = found[-1][0]
            start = following(told)
            if self._env.now() - slice_began_s > SLICE_S:
                await trio.lowlevel.checkpoint()
                slice_began_s = self._env.now()
        return KeysPageReply(entries=entries, next=told, done=False)


def is_live(packed: bytes) -> bool:
    """Whether some sibling of a packed object is a value."""
    return any(not sibling.tombstone for sibling in Siblings(packed).siblings)
