"""Objects from one node to another: merged, on disk before anybody hears of it, paced; and what a peer that errs or lies can do."""

from __future__ import annotations

import msgspec
import pytest
import trio

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.delivery import (
    BATCH_BYTES_FIRST,
    BATCH_BYTES_MAX,
    BATCH_BYTES_MIN,
    MERGES_AT_ONCE,
    STALL_WANTED_S,
    Entry,
    Pace,
    own_entry,
)
from dynamo_fast.node.sessions import CallFailed
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire.replica_messages import MERGE_ENTRIES_MAX, MergeReply, MergeRequest
from dynamo_fast.wire.status import Status
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.virtual import World, in_virtual_time


def name_of(node: ExchangingNode) -> int:
    return node.node.cluster.placement.name


async def push(one: ExchangingNode, other: ExchangingNode, *keys: bytes) -> list[tuple[bytes, int, int]]:
    """Hands over those keys; what was said of each."""
    told: list[tuple[bytes, int, int]] = []
    entries = (own_entry(one.records, one.store_key(key)) for key in keys)
    await one.node.delivery.push(
        one.session_to(other), name_of(one), filter(None, entries), lambda entry, status, hash: told.append((entry.key, status, hash))
    )
    return told


def test_what_is_pushed_arrives_and_both_hold_the_same_bytes() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        keys = [b"key%d" % number for number in range(1000)]
        for key in keys:
            one.write(key, version(b"v of " + key))
        told = await push(one, other, *keys)
        assert [(key, status) for key, status, _ in told] == [(key, Status.OK) for key in keys]
        for key, _, hash in told:
            assert other.packed(key) == one.packed(key)
            entry = own_entry(one.records, one.store_key(key))
            assert entry is not None
            assert entry.hash == hash
        assert one.records.forest.leaves(5) == other.records.forest.leaves(5)
        said = one.node.delivery.statistics()
        assert (said["entries_sent"], said["entry_bytes_sent"]) == (1000, sum(len(key) + len(one.packed(key) or b"") for key in keys))
        assert other.node.delivery.statistics()["entries_merged"] == 1000
        assert 1000 / other.node.delivery.batches_merged > 50, "they went in batches"
        assert other.records.writes < 60, "a log write for a batch, not for an object"

    in_virtual_time(scenario)


def test_a_merge_that_differs_from_what_was_sent_shows_in_its_hash() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        one.write(b"k", version(b"left", node=1))
        other.write(b"k", version(b"right", node=2))
        ((_, status, hash),) = await push(one, other, b"k")
        held = own_entry(other.records, other.store_key(b"k"))
        assert held is not None
        assert (status, hash) == (Status.OK, held.hash)
        assert Siblings(held.packed).values == (b"left", b"right")
        assert Siblings(one.packed(b"k") or b"").values == (b"left",)
        ((_, _, hash),) = await push(other, one, b"k")
        assert hash == held.hash

    in_virtual_time(scenario)


def test_nothing_is_answered_before_the_disk_has_it() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        one.write(b"k", version(b"v"))
        other.records.hold_syncs = True
        told: list[tuple[bytes, int, int]] = []

        async def pushing() -> None:
            told.extend(await push(one, other, b"k"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pushing)
            await trio.sleep(5)
            assert other.packed(b"k") is not None
            assert told == []
            other.records.finish_syncs()
            other.told.disk_synced()
        assert [status for _, status, _ in told] == [Status.OK]

    in_virtual_time(scenario)


@pytest.mark.parametrize("trouble", ["log", "sync asked for", "sync under way", "log, before"])
def test_a_disk_that_fails_acknowledges_nothing(trouble: str) -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        for number in range(10):
            one.write(b"key%d" % number, version(b"v"))
        keys = [b"key%d" % number for number in range(10)]
        told: list[tuple[bytes, int, int]] = []

        async def pushing() -> None:
            with pytest.raises(CallFailed) as failed:
                told.extend(await push(one, other, *keys))
            assert failed.value.status == Status.READ_ONLY
            assert "failed" in str(failed.value)

        if trouble == "log":
            other.records.failure = "the log failed"
        elif trouble == "sync asked for":
            other.records.syncs_fail = True
        elif trouble == "log, before":
            other.records.failure = "the log failed"
            with pytest.raises(StorageError, match="the log failed"):
                other.told.merge_entries([(b"", b"k", version(b"v"))])
        else:
            other.records.hold_syncs = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pushing)
            await trio.sleep(1)
            if trouble == "sync under way":
                other.records.syncs_fail = True
                other.told.disk_synced()
        assert told == []

    in_virtual_time(scenario)


def test_only_members_that_work_by_our_placement_hand_over_objects() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        request = MergeRequest(placement=name_of(one), entries=[(b"", b"k", version(b"v"))])
        stale = MergeRequest(placement=name_of(one) + 1, entries=request.entries)
        with pytest.raises(CallFailed) as refused:
            await one.session_to(other).call(stale)
        assert refused.value.status == Status.STALE_PLACEMENT
        async with one.node.sessions.contact(other.address) as passing:
            with pytest.raises(CallFailed, match="only members") as refused:
                await passing.call(request)
        assert refused.value.status == Status.BAD_REQUEST
        assert other.packed(b"k") is None

    in_virtual_time(scenario)


