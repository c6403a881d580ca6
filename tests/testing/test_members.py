"""Machines that are no members, and when a change of members is over."""

from __future__ import annotations

import pytest
import trio

import dynamo_fast.testing
from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import Leave, NodeEntry, WeightChange, hybrid_time, make_record
from dynamo_fast.core.placement import Placement
from dynamo_fast.node.cluster import UnderWay
from dynamo_fast.testing.cluster import Cluster, name_of
from dynamo_fast.testing.members import members_of, unsettled
from dynamo_fast.testing.state import State


def test_every_machine_has_a_name_of_its_own() -> None:
    assert [name_of(number) for number in (0, 25, 26, 27, 51, 52, 701, 702)] == ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]


def test_a_machine_that_was_added_waits_and_disturbs_nobody() -> None:
    async def scenario(cluster: Cluster) -> None:
        before = cluster.placement().digest
        added = cluster.add_machine(zone="elsewhere", host="rack", weight=7)
        await trio.sleep(3)
        assert cluster.ready()
        assert added.node is not None
        assert added.node.cluster.view is not None
        assert not added.node.cluster.is_member
        assert added.entry == NodeEntry(id=added.entry.id, address="d:7400", host="rack", zone="elsewhere", weight=7)
        assert [one.name for one in members_of(cluster.machines.values())] == ["a", "b", "c"]
        async with cluster.connect() as db:
            await db.put("key", b"one", w=3)
        assert cluster.copy("d", b"key") is None
        assert cluster.placement().digest == before
        await cluster.settled(1)

    dynamo_fast.testing.run(scenario)


def test_a_destroyed_machine_stays_destroyed() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.connect() as db:
            await db.put("key", b"one", w=3)
        await cluster.destroy("a")
        await cluster.heal()
        await cluster.restart("a")
        assert cluster["a"].state is State.DESTROYED
        assert cluster.copy("a", b"key") is None
        assert cluster["a"].disk.files == {}

    dynamo_fast.testing.run(scenario)


async def member(cluster: Cluster) -> None:
    """Somebody knows that one member is leaving; the others have not heard yet."""
    node = cluster["b"].node
    assert node is not None
    leave = Leave(node_id=cluster["a"].entry.id)
    node.cluster.history.merge([make_record(leave, author=node.cluster.node_id, time=hybrid_time(node.cluster.history.last_time, 0))])


async def weight(cluster: Cluster) -> None:
    """All know of a change that no placement has taken in."""
    nodes = [one.node for one in cluster.machines.values() if one.node is not None]
    change = WeightChange(node_id=cluster["a"].entry.id, weight=7)
    record = make_record(change, author=nodes[0].cluster.node_id, time=hybrid_time(nodes[0].cluster.history.last_time, 0))
    for node in nodes:
        node.cluster.history.merge([record])


async def under_way(cluster: Cluster) -> None:
    node, placement = cluster["b"].node, cluster.placement()
    assert node is not None
    node.cluster.change = UnderWay(placement, placement, Step.SYNCED)


async def another_placement(cluster: Cluster) -> None:
    node, placement = cluster["c"].node, cluster.placement()
    assert node is not None
    node.cluster.placement = Placement.made(2, placement.digest, (), placement.replicas, placement.node_ids, placement.table)


@pytest.mark.parametrize(("plant", "told"), [
    (member, ["a is leaving", "placement 1 on b has other nodes than there are members", "1 changes wait on b"]),
    (weight, ["1 changes wait on a", "1 changes wait on b", "1 changes wait on c"]),
    (under_way, ["b does SYNCED of the change to placement 1"]),
    (another_placement, ["2 placements are in force"]),
])  # fmt: skip
def test_what_is_not_over_is_told(plant, told: list[str]) -> None:
    async def scenario(cluster: Cluster) -> list[str]:
        assert unsettled(cluster.machines.values()) == []
        await plant(cluster)
        return unsettled(cluster.machines.values())

    found = dynamo_fast.testing.run(scenario)
    assert [one for one in told if one not in found] == []


def test_when_all_members_are_on_their_way_out_they_can_still_be_told_that_a_newcomer_is_dead() -> None:
    """Those that come know no placement before the change that waits for the dead one is over."""

    async def scenario(cluster: Cluster) -> None:
        cluster.add_machine()
        node = cluster["a"].node
        assert node is not None
        await cluster.join("d")
        await cluster.until(lambda: node.cluster.change is not None, 10)
        await cluster.destroy("d")
        for _ in range(4):
            cluster.add_machine()
        await cluster.exchange([("a", "e"), ("b", "f"), ("c", "g")], through="a")
        await trio.sleep(30)
        assert {"e knows no cluster", "f knows no cluster", "g knows no cluster"} <= set(unsettled(cluster.machines.values()))
        with pytest.raises(dynamo_fast.NotApplied, match="no member of a cluster, so it cannot change one: ask a member"):
            await cluster.replace("d", "h", dead=True, through="e")
        await cluster.replace("d", "h", dead=True)
        await cluster.settled(60)
        assert sorted(one.name for one in members_of(cluster.machines.values())) == ["e", "f", "g", "h"]
        with pytest.raises(dynamo_fast.NotApplied, match="no member of a cluster"):
            await cluster.set_weight("e", 50, through="a")

    dynamo_fast.testing.run(scenario)
