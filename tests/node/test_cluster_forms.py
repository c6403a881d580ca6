"""Birth and gossip in virtual time: one cluster whatever the order of starts and crashes, and everybody learns of everything."""

import itertools
import logging

import pytest
import trio

from dynamo_fast.core.membership import BucketChange, decode_history
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.node.birth import BirthRefused, first_of
from dynamo_fast.node.cluster import PlacementRefused
from tests.node.virtual import VirtualNode, World, in_virtual_time

ADDRESSES = ["10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"]
MEMBERSHIP = "membership"


def three(world: World, addresses=ADDRESSES, **flags) -> list[VirtualNode]:
    return [VirtualNode(world, one, node__bootstrap=list(addresses), **flags) for one in addresses]


def formed(nodes: list[VirtualNode]) -> bool:
    """All know the same cluster, and everybody has a connection to everybody."""
    if not all(one.node and one.view for one in nodes):
        return False
    ids = {one.id for one in nodes}
    return len({one.view.cluster_id for one in nodes}) == 1 and all(one.peers == ids - {one.id} for one in nodes)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_cluster_is_born_whatever_the_order_of_starts(order: tuple[int, ...]) -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        for index in order:
            await world.start(nodes[index])
            await trio.sleep(1)
        await world.until(lambda: formed(nodes))
        births = [one.view for one in nodes]
        assert births[0] == births[1] == births[2]
        assert {member.address for member in births[0].first_members} == set(ADDRESSES)
        for one in nodes:
            assert one.told.cluster == (births[0].cluster_id, births[0].mac_key)
            assert one.told.placement == nodes[0].told.placement
            assert set(one.told.up) == one.peers
            assert one.node.state() == "ready"

    in_virtual_time(scenario)


def test_nothing_is_born_before_all_have_asked() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes[:2])
        await trio.sleep(120)
        assert all(one.view is None and one.node.state() == "waiting" for one in nodes[:2])
        await world.start(nodes[2])
        await world.until(lambda: formed(nodes))

    in_virtual_time(scenario)


def test_one_node_alone_is_a_cluster() -> None:
    async def scenario(world: World) -> None:
        (node,) = three(world, addresses=ADDRESSES[:1])
        await world.start(node)
        await world.until(lambda: node.node.state() == "ready")
        assert node.told.placement[2] == [node.id]

    in_virtual_time(scenario)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("victim", range(3))
def test_a_crash_at_any_moment_of_the_birth_leads_to_one_cluster(victim: int, seed: int) -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await trio.sleep(0.003 * seed)
        nodes[victim].crash()
        await trio.sleep(0.5)
        known = {one.view.cluster_id for one in nodes if one.node and one.view}
        await world.start(nodes[victim])
        await world.until(lambda: formed(nodes))
        assert known <= {nodes[0].view.cluster_id}

    in_virtual_time(scenario, seed=seed)


def test_the_birth_is_on_disk_before_anybody_is_told() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        first = min(nodes, key=lambda one: one.address)
        at_write: list[list[bool]] = []

        def written() -> None:
            at_write.append([one.node is not None and one.view is not None for one in nodes])

        first.disk.after_replace = written
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        assert at_write[2] == [False, False, False]  # identity, number of starts, and then the birth
        data = {path.name: data for path, data in first.disk.files.items()}[MEMBERSHIP]
        assert decode_history(data).view == first.view

    in_virtual_time(scenario)


def test_a_disk_that_refuses_the_birth_only_delays_it() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        first = min(nodes, key=lambda one: one.address)
        await world.start(*nodes)
        first.disk.refuse = OSError(28, "No space left on device")
        await trio.sleep(10)
        assert not any(one.view for one in nodes)
        first.disk.refuse = None
        await world.until(lambda: formed(nodes))

    in_virtual_time(scenario)


def test_a_restarted_cluster_needs_no_bootstrap_and_keeps_its_identity() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        before = [(one.id, one.view) for one in nodes]
        for one in nodes:
            one.crash()
        await trio.sleep(5)
        for one in nodes:
            one.flags.clear()
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        assert [(one.id, one.view) for one in nodes] == before

    in_virtual_time(scenario)


def test_a_wiped_first_node_makes_no_second_cluster() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        wiped = next(one for one in nodes if one.address == first_of(ADDRESSES))
        cluster_id, old_id = wiped.view.cluster_id, wiped.id
        wiped.crash()
        await trio.sleep(1)
        wiped.disk.files.clear()
        await world.start(wiped)
        await world.until(lambda: wiped.view is not None)
        assert wiped.view.cluster_id == cluster_id
        assert wiped.id != old_id
        assert wiped.id not in wiped.view.members

    in_virtual_time(scenario)


def test_lists_that_differ_are_refused_with_both_of_them_named() -> None:
    async def scenario(world: World) -> None:
        nodes = [VirtualNode(world, one, node__bootstrap=ADDRESSES) for one in ADDRESSES[:2]]
        odd = VirtualNode(world, ADDRESSES[2], node__bootstrap=ADDRESSES[:1] + ADDRESSES[2:])
        await world.start(*nodes, odd)
        await trio.sleep(30)
        assert not any(one.view for one in [*nodes, odd])
        said = odd.node.gossip._said.values()
        assert any("all must be given the same list" in text and ADDRESSES[1] in text for text in said)

    in_virtual_time(scenario)


def test_a_node_that_is_not_in_its_own_list_does_not_start() -> None:
    async def scenario(world: World) -> None:
        node = VirtualNode(world, "10.0.0.9:7400", node__bootstrap=ADDRESSES)
        await world.start(node)
        assert isinstance(node.failure, BirthRefused)
        assert "does not name this node's own address, 10.0.0.9:7400" in str(node.failure)

    in_virtual_time(scenario)