def test_what_cannot_be_merged_does_not_keep_the_rest_from_its_place() -> None:
    async def scenario(world: World) -> None:
        one, other, *_ = await cluster_of(world, 5)
        placement = one.node.cluster.placement
        ring = placement.ring()
        index = placement.node_ids.index(other.id)
        keys = [b"key%d" % number for number in range(100)]
        home = next(key for key in keys if index in ring.preference_list(key))
        away = next(key for key in keys if index not in ring.preference_list(key))
        good = version(b"v")
        entries = [(b"", home, good[:-1]), (b"", away, good), (b"", home, b""), (b"", home, good), (b"", home, b"\xff" * 100)]
        reply = await one.session_to(other).call(MergeRequest(placement=placement.name, entries=entries))
        assert isinstance(reply, MergeReply)
        wrong = (int(Status.BAD_REQUEST), 0)
        assert [*reply.results[:3], reply.results[4]] == [wrong, (int(Status.STALE_PLACEMENT), 0), wrong, wrong]
        assert reply.results[3][0] == Status.OK
        assert (other.packed(home), other.packed(away)) == (good, None)

    in_virtual_time(scenario)


def test_a_peer_that_answers_nonsense_fails_one_push() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        one.write(b"k", version(b"v"))

        async def short(session, request):
            return MergeReply(results=[(0, 1)] * 2, stalled_us=0)

        other.node.control.on(MergeRequest, short, nodes_only=True)
        with pytest.raises(CallFailed, match="other entries"):
            await push(one, other, b"k")

    in_virtual_time(scenario)


def test_bytes_that_are_no_merge_are_refused() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        good = {"op": "merge", "placement": name_of(one), "entries": [[b"", b"k", version(b"v")]]}
        session = one.session_to(other)

        for wrong in (
            {"placement": -1}, {"placement": 1 << 64}, {"entries": [[b"", b"", b""]]}, {"entries": [[b"", b"k" * 4097, b""]]},
            {"entries": [[b"b" * 65, b"k", b""]]}, {"entries": [[b"", b"k"]]}, {"entries": 7}, {"entries": [[b"", b"k", 1]]},
            {"entries": [[b"", b"k", b""]] * (MERGE_ENTRIES_MAX + 1)},
        ):  # fmt: skip
            try:
                body = msgspec.msgpack.encode(good | wrong)
            except OverflowError:
                continue
            session.connection.send(48, body, request_id=1 << 40)
            await trio.sleep(0.1)
        assert other.node.control.refused >= 7
        assert len(one.peers) == 1
        assert other.records.statistics()["puts"] == 0

    in_virtual_time(scenario)


def test_more_batches_than_a_node_takes_at_once_wait_and_arrive() -> None:
    async def scenario(world: World) -> None:
        nodes = await cluster_of(world, 6)
        receiver, *senders = nodes
        ring = receiver.node.cluster.placement.ring()
        index = receiver.node.cluster.placement.node_ids.index(receiver.id)
        keys = [key for key in (b"key%d" % number for number in range(200)) if index in ring.preference_list(key)]
        receiver.records.hold_syncs = True
        done = 0

        async def pushing(number: int) -> None:
            nonlocal done
            sender = senders[number]
            entries = [Entry(sender.store_key(key), 0, b"", key, version(b"v", node=number)) for key in keys]
            await sender.node.delivery.push(sender.session_to(receiver), name_of(sender), entries, lambda entry, status, hash: None)
            done += 1

        async with trio.open_nursery() as nursery:
            for number in range(len(senders)):
                nursery.start_soon(pushing, number)
            await trio.sleep(0.02)
            assert receiver.node.delivery.batches_merged == MERGES_AT_ONCE
            while done < len(senders):
                receiver.records.finish_syncs()
                receiver.told.disk_synced()
                await trio.sleep(0.05)
        for key in keys:
            assert len(Siblings(receiver.packed(key) or b"").siblings) == len(senders)

    in_virtual_time(scenario)


def test_a_push_to_a_node_that_dies_settles_what_was_answered_and_no_more() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        keys = [b"key%d" % number for number in range(2000)]
        for key in keys:
            one.write(key, version(b"v" * 100))
        told: list[bytes] = []

        def settled(entry: Entry, status: int, hash: int) -> None:
            told.append(entry.key)
            if len(told) == 300:
                other.crash()

        entries = filter(None, (own_entry(one.records, one.store_key(key)) for key in keys))
        with pytest.raises(CallFailed):
            await one.node.delivery.push(one.session_to(other), name_of(one), entries, settled)
        assert 300 <= len(told) < 2000
        assert told == keys[: len(told)]
        assert all(other.records.get(one.store_key(key)) is not None for key in told)

    in_virtual_time(scenario)


def test_a_large_object_goes_alone() -> None:
    async def scenario(world: World) -> None:
        one, other = await cluster_of(world, 2)
        sizes = [10, 1 << 20, 10, 3 << 20, 10, 10]
        for number, size in enumerate(sizes):
            one.write(b"%d" % number, version(bytes(size)))
        told = await push(one, other, *(b"%d" % number for number in range(len(sizes))))
        assert [status for _, status, _ in told] == [Status.OK] * len(sizes)
        assert other.node.delivery.batches_merged == 5

    in_virtual_time(scenario)


def test_batches_shrink_until_they_are_not_felt_and_grow_again() -> None:
    pace = Pace()
    assert pace.batch_bytes == BATCH_BYTES_FIRST
    for _ in range(20):
        pace.merged(2 * STALL_WANTED_S)
    assert pace.batch_bytes == BATCH_BYTES_MIN
    pace.merged(0.75 * STALL_WANTED_S)
    assert pace.batch_bytes == BATCH_BYTES_MIN
    for _ in range(20):
        pace.merged(0.1 * STALL_WANTED_S)
    assert pace.batch_bytes == BATCH_BYTES_MAX
