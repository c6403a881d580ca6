"""Real processes under one fault each, with users at work: everything acknowledged is there, and the cluster comes to rest by itself.

`python -m tests.live.torment` draws faults for as long as one likes. Faults that need rights fail, rather than skip, where
DYNAMO_FAST_ALL_FAULTS is set, as in .ci/run.
"""

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

import dynamo_fast
from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.settings import StorageSettings
from tests.live import namespaces
from tests.live.cluster import Cluster
from tests.live.judge import diverged, records
from tests.live.namespaces import Namespaces
from tests.live.network import Network, Proxies
from tests.live.torment import CONFIG, World, small_disk

pytestmark = pytest.mark.live
WRITES = 200  # acknowledged while a fault lasts


def missing(what: str) -> None:
    """Says what cannot be done here."""
    if os.environ.get("DYNAMO_FAST_ALL_FAULTS"):
        pytest.fail(f"{what} is not allowed here, and all faults were asked for")
    pytest.skip(f"{what} is not allowed here")


@pytest.fixture(params=[Proxies, Namespaces])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    if request.param is Namespaces and not namespaces.allowed():
        missing("making network namespaces")
    with request.param() as made:
        yield made


def judged(directory: Path, network: Network, mischief: Callable[[World], Awaitable[None]], *, nodes: int, disk: bool = False) -> World:
    """One round on a new cluster; whatever is wrong fails the test."""
    with ExitStack() as stack:
        cluster = Cluster(directory, nodes, config=CONFIG, network=network)
        if disk:
            try:
                stack.enter_context(small_disk(cluster[0]))
            except (FileNotFoundError, subprocess.CalledProcessError):
                missing("mounting a file system")
        stack.enter_context(cluster)
        cluster.wait_ready()
        world = World(cluster, network, seed=1)
        assert trio.run(world.round, mischief) == []
        return world


def test_both_halves_of_a_split_cluster_take_writes(tmp_path: Path, network: Network) -> None:
    async def mischief(world: World) -> None:
        await world.record.more(WRITES)
        world.network.split([0, 1], [2, 3, 4])
        await world.record.more(WRITES)
        async with world.clients() as clients:
            for half in (world.cluster.nodes[:2], world.cluster.nodes[2:]):
                for node in half:
                    assert await accepts(node.address, world.network), f"node {node.index} takes no write in its half"
            assert (await clients[0].cluster.placement()).replicas == 3
        await world.record.more(WRITES)
        world.network.heal()

    world = judged(tmp_path, network, mischief, nodes=5)
    assert world.record.acknowledged >= 3 * WRITES


async def accepts(address: str, network: Network) -> bool:
    """Whether a put through this very node is acknowledged with W=2, once it has found out who is there."""
    async with dynamo_fast.connect([address], dial=network.dial, partition_aware=False) as db:
        await db.put(f"through {address}", b"value", overwrite=True, w=2, deadline_s=10.0)
    return True


def test_a_paused_node_is_noticed_and_comes_back(tmp_path: Path) -> None:
    async def mischief(world: World) -> None:
        for node in world.cluster:
            await world.pause(node, WRITES)
            await world.record.more(WRITES)

    with Proxies() as network:
        judged(tmp_path, network, mischief, nodes=3)


def test_two_of_five_nodes_are_away_and_connections_are_reset(tmp_path: Path) -> None:
    async def mischief(world: World) -> None:
        await world.record.more(WRITES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.kill, world.cluster[1], WRITES)
            nursery.start_soon(world.pause, world.cluster[3], WRITES)
        assert isinstance(world.network, Proxies)
        world.network.reset()
        await world.record.more(WRITES)

    with Proxies() as network:
        judged(tmp_path, network, mischief, nodes=5)


def test_a_full_disk_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async def mischief(world: World) -> None:
        for _ in range(2):
            await world.record.more(WRITES)
            await world.fill_disk(world.cluster[0], WRITES)

    with Proxies() as network:
        judged(tmp_path, network, mischief, nodes=3, disk=True)


def test_a_copy_that_is_missing_is_seen(tmp_path: Path) -> None:
    """A look at the disks that cannot fail proves nothing."""
    with Cluster(tmp_path, nodes=3, config=CONFIG) as cluster:
        cluster.wait_ready()

        async def fill() -> object:
            async with dynamo_fast.connect(cluster.addresses) as db:
                await db.put("key", b"value", w=3)
                return await db.cluster.placement()

        placement = trio.run(fill)
        assert cluster.terminate() == [0, 0, 0]
        assert diverged(cluster, placement) == []
        engine = LmdbEngine(cluster[1].data_dir, Disk(), StorageSettings(), partitions=1024)
        [(store_key, _)] = records(cluster[0], 1024)
        assert engine.delete(store_key)
        engine.flush()
        engine.close()
        [violation] = diverged(cluster, placement)
        assert violation.promise == "convergence"
