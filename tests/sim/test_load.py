"""The clients behind a scenario notice what is lost, and what a strict read misses."""

from __future__ import annotations

import trio

import dynamo_fast.testing
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.load import Load


async def worked(cluster: Cluster) -> Load:
    load = Load(cluster)
    await cluster.nursery.start(load.run)
    await trio.sleep(5)
    await load.stop()
    return load


def test_nothing_is_said_where_nothing_was_lost() -> None:
    async def scenario(cluster: Cluster) -> None:
        load = await worked(cluster)
        async with cluster.connect() as client:
            assert await load.verdict(client) == ["every write is there, and no strict read has missed one"]
        assert load.history.acknowledged > 100

    dynamo_fast.testing.run(scenario)


def test_lost_disks_and_stale_reads_are_told() -> None:
    async def scenario(cluster: Cluster) -> None:
        load = await worked(cluster)
        stale = next(read for read in reversed(load.history.reads) if read.shown)
        stale.shown = frozenset()
        for machine in cluster.machines.values():
            await cluster.kill(machine.name)
            await cluster.clock.moment(machine.wipe)
        await cluster.heal()
        async with cluster.connect() as client:
            told = await load.verdict(client)
        assert any(line.startswith("no lost write") for line in told)
        assert any(line.startswith("strict reads are regular") for line in told)

    dynamo_fast.testing.run(scenario)
