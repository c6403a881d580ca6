"""Replicas that have grown apart become the same bytes, with no client's help, at the price of what differs and no more."""

from __future__ import annotations

import random

import pytest
import trio

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node import meeting
from dynamo_fast.storage.schema import record_hash
from dynamo_fast.wire.status import Status
from tests.node.changing import begin, homes_in, placement_over
from tests.node.exchanging import ROUND_S, at_rest, at_rest_again, everywhere, moved, same, sums, version
from tests.node.virtual import World, in_virtual_time

# What it does --------------------------------------------------------------------------------------------------------


def test_diverged_copies_become_the_same_bytes() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        for number in range(300):
            nodes[number % 3].write(b"key%d" % number, version(b"v", node=number % 3 + 1))
            if number % 5 == 0:
                nodes[(number + 1) % 3].write(b"key%d" % number, version(b"w", node=9))
        assert not same(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        for number in range(300):
            copies = {node.packed(b"key%d" % number) for node in nodes}
            assert len(copies) == 1
            assert len(Siblings(copies.pop() or b"").siblings) == 1 + (number % 5 == 0)

    in_virtual_time(scenario)


def test_a_wiped_disk_is_refilled_without_any_client() -> None:
    """Beside the two copies that are left, and by them: what each brings the other need not."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        keys = everywhere(nodes, 3000)
        await nodes[2].restart(wiped=True)
        before = moved(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        assert all(nodes[2].packed(key) == nodes[0].packed(key) for key in keys)
        await at_rest_again(world, nodes)
        assert len(keys) <= moved(nodes) - before <= 1.05 * len(keys)

    in_virtual_time(scenario)


def test_a_deleted_key_does_not_come_back_with_a_node_that_was_away() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        keys = everywhere(nodes, 100)
        nodes[2].crash()
        await trio.sleep(1)
        for key in keys[:50]:
            written = Siblings(nodes[0].packed(key) or b"")
            deleted = written.put(node=b"z" * 16, epoch=1, context=written.clock, tombstone=True)
            for node in nodes[:2]:
                node.write(key, deleted.packed)
        await world.start(nodes[2])
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        for number, key in enumerate(keys):
            assert {Siblings(node.packed(key) or b"").values for node in nodes} == {() if number < 50 else (b"of " + key,)}

    in_virtual_time(scenario)


def test_what_a_node_holds_for_others_is_not_touched() -> None:
    """A record in a partition of which its holder is no home is a hint: no exchange spreads it, asks for it or takes it away."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 5)
        ring = nodes[0].node.cluster.placement.ring()
        node_ids = nodes[0].node.cluster.placement.node_ids
        everywhere_home = [b"key%d" % number for number in range(200)]
        for key in everywhere_home:
            for node in nodes:
                if node_ids.index(node.id) in ring.preference_list(key):
                    node.write(key, version(b"v"))
        hinted = next(key for key in (b"hint%d" % n for n in range(100)) if node_ids.index(nodes[0].id) not in ring.preference_list(key))
        ((status, _),) = nodes[0].told.merge_entries([(b"", hinted, version(b"for another"))])
        assert status == Status.STALE_PLACEMENT, "nobody brings it here"
        store_key = nodes[0].store_key(hinted)
        source = next(node for node in nodes if node_ids.index(node.id) in ring.preference_list(hinted))
        source.write(hinted, version(b"for another"))
        kept = source.records.get(store_key)
        assert kept is not None
        nodes[0].records.put(store_key, kept)
        homes = [node for node in nodes if node_ids.index(node.id) in ring.preference_list(hinted)]
        others = [node for node in nodes if node not in homes and node is not nodes[0]]
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await trio.sleep(3 * ROUND_S)
        assert nodes[0].records.get(store_key) == kept
        assert all(node.packed(hinted) == version(b"for another") for node in homes)
        assert all(node.packed(hinted) is None for node in others)

    in_virtual_time(scenario)


def test_the_hash_in_a_record_is_the_one_in_the_tree() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        nodes[0].write(b"k", version(b"v"))
        record = nodes[0].records.get(nodes[0].store_key(b"k"))
        assert record is not None
        forest = nodes[0].records.forest
        partition, leaf = forest.place(nodes[0].store_key(b"k")[:16])
        assert forest.nodes(partition, 8)[leaf] == record_hash(record)

    in_virtual_time(scenario)


# Partitions that may have lost something ------------------------------------------------------------------------------


def test_a_node_that_lost_its_records_is_trusted_again_when_it_has_those_of_enough_others() -> None:
    """N=3, W=2: a write that was acknowledged lies with another home at least; two of them are all."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        assert [node.records.suspects for node in nodes] == [frozenset()] * 3, "new members have met everybody"
        keys = everywhere(nodes, 500)
        nodes[1].crash()
        await nodes[2].restart(wiped=True)
        await trio.sleep(3 * ROUND_S)
        assert all(nodes[2].packed(key) is not None for key in keys)
        assert len(nodes[2].records.suspects) == 64, "what one home has is not all that was acknowledged"
        await world.start(nodes[1])
        await world.until(lambda: not nodes[2].records.suspects, within_s=2 * ROUND_S)
        assert same(nodes)

    in_virtual_time(scenario)


def test_with_the_default_of_all_homes_one_other_is_enough() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, requests__w=3)
        nodes[1].crash()
        await nodes[2].restart(wiped=True)
        await world.until(lambda: bool(nodes[2].peers) and not nodes[2].records.suspects, within_s=2 * ROUND_S)

    in_virtual_time(scenario)


def test_nothing_is_trusted_before_it_is_on_disk() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        everywhere(nodes[:2], 100)
        await nodes[2].restart(wiped=True)
        nodes[2].records.hold_syncs = True
        await trio.sleep(3 * ROUND_S)
        assert nodes[2].packed(b"key1") is not None
        partition, _ = nodes[2].records.forest.place(nodes[2].store_key(b"key1")[:16])
        assert nodes[2].records.is_suspect(partition)

    in_virtual_time(scenario)


def test_trust_of_one_placement_is_none_in_another() -> None:
    """N=3, W=2: two others are needed, and one that was met as a home before does not count among those that are homes now."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 4)
        old, new = placement_over(nodes[:3], nodes[0].view), nodes[0].node.cluster.placement
        begin(nodes, old, new)
        partition = next(one for one in range(64) if [home in nodes[:2] for home in homes_in(new, nodes, one)].count(True) == 2)
        nodes[0].records.suspect(partition)
        third = next(home for home in homes_in(new, nodes, partition) if home not in nodes[:2])
        nodes[2].crash()
        if third is nodes[3]:
            nodes[3].crash()
        await trio.sleep(3 * ROUND_S)
        assert nodes[0].records.suspects == {partition}, "one of two has been met"
        trust = nodes[0].node.anti_entropy._trust
        for node in nodes[:2]:
            node.node.cluster.placement = new
        assert nodes[0].node.anti_entropy.suspects_with(nodes[1].id) == [partition]
        assert nodes[0].node.anti_entropy._trust is not trust

    in_virtual_time(scenario)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_tree_with_the_hash_of_a_record_that_is_gone_is_set_right(wrong: int) -> None:
    """Its leaf differs and no key does: whoever begins has both sides sum it up anew."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 200)
        position = nodes[wrong].store_key(b"key7")[:16]
        nodes[wrong].records.forest.replace(position, 0, 0xDEAD)
        assert not same(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        assert moved(nodes) == 0

    in_virtual_time(scenario)


# What it costs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 1])
def test_an_older_copy_is_replaced_by_one_object_for_a_key(ahead: int) -> None:
    """Both have every key; one has missed the last write of some. Whoever begins, only the newer objects move."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        keys = everywhere(nodes, 2000)
        for key in keys[:500]:
            nodes[ahead].write(key, version(b"newer", counter=2))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 500
        assert nodes[1 - ahead].packed(keys[0]) == version(b"newer", counter=2)

    in_virtual_time(scenario)


def test_keys_that_one_side_lacks_move_once_each() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 1000)
        for number in range(600):
            nodes[number % 2].write(b"only one has %d" % number, version(b"v"))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 600

    in_virtual_time(scenario)


