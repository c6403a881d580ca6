"""Listing on a node: ranges and pages, the bounds of a page, and for whom a node does not answer."""

import itertools
import random
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.ring import Ring
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.keys import (
    FIRST,
    LAST,
    PAGE_BYTES,
    PAGE_S,
    SLICE_S,
    Keys,
    following,
    last_before,
    partition_range,
    stretches,
)
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import encode_record, encode_store_key
from dynamo_fast.wire.control_messages import KeysPageReply, KeysPageRequest
from dynamo_fast.wire.key_page import KeyPage, merge_pages
from dynamo_fast.wire.status import Status

SECRET = bytes(range(16))
PARTITIONS = 64
IDS = [bytes([number + 1]) * 16 for number in range(4)]
PLACEMENT = first_placement([Member(node_id, node_id.hex(), "") for node_id in IDS], PARTITIONS, 3)
OWN = [number for number, row in enumerate(PLACEMENT.table) if PLACEMENT.node_ids.index(IDS[0]) in row[:3]]


@dataclass
class FakeCluster:
    placement: object = PLACEMENT
    node_id: bytes = IDS[0]


@dataclass
class SlowDisk:
    """An engine and the clock in one: each record read takes its time."""

    records: list[tuple[bytes, bytes]]
    record_s: float = 0.0
    suspects: set[int] = field(default_factory=set)
    spoils: dict[bytes, int] = field(default_factory=dict)  # store key -> partition that becomes suspect when it is passed
    now_s: float = 0.0
    steps: list[int] = field(default_factory=list)

    def now(self) -> float:
        return self.now_s

    def is_suspect(self, partition: int) -> bool:
        return partition in self.suspects

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        assert start < end
        found = [one for one in self.records if start <= one[0] < end][:limit]
        self.steps.append(limit)
        self.now_s += self.record_s * len(found)
        self.suspects |= {self.spoils[store_key] for store_key, _ in found if store_key in self.spoils}
        return found


def stored(key: bytes, bucket: bytes = b"", *, values: int = 1, deleted: bool = False) -> tuple[bytes, bytes]:
    written = Siblings()
    for number in range(values):
        written = written.put(b"v%d" % number, node=b"n" * 16, epoch=1)
    if deleted:
        written = written.put(b"", node=b"m" * 16, epoch=1, tombstone=True)
    return encode_store_key(SECRET, key_position(key, bucket), key, bucket), encode_record(key, written.packed, bucket)


def some(count: int) -> list[tuple[bytes, bytes]]:
    return sorted(stored(b"key %d" % number) for number in range(count))


def keys_of(reply: KeysPageReply, after: bytes) -> list[bytes]:
    return merge_pages([KeyPage(reply.entries, after, reply.next)], None)


async def asked(keys: Keys, **request: object) -> KeysPageReply:
    return await keys.answer(None, KeysPageRequest(**{"partitions": OWN, **request}))


async def listed(keys: Keys, **request: object) -> tuple[list[bytes], list[KeysPageReply]]:
    """All keys, and the pages that told them."""
    after, told, pages = b"", [], []
    while not (pages and pages[-1].done):
        pages.append(await asked(keys, after=after, **request))
        await trio.lowlevel.checkpoint()  # as a reply and the next request are passes of the loop
        told += keys_of(pages[-1], after)
        assert pages[-1].next > after
        after = pages[-1].next
    return told, pages


@given(st.sampled_from([1, 2, 64, 1024, 4096]), st.binary(min_size=1, max_size=20), st.binary(max_size=8))
def test_a_keys_store_key_lies_in_the_range_of_its_partition_alone(partitions: int, key: bytes, bucket: bytes) -> None:
    store_key = encode_store_key(SECRET, key_position(key, bucket), key, bucket)
    own = Ring(partitions, 1, [(0,)] * partitions).partition(key, bucket)
    for partition in {0, own, partitions - 1, (own + 1) % partitions}:
        start, end = partition_range(partition, partitions)
        assert (start <= store_key < end) == (partition == own)


def test_the_ranges_of_all_partitions_meet() -> None:
    ranges = [partition_range(partition, 64) for partition in range(64)]
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))
    assert (ranges[0][0], ranges[-1][1]) == (FIRST, LAST)
    assert all(following(last_before(end)) == end for _, end in ranges)
    assert (following(FIRST), following(LAST)) == (bytes(23) + b"\1", LAST)


@given(st.sets(st.integers(0, 15), min_size=1), st.integers(0, (1 << 192) - 1))
def test_stretches_are_what_is_left_of_the_chosen_partitions_and_neighbours_are_one(chosen: set[int], number: int) -> None:
    after = number.to_bytes(24, "big")
    ranges = list(stretches(sorted(chosen), 16, after))
    for partition in range(16):
        start, end = partition_range(partition, 16)
        for one in (start, last_before(end), max(start, min(after, last_before(end)))):
            inside = any(low <= one < high for low, high in ranges)
            assert inside == (partition in chosen and after < one < LAST)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))
    runs = sum(partition - 1 not in chosen for partition in chosen)
    assert len(list(stretches(sorted(chosen), 16, b""))) == runs


