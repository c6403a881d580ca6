"""What a node gains comes to it whole, once, from whoever is there, and from everybody before it is said to be there."""

from __future__ import annotations

import trio

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.succession import gains
from dynamo_fast.node.transfer import CURSORS
from dynamo_fast.storage.schema import decode_record, encode_record
from tests.node.changing import begin, homes_in, partition_of, placement_over, settle
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.gaining import KEYS, changing, statistics
from tests.node.virtual import World, in_virtual_time


def test_all_that_is_gained_is_here_and_on_disk_and_came_once() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(1024))
        await change.bring()
        keys = change.gained_keys()
        assert 1000 < len(keys) < len(KEYS)
        assert not change.lacking(keys)
        assert change.joiner.records.durable == change.joiner.records.position
        assert all(change.joiner.packed(key) is None for key in set(KEYS) - set(keys)), "and nothing else is"
        told = statistics(change.transfer)
        assert told["objects"] == len(keys)
        assert told["bytes"] == sum(len(key) + len(version(bytes(1024))) for key in keys)
        assert told["wire_bytes"] <= 1.02 * told["bytes"], "pages cost their objects"
        assert told["partitions_wanted"] == told["partitions_streamed"] == told["partitions_done"] == len(change.gained)
        by_source = [source["objects"] for source in change.transfer.statistics()["sources"].values()]  # type: ignore[attr-defined]
        assert min(by_source) > 0.2 * len(keys), "all three sources share the work"
        assert change.joiner.disk.files[change.transfer._directory.path / CURSORS] == b""
        settle(change.nodes, change.new)
        await trio.sleep(30)
        assert sum(node.node.anti_entropy.total.keys_pulled for node in change.nodes) == 0, "nothing was left to the rounds"

    in_virtual_time(scenario)


def test_who_gains_nothing_brings_nothing() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, write=False)
        replaced = change.joiner.disk.replaced
        await change.sources[0].node.transfer.bring(change.new, change.old)
        assert gains(change.new, change.old, change.joiner.id) == {}
        await change.transfer.bring(change.new, change.old)
        assert change.joiner.disk.replaced == replaced

    in_virtual_time(scenario)


def test_what_single_sources_hold_is_taken_from_each() -> None:
    """A write that two of three have: whichever of them the stream came from."""

    async def scenario(world: World) -> None:
        change = await changing(world, write=False, anti_entropy__round_s=1000)
        await trio.sleep(5)
        for number, key in enumerate(KEYS):
            for place, node in enumerate(change.sources):
                if place != number % 3:
                    node.write(key, version(b"one"))
            change.sources[number % 3].write(key, version(b"two", node=2))
        await change.bring()
        for key in change.gained_keys():
            assert sorted(Siblings(change.joiner.packed(key) or b"").values) == [b"one", b"two"]

    in_virtual_time(scenario)


def test_writes_that_go_on_meanwhile_neither_hold_it_up_nor_are_missed() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(1024))
        keys = change.gained_keys()
        written: dict[bytes, bytes] = {}
        over = False

        async def write() -> None:
            """Two of the sources have each write, and the joiner every other one; one key is written all the time."""
            number = 0
            while not over:
                for key in (keys[0], keys[number % len(keys)]):
                    number += 1
                    written[key] = version(b"new %d" % number, node=3, counter=1 + number // 100)
                    for place, node in enumerate(change.sources):
                        if place != number % 3:
                            node.write(key, written[key])
                    if number % 2:
                        change.joiner.write(key, written[key])
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            with trio.fail_after(120):
                await change.bring()
            over = True
        told = statistics(change.transfer)
        assert told["wire_bytes"] <= 1.02 * sum(len(key) + len(version(bytes(1024))) for key in keys)
        assert told["keys_compared_in"] < 0.1 * len(keys)
        assert not change.lacking(keys)

    in_virtual_time(scenario)


def test_what_was_kept_for_others_becomes_this_nodes_own() -> None:
    """At once, be those for whom it was kept there or not: handoff delivers nothing here."""

    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner, keys = change.joiner, change.gained_keys()
        joiner.node.handoff.round = trio.lowlevel.checkpoint
        only = b"only a hint"
        number = 0
        while partition_of(joiner, only) not in change.gained:
            number += 1
            only = b"only a hint %d" % number
        for key in (keys[0], keys[1], only):
            hint = encode_record(key, version(b"kept"), hash=decode_record(joiner_record(joiner, key, version(b"kept"))).hash, owed=2,
                                 placement_number=1)  # fmt: skip
            joiner.records.put(joiner.store_key(key), hint)
        await change.bring()
        assert change.transfer.hints_owned == 3
        for key in (keys[0], keys[1], only):
            assert decode_record(joiner.records.get(joiner.store_key(key)) or b"").owed == 0
        assert joiner.packed(only) == version(b"kept")

    in_virtual_time(scenario)


def joiner_record(node: ExchangingNode, key: bytes, packed: bytes) -> bytes:
    """The record that a merge of that object makes; not kept."""
    node.write(key, packed)
    record = node.records.get(node.store_key(key))
    assert record is not None
    node.records.delete(node.store_key(key))
    return record


def test_old_copies_are_compared_and_not_sent_again() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        keys = change.gained_keys()
        for key in keys:
            change.joiner.write(key, version(bytes(4096)))
        for key in keys[:50]:
            for node in change.sources:
                node.write(key, version(b"newer", counter=2))
        await change.bring()
        assert statistics(change.transfer)["objects"] < 0.2 * len(keys)
        assert statistics(change.transfer)["keys_compared_in"] >= 30
        assert all(change.joiner.packed(key) == version(b"newer", counter=2) for key in keys[:50])

    in_virtual_time(scenario)


def test_a_member_that_leaves_gives_all_it_has_to_those_that_stay() -> None:
    """Fewer homes than before, and no new one: whoever stays takes over what the one that goes has."""

    async def scenario(world: World) -> None:
        nodes = await cluster_of(world, 3)
        await world.until(lambda: all(len(node.node.anti_entropy.met_s) == 2 for node in nodes))
        old, new = nodes[0].node.cluster.placement, placement_over(nodes[:2], nodes[0].view)
        begin(nodes, old, new)
        for node in nodes[:2]:
            node.node.rounds._round_s = 1000
        for key in KEYS[:100]:
            nodes[2].write(key, version(b"v"))
        for node in nodes[:2]:
            transfer = node.node.transfer
            await transfer.bring(old, new)
            assert all(node.packed(key) for key in KEYS[:100])
            assert statistics(transfer)["objects"] == 0, "nothing was streamed"

    in_virtual_time(scenario)


def test_one_source_is_enough_to_stream_from_and_all_are_met() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        assert all(len(homes_in(change.old, change.sources, partition)) == 3 for partition in change.gained)
        met: set[bytes] = set()
        hold = change.joiner.node.anti_entropy.hold

        async def watched(meeting):
            await hold(meeting)
            met.add(meeting.peer)

        change.joiner.node.anti_entropy.hold = watched
        await change.bring()
        assert met >= {node.id for node in change.sources}

    in_virtual_time(scenario)
