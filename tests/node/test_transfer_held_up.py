"""What comes between a node and what it gains: it waits, goes on where it was, and says of nothing that it is there before it is."""

from __future__ import annotations

import msgspec
import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import VectorClock
from dynamo_fast.node.transfer import SAVE_S
from dynamo_fast.wire import replica_messages as replica
from tests.core.test_siblings_hostile import pack
from tests.node.changing import begin, partition_of, work_by
from tests.node.exchanging import version
from tests.node.gaining import KEYS, changing, statistics
from tests.node.virtual import World, in_virtual_time


@pytest.mark.parametrize("torn", [False, True])
def test_a_restart_in_the_middle_goes_on_where_it_was(torn: bool) -> None:
    """Even where what it had brought is lost with its disk: the exchanges find that."""

    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        keys = change.gained_keys()
        slow_s = 0.6
        for node in change.sources:
            ranges, _ = node.node.control._handlers[replica.RangeRequest]

            async def slowly(session, request, ranges=ranges):
                await trio.sleep(slow_s)
                return await ranges(session, request)

            node.node.control.on(replica.RangeRequest, slowly, nodes_only=True)
        sent = 0
        joiner = change.joiner
        while joiner.starts < 10:
            with trio.move_on_after(2.5 * SAVE_S) as patience:
                await change.bring()
            sent += statistics(change.transfer)["objects"]
            if not patience.cancelled_caught:
                break
            joiner.crash()
            await trio.sleep(1)
            if torn:
                joiner.wipe()
            await world.start(joiner)
            await world.until(lambda: len(change.joiner.peers) == 3)
            begin([joiner], change.old, change.new)
        assert 1 < joiner.starts < 10
        assert not change.lacking(keys)
        assert change.joiner.records.durable == change.joiner.records.position
        if not torn:
            assert sent <= 1.5 * len(keys), "what was here and written down did not come again"
        else:
            assert statistics(change.transfer)["keys_compared_in"] > 0

    in_virtual_time(scenario)


def test_sources_that_are_away_are_waited_for() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        keys = change.gained_keys()
        away = change.sources[1]
        only = [b"only there %d" % number for number in range(200)]
        for key in only:
            away.write(key, version(b"v"))
        gone_id = away.id
        away.crash()
        await world.until(lambda: gone_id not in change.joiner.peers)
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def bring() -> None:
                await change.bring()
                done.set()

            nursery.start_soon(bring)
            await trio.sleep(60)
            assert not done.is_set()
            assert not change.lacking(keys), "what others have has come from them"
            assert change.transfer.statistics()["waiting_for"] == [gone_id]
            assert statistics(change.transfer)["partitions_done"] == 0
            await world.start(away)
            await world.until(lambda: len(away.peers) == 3)
            begin([away], change.old, change.new)
            with trio.fail_after(60):
                await done.wait()
        assert not change.lacking([key for key in only if partition_of(change.joiner, key) in change.gained])

    in_virtual_time(scenario)


def test_sources_that_are_dead_are_left_out() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        dead = change.sources[1]
        gone_id = dead.id
        dead.crash()
        await world.until(lambda: gone_id not in change.joiner.peers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(30)
            assert statistics(change.transfer)["partitions_done"] == 0
            history = change.joiner.node.cluster.history
            view = msgspec.structs.replace(history.view, dead=frozenset([gone_id]), departed=frozenset([gone_id]))
            history._view = view
            await world.until(lambda: change.transfer._gaining.done, within_s=10)
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_a_change_that_is_replaced_finds_what_was_streamed_for_it() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        with trio.move_on_after(1.5 * SAVE_S):
            await change.bring()
        had = change.transfer._gaining.fetched
        assert sum(one.objects for one in had.values()) > 0
        await change.bring()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_what_was_lost_before_is_no_matter_and_what_is_lost_meanwhile_is() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner = change.joiner
        first, *rest = sorted(change.gained)
        joiner.records.suspect(first)
        key = next(key for key in change.gained_keys() if partition_of(joiner, key) == first)
        joiner.write(key, version(b"v"))
        await change.bring()
        assert not joiner.records.suspects
        joiner.records.suspect(rest[0])
        await trio.sleep(5)
        assert joiner.records.suspects == {rest[0]}, "this node is about to be a home of it"
        for node in change.nodes:
            node.node.cluster.placement = change.new
        await world.until(lambda: not joiner.records.suspects)

    in_virtual_time(scenario)


def test_a_disk_that_refuses_holds_it_up_and_no_more() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        change.joiner.records.failure = "no space left"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(20)
            assert statistics(change.transfer)["partitions_done"] == 0
            change.joiner.records.heal()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_a_disk_that_is_behind_is_not_sent_more() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        change.joiner.records.behind = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(20)
            assert statistics(change.transfer)["objects"] == 0
            change.joiner.records.behind = False
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_nothing_counts_as_streamed_that_the_data_plane_did_not_take() -> None:
    """It may not have been told of the change yet."""

    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner = change.joiner
        work_by(joiner, change.old)
        with trio.move_on_after(10):
            await change.bring()
        assert statistics(change.transfer)["partitions_streamed"] == 0
        work_by(joiner, change.old, change.new, Step.SYNCED)
        await change.bring()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def long_clock(side: int, entries: int) -> bytes:
    """What so many writers have left on one side of a cut."""
    made = Siblings().put(b"side %d" % side, node=bytes([side]) * 16)
    clock = made.clock.merge(VectorClock((bytes([side]) * 16, epoch, 1, 0) for epoch in range(1, entries)))
    return pack(clock, made.siblings)


@pytest.mark.parametrize(("entries", "refused"), [(1024, False), (40_000, True)], ids=["as puts may leave", "more than an object counts"])
def test_only_what_no_object_can_hold_is_not_taken_and_then_it_is_told_of(entries: int, refused: bool) -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, write=False, anti_entropy__round_s=1000)
        key = next(key for key in KEYS if partition_of(change.joiner, key) in change.gained)
        for side, node in enumerate(change.sources[:2], start=1):
            node.write(key, long_clock(side, entries))
        with trio.move_on_after(20) as patience:
            await change.bring()
        told = statistics(change.transfer)
        assert patience.cancelled_caught == refused
        assert (told["keys_refused"] > 0) == refused
        assert len(change.gained) - told["partitions_done"] == refused, "of all partitions that one alone waits"
        if not refused:
            assert sorted(Siblings(change.joiner.packed(key) or b"").values) == [b"side 1", b"side 2"]

    in_virtual_time(scenario)