@pytest.mark.parametrize("limit", [1, 7, 100, 4096])
def test_pages_tell_every_living_key_of_the_bucket_once(limit: int) -> None:
    chance, records, kept = random.Random(limit), [], set()
    for number in range(900):
        key, bucket, deleted, values = b"key %d" % number, chance.choice([b"", b"cart"]), chance.random() < 0.3, chance.randrange(3)
        if not deleted and not values:
            continue
        records.append(stored(key, bucket, values=values, deleted=deleted))
        if bucket == b"cart" and values and PLACEMENT.ring().partition(key, bucket) in OWN:
            kept.add(key)  # a delete beside a value hides nothing
    keys = Keys(FakeCluster(), SlowDisk(sorted(records)), SlowDisk([]))
    told, pages = trio.run(lambda: listed(keys, bucket=b"cart", limit=limit))
    assert (sorted(told), len(set(told))) == (sorted(kept), len(told))
    assert len(pages) <= len(kept) // limit + 2
    assert not any(page.suspects for page in pages)


def test_a_real_engine_is_listed_like_the_fake_one() -> None:
    records = some(500)
    engine = MemoryEngine(partitions=PARTITIONS)
    for store_key, record in records:
        engine.put(store_key, record)
    told, _ = trio.run(lambda: listed(Keys(FakeCluster(), engine, SlowDisk([])), limit=50))
    ours, _ = trio.run(lambda: listed(Keys(FakeCluster(), SlowDisk(records), SlowDisk([])), limit=50))
    assert told == ours
    assert len(told) > 300
    for partition in range(PARTITIONS):
        engine.forgive(partition)
    engine.suspect(OWN[3])
    assert trio.run(lambda: asked(Keys(FakeCluster(), engine, SlowDisk([])))).suspects == [OWN[3]]
    engine.forgive(OWN[3])
    assert trio.run(lambda: asked(Keys(FakeCluster(), engine, SlowDisk([])))).suspects == []


def test_a_page_ends_at_its_bytes() -> None:
    records = sorted(stored(b"%04d" % number + b"k" * 4000) for number in range(200))
    _, pages = trio.run(lambda: listed(Keys(FakeCluster(), SlowDisk(records), SlowDisk([])), limit=4096))
    assert all(PAGE_BYTES <= len(page.entries) < PAGE_BYTES + 4096 for page in pages[:-1])
    assert len(pages) == 3


@pytest.mark.parametrize("record_s", [0.00001, 0.0002, 0.004])
def test_reading_is_cut_into_slices_and_a_page_ends_at_its_time(record_s: float) -> None:
    """However long a record takes: others run after each slice, and the page says how far it came."""
    disk = SlowDisk(some(3000), record_s)
    keys = Keys(FakeCluster(), disk, disk)
    waits: list[float] = []

    async def other() -> None:
        last_s = disk.now_s
        while True:
            await trio.lowlevel.checkpoint()
            waits.append(disk.now_s - last_s)
            last_s = disk.now_s

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            told, pages = await listed(keys, bucket=b"another", limit=4096)
            assert told == []
            assert len(pages) >= disk.now_s / (2 * PAGE_S)
            nursery.cancel_scope.cancel()

    trio.run(main)
    waits.sort()  # trio shuffles who runs first: two slices may come between two turns of the other task
    assert waits[-1] < 2 * (SLICE_S + max(SLICE_S, 16 * record_s))  # the first step is a guess
    assert waits[-10] < 2 * (2 * SLICE_S + record_s)


def test_what_a_home_has_lost_is_named_even_when_this_page_found_it() -> None:
    records = some(300)
    spoiled = next(store_key for store_key, _ in records[100:] if store_key[0] >> 2 in OWN)
    disk = SlowDisk(records, suspects={OWN[0], 63 if 63 not in OWN else 62}, spoils={spoiled: spoiled[0] >> 2})
    reply = trio.run(lambda: asked(Keys(FakeCluster(), disk, disk), limit=4096))
    assert reply.suspects == sorted({OWN[0], spoiled[0] >> 2})


def test_who_is_asked_in_vain_says_why() -> None:
    keys = Keys(FakeCluster(), SlowDisk([]), SlowDisk([]))
    foreign = next(partition for partition in range(PARTITIONS) if partition not in OWN)

    def refused(keys: Keys, **request: object) -> Refusal:
        with pytest.raises(Refusal) as raised:
            trio.run(lambda: asked(keys, **request))
        return raised.value

    for partitions, status, text in (
        (sorted([*OWN, foreign]), Status.STALE_PLACEMENT, f"no home of partition {foreign}"),
        ([OWN[0], OWN[0]], Status.BAD_REQUEST, "ascend"),
        ([OWN[1], OWN[0]], Status.BAD_REQUEST, "ascend"),
        ([64], Status.BAD_REQUEST, "partition 64 does not exist: there are 64"),
    ):
        refusal = refused(keys, partitions=partitions)
        assert (refusal.status, text in str(refusal)) == (status, True), refusal
    assert refused(keys, after=b"short").status == Status.BAD_REQUEST
    assert refused(Keys(FakeCluster(node_id=b"x" * 16), SlowDisk([]), SlowDisk([]))).status == Status.STALE_PLACEMENT
    assert refused(Keys(FakeCluster(placement=None), SlowDisk([]), SlowDisk([]))).status == Status.NOT_READY
