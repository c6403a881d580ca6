"""What a node holds where it is no home any more goes, and not before enough homes have it on their disks."""

from __future__ import annotations

import msgspec
import pytest
import trio

from dynamo_fast.core.membership import Gone
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.parting import Parting
from dynamo_fast.storage.schema import decode_record, encode_record
from tests.node.changing import begin, hold_still, homes_in, partition_of, placement_over, settle, work_by
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.virtual import World, in_virtual_time

KEYS = [b"key%d" % number for number in range(300)]
PATIENCE_S = 60.0


class Settled:
    """Four nodes that have been born as homes in threes; then the last one is a home of nothing any more."""

    def __init__(self, nodes: list[ExchangingNode]) -> None:
        self.nodes = nodes
        *self.stay, self.leaver = nodes
        self.old: Placement = nodes[0].node.cluster.placement
        self.new = placement_over(self.stay, nodes[0].view)
        self.keys = [key for key in KEYS if self.leaver in homes_in(self.old, nodes, partition_of(nodes[0], key))]

    def parting(self, node: ExchangingNode, copies: int = 2) -> Parting:
        hold_still(node)
        parts = node.node
        return Parting(
            env=parts.env, cluster=parts.cluster, engine=parts.engine, data_plane=parts.data_plane, peers=parts.peers,
            anti_entropy=parts.anti_entropy, copies=copies,
        )  # fmt: skip

    def settle(self) -> Parting:
        settle([node for node in self.nodes if node.node is not None], self.new)
        return self.parting(self.leaver)

    def left(self) -> int:
        return sum(self.leaver.packed(key) is not None for key in KEYS)


async def settled(world: World, **flags: object) -> Settled:
    nodes = await cluster_of(world, 4, **flags)
    await world.until(lambda: all(len(node.node.anti_entropy.met_s) == 3 for node in nodes))
    made = Settled(nodes)
    for key in made.keys:
        for node in homes_in(made.old, nodes, partition_of(nodes[0], key)):
            node.write(key, version(b"v of " + key))
    settle(made.stay, made.new)
    for key in made.keys:
        for node in made.stay:
            node.write(key, version(b"v of " + key))
    return made


def test_old_copies_that_all_homes_have_go() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        world.nursery.start_soon((parting := cluster.settle()).run)
        assert cluster.left() == len(cluster.keys) > 100
        await world.until(lambda: cluster.left() == 0, within_s=PATIENCE_S)
        told = parting.statistics()
        assert (told["removed"], told["old_copies"], told["keys_pushed"]) == (len(cluster.keys), 0, 0)
        for key in cluster.keys:
            assert all(node.packed(key) == version(b"v of " + key) for node in cluster.stay)

    in_virtual_time(scenario)


def test_what_homes_lack_they_get_first_and_give_nothing_back() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world, anti_entropy__round_s=1000)
        newer, missing, ahead, both = cluster.keys[:4]
        cluster.leaver.write(newer, version(b"newer", counter=2))
        for node in cluster.stay:
            node.records.delete(node.store_key(missing))
            node.write(ahead, version(b"ahead", counter=2))
            node.write(both, version(b"theirs", node=2))
        cluster.leaver.write(both, version(b"ours", node=3))
        parting = cluster.settle()
        pulled = cluster.leaver.node.anti_entropy.total.keys_pulled
        await parting.round()
        assert cluster.left() == 0
        assert cluster.leaver.node.anti_entropy.total.keys_pulled == pulled
        for node in cluster.stay:
            assert node.packed(newer) == version(b"newer", counter=2)
            assert node.packed(missing) == version(b"v of " + missing)
            assert node.packed(ahead) == version(b"ahead", counter=2)
            assert set(Siblings(node.packed(both) or b"").values) >= {b"theirs", b"ours"}
            assert node.records.durable == node.records.position

    in_virtual_time(scenario)


def test_with_too_few_homes_nothing_goes() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        parting = cluster.settle()
        for node in cluster.stay[:2]:
            node.crash()
        await world.until(lambda: len(cluster.leaver.peers) == 1)
        for _ in range(5):
            await parting.round()
            await trio.sleep(5)
        assert cluster.left() == len(cluster.keys)
        assert parting.statistics()["old_copies"] == len(cluster.keys)
        assert parting.postponed > 0
        await world.start(cluster.stay[0])
        await world.until(lambda: len(cluster.leaver.peers) == 2)
        settle(cluster.stay[:1], cluster.new)
        await parting.round()
        assert cluster.left() == 0, "two of three are enough, when the third cannot be reached"

    in_virtual_time(scenario)


def test_a_home_that_can_be_reached_and_does_not_have_it_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world, anti_entropy__round_s=1000)
        parting = cluster.settle()
        poor = cluster.stay[2]
        poor.records.delete(poor.store_key(cluster.keys[0]))
        poor.records.failure = "no space left"
        await parting.round()
        partition = partition_of(poor, cluster.keys[0])
        assert cluster.leaver.packed(cluster.keys[0]) is not None
        assert partition in parting._left
        poor.records.heal()
        await parting.round()
        assert cluster.left() == 0
        assert poor.packed(cluster.keys[0]) is not None

    in_virtual_time(scenario)


