"""Work in slices: however small the things are that are looked through, others get their turn in between."""

from __future__ import annotations

import trio

from dynamo_fast.node.slices import SLICE_S, Slice
from tests.node.changing import hold_still, homes_in, partition_of, placement_over, settle
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.virtual import World, in_virtual_time

LOOK_S = SLICE_S / 10


class Laboured:
    """On this node every look at the clock takes LOOK_S of time; `hurried` counts how often others were let run."""

    def __init__(self, node: ExchangingNode) -> None:
        self.looks = self.hurried = 0
        node.node.env.now = self._now
        node.node.env.hurry = self._hurry

    def _now(self) -> float:
        self.looks += 1
        return trio.current_time() + self.looks * LOOK_S

    def _hurry(self) -> None:
        self.hurried += 1


def test_a_slice_is_over_after_its_time_and_a_new_one_begins() -> None:
    async def scenario(world: World) -> None:
        (node, *_) = await cluster_of(world, 3)
        env = node.node.env
        assert env.hurry == node.node.reactor.hurry, "a slice that is over hurries this node's loop"
        hurried: list[float] = []
        clock = [100.0]
        env.hurry = lambda: hurried.append(clock[0])
        env.now = lambda: clock[0]
        slice_ = Slice(env)
        for part in (0.0, 0.5, 0.99):
            clock[0] = 100.0 + SLICE_S * part
            await slice_.over()
        assert hurried == []
        clock[0] = 100.0 + SLICE_S * 1.01
        await slice_.over()
        await slice_.over()
        assert hurried == clock

    in_virtual_time(scenario)


def test_many_partitions_with_little_in_each_are_looked_through_in_slices() -> None:
    """For hints, and for old copies: a slice for each partition would never be over."""

    async def scenario(world: World) -> None:
        nodes = await cluster_of(world, 4)
        *stay, leaver = nodes
        old = nodes[0].node.cluster.placement
        for key in (b"key%d" % number for number in range(300)):
            if leaver in homes_in(old, nodes, partition_of(leaver, key)):
                leaver.write(key, version(b"v"))
        settle(nodes, placement_over(stay, nodes[0].view))
        hold_still(leaver)
        held = sum(leaver.records.holds(partition) for partition in range(64))
        assert held > 30

        async def nothing(*_: object) -> None:
            pass

        parting = type(leaver.node.parting)(
            env=leaver.node.env, cluster=leaver.node.cluster, engine=leaver.node.engine, data_plane=leaver.node.data_plane,
            peers=leaver.node.peers, anti_entropy=leaver.node.anti_entropy, copies=2,
        )  # fmt: skip
        parting._part = nothing
        leaver.node.handoff._hand_over = nothing
        for look_through in (parting.round, leaver.node.handoff.round):
            laboured = Laboured(leaver)
            await look_through()
            assert laboured.looks >= held
            assert laboured.hurried > laboured.looks // 15, look_through

    in_virtual_time(scenario)
