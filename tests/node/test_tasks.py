"""Buckets, descriptions and figures, asked of whole nodes in virtual time; and the end of a node."""

import pytest
import trio

from dynamo_fast.core.histogram import Histogram
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.metrics import Metrics, plain
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.status import Status
from tests.node.test_cluster_forms import ADDRESSES, formed, three
from tests.node.virtual import VirtualNode, World, in_virtual_time


async def ask(node: VirtualNode, request: messages.Request) -> messages.Reply:
    handler, _ = node.node.control._handlers[type(request)]
    return await handler(None, request)


async def refused(node: VirtualNode, request: messages.Request) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await ask(node, request)
    return raised.value


def test_buckets_are_set_anywhere_and_listed_everywhere() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        settings = BucketSettings(w=3, dw=2, reconcile="last-write-wins")
        await ask(nodes[0], messages.BucketSetRequest(name=b"cart", settings=settings))
        await ask(nodes[2], messages.BucketSetRequest(name=b"", settings=BucketSettings(r=1)))
        await world.until(lambda: all(len(one.told.buckets) == 2 for one in nodes), within_s=2)
        reply = await ask(nodes[1], messages.BucketListRequest())
        assert [(one.name, one.settings) for one in reply.buckets] == [(b"", BucketSettings(r=1)), (b"cart", settings)]
        count = len(nodes[0].node.cluster.history)
        await ask(nodes[0], messages.BucketSetRequest(name=b"cart", settings=settings))
        assert len(nodes[0].node.cluster.history) == count
        refusal = await refused(nodes[0], messages.BucketSetRequest(name=b"cart", settings=BucketSettings(w=4)))
        assert refusal.status == Status.BAD_REQUEST
        assert "w=4 is out of range: w must be from 1 to 3" in str(refusal)

    in_virtual_time(scenario)


def test_before_a_cluster_is_known_only_status_answers() -> None:
    async def scenario(world: World) -> None:
        node = VirtualNode(world, ADDRESSES[0], node__bootstrap=ADDRESSES)
        await world.start(node)
        status = await ask(node, messages.StatusRequest())
        assert (status.state, status.member, status.cluster_id, status.members) == ("waiting", False, None, 0)
        for request in (
            messages.PlacementRequest(),
            messages.RingInfoRequest(),
            messages.KeysPageRequest(partitions=[0]),
            messages.BucketSetRequest(name=b"b", settings=BucketSettings()),
        ):
            assert (await refused(node, request)).status == Status.NOT_READY
        assert (await ask(node, messages.BucketListRequest())).buckets == []

    in_virtual_time(scenario)


def test_the_placement_and_the_ring_tell_the_same() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        placement = await ask(nodes[0], messages.PlacementRequest())
        assert placement == await ask(nodes[1], messages.PlacementRequest())
        assert (placement.partitions, placement.replicas, len(placement.table)) == (64, 3, 64 * 3 * 2)
        assert [node.id for node in placement.nodes] == sorted(one.id for one in nodes)
        ring = await ask(nodes[0], messages.RingInfoRequest())
        assert [share.partitions_owned for share in ring.members] == [64, 64, 64]
        assert sum(share.partitions_first for share in ring.members) == 64
        assert sum(share.share for share in ring.members) == pytest.approx(1)
        assert all(share.up for share in ring.members)
        nodes[2].crash()
        await trio.sleep(1)
        ring = await ask(nodes[0], messages.RingInfoRequest())
        assert [share.node.address for share in ring.members if not share.up] == [ADDRESSES[2]]

    in_virtual_time(scenario)


def test_states_follow_what_happens() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: all(one.node.state() == "ready" for one in nodes))
        nodes[1].crash()
        await trio.sleep(5)
        assert nodes[0].node.state() == "ready"  # two of three serve R = W = 2
        nodes[2].crash()
        await trio.sleep(5)
        assert nodes[0].node.state() == "starting"
        nodes[0].engine.read_only = "No space left on device"
        assert nodes[0].node.state() == "read-only"
        status = await ask(nodes[0], messages.StatusRequest())
        assert status.peers_up == []
        groups = "requests loop storage control delivery handoff scrub forgetting anti_entropy admission membership process"
        assert set(status.statistics) == {*groups.split(), "transfer", "parting"}

    in_virtual_time(scenario)


def test_stopping_finishes_what_is_under_way_and_syncs() -> None:
    async def scenario(world: World) -> None:
        nodes = three(world)
        await world.start(*nodes)
        await world.until(lambda: formed(nodes))
        leaving = nodes[0]
        leaving.told.requests_in_flight = 1
        leaving.stop.set()
        await trio.sleep(1)
        assert leaving.node.state() == "draining"
        assert leaving.told.draining
        assert not leaving.engine.synced
        assert ADDRESSES[0] not in world.network.listening
        leaving.told.requests_in_flight = 0
        await world.until(lambda: leaving.engine.synced and not leaving.disk.locks, within_s=1)
        await world.until(lambda: leaving.id not in nodes[1].peers)

    in_virtual_time(scenario)


def test_a_failed_fsync_ends_the_node_and_asks_for_a_new_process() -> None:
    async def scenario(world: World) -> None:
        (node,) = three(world, addresses=ADDRESSES[:1])
        await world.start(node)
        await world.until(lambda: node.node.state() == "ready")
        node.engine.read_only, node.engine.failed_fsync = "fdatasync failed: Input/output error", True
        await world.until(lambda: node.ended is not None, within_s=3)
        assert node.ended
        assert not node.engine.synced
        await world.start(node)
        await world.until(lambda: node.node.state() == "ready")
        node.stop.set()
        await world.until(lambda: node.engine.synced)
        assert not node.ended

    in_virtual_time(scenario)


def test_a_request_that_never_ends_does_not_keep_a_node_from_stopping() -> None:
    async def scenario(world: World) -> None:
        (node,) = three(world, addresses=ADDRESSES[:1])
        await world.start(node)
        await world.until(lambda: node.node.state() == "ready")
        node.told.requests_in_flight = 1
        node.stop.set()
        await world.until(lambda: node.engine.synced, within_s=6)

    in_virtual_time(scenario)


# Figures ----------------------------------------------------------------------------------------------------


def test_rates_are_over_the_last_seconds() -> None:
    async def scenario(world: World) -> None:
        node = VirtualNode(world, ADDRESSES[0], node__bootstrap=ADDRESSES[:1])
        await world.start(node)
        counted = {"puts": 0, "gets": 5}
        metrics = Metrics(node.node.env, {"requests": lambda: counted})
        world.nursery.start_soon(metrics.run)
        await trio.sleep(0.5)
        for _ in range(20):
            await trio.sleep(1)
            counted["puts"] += 100
        statistics = metrics.statistics()["requests"]
        assert statistics["puts_per_s"] == pytest.approx(100, rel=0.05)
        assert statistics["gets_per_s"] == 0
        assert metrics.uptime_s == pytest.approx(20.5)

    in_virtual_time(scenario)


def test_figures_are_plain_whatever_their_source_gives() -> None:
    histogram = Histogram()
    histogram.record(7)
    shown = plain({"h": histogram, "none": None, "list": [1, b"\1"], "set": frozenset(), 3: True})
    assert shown["h"]["count"] == 1
    assert shown == {"h": shown["h"], "none": None, "list": [1, "01"], "set": "frozenset()", "3": True}