def test_homes_must_have_it_on_their_disks() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        parting = cluster.settle()
        cluster.stay[1].write(b"something", version(b"that is not synced"))
        cluster.stay[1].records.hold_syncs = True
        with trio.move_on_after(20):
            await parting.round()
        assert cluster.left() == len(cluster.keys)

    in_virtual_time(scenario)


def test_nothing_goes_in_the_middle_of_a_change() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        parting = cluster.settle()
        begin(cluster.nodes, cluster.new, cluster.old)
        await parting.round()
        assert cluster.left() == len(cluster.keys)

    in_virtual_time(scenario)


def test_what_has_changed_since_it_was_listed_stays() -> None:
    """As would a hint that came upon an old copy."""

    async def scenario(world: World) -> None:
        cluster = await settled(world)
        parting = cluster.settle()
        key = cluster.keys[0]
        store_key = cluster.leaver.store_key(key)
        met = parting._met

        async def and_then(placement, home, partitions):
            found = await met(placement, home, partitions)
            work_by(cluster.leaver, cluster.old)
            cluster.leaver.write(key, version(b"later", node=7))
            work_by(cluster.leaver, cluster.new)
            return found

        parting._met = and_then
        await parting.round()
        assert cluster.left() == 1
        assert b"later" in Siblings(cluster.leaver.packed(key) or b"").values
        parts = decode_record(cluster.leaver.records.get(store_key) or b"")
        hint = encode_record(parts.key, parts.packed, parts.bucket, hash=parts.hash, owed=1, placement_number=1)
        cluster.leaver.records.put(store_key, hint, parts.hash)
        parting._met = met
        await parting.round()
        assert cluster.left() == 1, "hints are not parted with"

    in_virtual_time(scenario)


def overheard(leaver: ExchangingNode) -> list[object]:
    """The changes that the node adds to the history from now on, which are not added."""
    said: list[object] = []

    async def add(change: object) -> None:
        said.append(change)

    leaver.node.cluster.add = add
    return said


def depart(leaver: ExchangingNode) -> None:
    """By its own history the node has left."""
    history = leaver.node.cluster.history
    history._view = msgspec.structs.replace(history.view, departed=frozenset([leaver.id]))


@pytest.mark.parametrize("hinted", [False, True])
def test_a_leaver_empties_itself_and_says_that_it_is_gone(hinted: bool) -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        leaver = cluster.leaver
        said = overheard(leaver)
        parting = cluster.settle()
        hint_key = next(key for key in KEYS if key not in cluster.keys)
        if hinted:
            made = leaver_record(cluster, hint_key)
            leaver.records.put(leaver.store_key(hint_key), encode_record(hint_key, version(b"kept"), hash=made, owed=2, placement_number=9))
        await parting.round()
        assert said == [], "it has not left"
        depart(leaver)
        world.nursery.start_soon(parting.run)
        await world.until(lambda: bool(said), within_s=PATIENCE_S)
        await trio.sleep(20)
        assert said == [Gone(node_id=leaver.id)], "once"
        assert not any(leaver.records.holds(partition) for partition in range(64))
        if hinted:
            await world.until(lambda: all(node.packed(hint_key) is not None for node in cluster.stay), within_s=PATIENCE_S)

    in_virtual_time(scenario)


def test_a_record_that_cannot_be_read_keeps_nobody_from_being_gone() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        leaver = cluster.leaver
        said = overheard(leaver)
        parting = cluster.settle()
        leaver.records.damage(leaver.store_key(cluster.keys[0]))
        depart(leaver)
        world.nursery.start_soon(parting.run)
        await world.until(lambda: said == [Gone(node_id=leaver.id)], within_s=PATIENCE_S)

    in_virtual_time(scenario)


def leaver_record(cluster: Settled, key: bytes) -> int:
    """The hash of what the test keeps as a hint."""
    node = cluster.stay[0]
    node.write(key, version(b"kept"))
    record = node.records.get(node.store_key(key))
    assert record is not None
    node.records.delete(node.store_key(key))
    return decode_record(record).hash


def test_a_node_whose_hints_cannot_go_home_is_not_gone() -> None:
    async def scenario(world: World) -> None:
        cluster = await settled(world)
        leaver = cluster.leaver
        said = overheard(leaver)
        parting = cluster.settle()
        key = next(key for key in KEYS if key not in cluster.keys)
        made = leaver_record(cluster, key)
        cluster.stay[2].crash()
        await world.until(lambda: len(leaver.peers) == 2)
        leaver.records.put(leaver.store_key(key), encode_record(key, version(b"kept"), hash=made, owed=7, placement_number=9))
        depart(leaver)
        world.nursery.start_soon(parting.run)
        await trio.sleep(PATIENCE_S / 2)
        assert leaver.packed(key) is not None
        assert said == []
        await world.start(cluster.stay[2])
        await world.until(lambda: len(leaver.peers) == 3)
        settle(cluster.stay[2:], cluster.new)
        await world.until(lambda: bool(said), within_s=3 * PATIENCE_S)

    in_virtual_time(scenario)