def test_concurrent_versions_go_there_and_their_merge_comes_back() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 100)
        for number in range(100):
            nodes[number % 2].write(b"key%d" % number, version(b"one", node=3))
            nodes[1 - number % 2].write(b"key%d" % number, version(b"two", node=4))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 200
        assert {len(Siblings(nodes[0].packed(b"key%d" % number) or b"").siblings) for number in range(100)} == {3}

    in_virtual_time(scenario)


def test_members_in_step_pay_eight_bytes_for_a_partition_and_a_few_for_the_message() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        everywhere(nodes, 1000)
        await trio.sleep(5)
        bytes_before, compared_before = sums(nodes, "bytes"), sums(nodes, "compared")
        rounds_before = [node.node.rounds.meetings for node in nodes]
        await trio.sleep(1000)
        compared = sums(nodes, "compared") - compared_before
        assert sums(nodes, "differing") == 0
        # 64 partitions here; the message around the roots is shared by 1024 as a rule.
        per_partition = (sums(nodes, "bytes") - bytes_before) / compared
        assert per_partition <= 8 + 160 / 64
        meetings = [node.node.rounds.meetings - before for node, before in zip(nodes, rounds_before, strict=True)]
        # Three pairs, each met once a round, whoever begins: all that an operator pays for a partition is what its pairs pay.
        assert 3 * 1000 / ROUND_S * 0.8 <= sum(meetings) <= 3 * 1000 / ROUND_S * 1.1
        assert compared / 64 / (1000 / ROUND_S) * per_partition <= 32

    in_virtual_time(scenario)