def test_a_node_with_another_number_of_partitions_says_so_and_serves_nothing() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        odd = VirtualNode(world, "10.0.0.7:7400", node__seeds=ADDRESSES[:1], cluster__partitions=128)
        await world.start(odd)
        await trio.sleep(10)
        assert odd.view is None
        assert any("cluster.partitions = 64" in text for text in odd.node.gossip._said.values())
        odd.crash()
        odd.disk.files.update({path: data for path, data in nodes[0].disk.files.items() if path.name == MEMBERSHIP})
        await trio.sleep(1)
        await world.start(odd)
        await trio.sleep(1)
        assert isinstance(odd.failure, PlacementRefused)

    in_virtual_time(scenario)


@pytest.mark.parametrize("seed_name", ["10.0.0.2:7400", "10.0.0.99:7400,10.0.0.3:7400", "cluster.example", "nowhere.example,10.0.0.1:7400"])
def test_a_fresh_node_learns_the_cluster_from_a_seed_and_owns_nothing(seed_name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dynamo_fast.node")

    async def scenario(world: World) -> None:
        world.network.names["cluster.example"] = [("10.0.0.88", 7400), ("10.0.0.2", 7400)]
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        fresh = VirtualNode(world, "10.0.0.9:7400", node__seeds=seed_name.split(","))
        await world.start(fresh)
        await world.until(lambda: fresh.view is not None and len(fresh.peers) == 3)
        assert fresh.node.state() == "waiting"
        assert not fresh.node.cluster.is_member
        assert fresh.id not in fresh.told.placement[2]
        assert all(len(one.view.members) == 3 for one in nodes)
        assert [text for text in caplog.messages if "join" in text] == ["waiting: ask a member with `dynamo-fast join 10.0.0.9:7400`"]

    in_virtual_time(scenario)


def test_a_change_made_anywhere_reaches_everybody_within_a_second_and_survives_restarts() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        settings = BucketSettings(w=3, reconcile="last-write-wins")
        await nodes[1].node.cluster.add(BucketChange(name=b"cart", settings=settings))
        await world.until(lambda: all(one.told.buckets == {b"cart": settings} for one in nodes), within_s=1.0)
        nodes[2].crash()
        await trio.sleep(1)
        await world.start(nodes[2])
        assert nodes[2].told.buckets == {b"cart": settings}

    in_virtual_time(scenario)


def test_changes_made_on_two_sides_of_a_cut_are_united_when_it_heals() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        world.network.cut.add(nodes[2].address)
        for connection in list(nodes[2].node.reactor.ends):
            connection.close("cut")
        await world.until(lambda: not nodes[2].peers)
        for number in range(600):  # more than one message holds
            await nodes[number % 3].node.cluster.add(BucketChange(name=b"%d" % number, settings=BucketSettings()))
        world.network.cut.clear()
        await world.until(lambda: formed(nodes) and all(len(one.told.buckets) == 600 for one in nodes), within_s=10)
        assert len({one.node.cluster.history.digest for one in nodes}) == 1

    in_virtual_time(scenario)


def test_members_that_have_all_moved_find_each_other_by_their_bootstrap_list() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        before = nodes[0].view.cluster_id
        for one in nodes:
            one.crash()
        await trio.sleep(1)
        moved = [address.replace("10.0.0", "10.9.9") for address in ADDRESSES]
        for one, address in zip(nodes, moved, strict=True):
            one.address, one.flags["node__bootstrap"] = address, moved
        await world.start(*nodes)
        await world.until(lambda: formed(nodes) and set(nodes[0].told.placement[4]) == set(moved), within_s=10)
        await world.until(lambda: nodes[0].told.placement == nodes[1].told.placement == nodes[2].told.placement, within_s=5)
        assert {one.view.cluster_id for one in nodes} == {before}

    in_virtual_time(scenario)


def test_a_seed_under_another_name_disturbs_no_connection() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world, node__seeds=["elsewhere:7400"])
        await world.start(*nodes)
        world.network.listening["elsewhere:7400"] = nodes[1].node.reactor  # another way to the second node
        await world.until(lambda: formed(nodes))
        await trio.sleep(1)  # of two nodes that dialled each other at once, one connection goes
        connections = [dict(one.told.up) for one in nodes]
        await trio.sleep(60)
        assert [one.told.up for one in nodes] == connections
        assert world.network.dials < 60

    in_virtual_time(scenario)


def test_with_all_seeds_dead_the_others_gossip_on() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world, node__seeds=ADDRESSES[:1])
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        nodes[0].crash()
        await trio.sleep(5)
        await nodes[1].node.cluster.add(BucketChange(name=b"cart", settings=BucketSettings()))
        await world.until(lambda: b"cart" in nodes[2].told.buckets, within_s=3)

    in_virtual_time(scenario)


def test_news_of_something_else_dial_nobody_who_is_away() -> None:
    """Whoever cannot be reached is dialled anew when its time has come, or when it has moved."""

    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        nodes[0].crash()
        await trio.sleep(10)
        dials = world.network.dials
        for _ in range(100):
            nodes[1].node.cluster.wake()
            await trio.sleep(0.1)
        assert world.network.dials - dials < 30

    in_virtual_time(scenario)


def test_a_settled_cluster_exchanges_one_small_message_a_second() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        await trio.sleep(5)
        before = [one.node.gossip.exchanges for one in nodes]
        dials = world.network.dials
        await trio.sleep(100)
        counts = [one.node.gossip.exchanges - start for one, start in zip(nodes, before, strict=True)]
        assert all(75 <= count <= 135 for count in counts)
        assert world.network.dials == dials

    in_virtual_time(scenario)