def test_writes_under_way_are_no_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients write all the time; what has not reached every home yet is not moved by exchanges too."""
    second_looks: list[int] = []
    compare = meeting.Meeting._compare

    async def watched(self: meeting.Meeting, asked: list[int] | None, partitions: list[int], *, finished: bool = False) -> list[int]:
        second_looks.extend(asked or ())
        return await compare(self, asked, partitions, finished=finished)

    monkeypatch.setattr(meeting.Meeting, "_compare", watched)

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=1)
        clients = [node.client() for node in nodes]
        rng = random.Random(5)
        number = 0
        for _ in range(6000):
            for _ in range(3):
                number += 1
                where = rng.randrange(3)
                nodes[where].put(clients[where], b"key%d" % rng.randrange(50), b"v%d" % number, number, overwrite=True)
            await trio.sleep(0.001)
        assert second_looks, "the trees did differ when looked at"
        assert moved(nodes) <= 0.001 * number
        await world.until(lambda: same(nodes), within_s=10)

    in_virtual_time(scenario)


def test_a_workload_during_the_exchange_loses_nothing() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=1)
        everywhere(nodes, 2000)
        await nodes[2].restart(wiped=True)
        clients = [node.client() for node in nodes]
        rng = random.Random(7)
        for number in range(1, 1001):
            where = rng.randrange(2)
            nodes[where].put(clients[where], b"key%d" % rng.randrange(2000), b"new %d" % number, number)
            if number % 5 == 0:
                await trio.sleep(0.01)
        await world.until(lambda: same(nodes), within_s=60)
        values = {value for node in nodes for n in range(2000) for value in Siblings(node.packed(b"key%d" % n) or b"").values}
        assert {b"new %d" % number for number in range(1, 1001)} <= values
        assert {b"of key%d" % n for n in range(2000)} <= values

    in_virtual_time(scenario)
