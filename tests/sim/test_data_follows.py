"""Data follows the placements from end to end: whole nodes, a real client, and the operator's commands."""

from __future__ import annotations

import trio

import dynamo_fast.testing
from dynamo_fast.testing import rest
from dynamo_fast.testing.cluster import Cluster

KEYS = [b"key%d" % number for number in range(400)]
VALUE = bytes(1024)
PATIENCE_S = 180.0


def transferred(cluster: Cluster, name: str) -> dict[str, int]:
    node = cluster[name].node
    assert node is not None
    return node.transfer.statistics()  # type: ignore[return-value]


def pulled(cluster: Cluster) -> int:
    return sum(one.node.anti_entropy.total.keys_pulled for one in cluster.machines.values() if one.node is not None)


async def in_place(cluster: Cluster) -> None:
    await cluster.settled(PATIENCE_S)
    await cluster.until(lambda: rest.strays(cluster) == [] and rest.diverged_trees(cluster) == [], PATIENCE_S)
    assert rest.ownership(cluster, 3) == []
    assert rest.in_doubt(cluster) == []


def test_a_member_joins_and_what_it_gains_comes_once_and_goes_elsewhere() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.until(cluster.ready, 10)
        async with cluster.connect() as db:
            for key in KEYS:
                await db.put(key, VALUE, w=3)
            before = pulled(cluster)
            newcomer = cluster.add_machine()
            await cluster.until(cluster.ready, 10)
            await cluster.join(newcomer.name)
            await in_place(cluster)
            told = transferred(cluster, newcomer.name)
            held = sum(newcomer in cluster.homes(key) for key in KEYS)
            assert told["objects"] == held > 200
            assert told["wire_bytes"] <= 1.02 * sum(len(newcomer.engine.get(cluster.store_key(key)) or b"") for key in KEYS)
            assert pulled(cluster) - before <= 0.02 * held
            for key in KEYS:
                assert (await db.get(key, r=2)).values == (VALUE,)

    dynamo_fast.testing.run(scenario, nodes=3)


def test_members_leave_and_are_replaced_under_writes_and_are_gone_in_the_end() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.until(cluster.ready, 10)
        written: dict[bytes, bytes] = {}
        over = False

        async def write() -> None:
            number = 0
            async with cluster.connect() as db:
                while not over:
                    key = KEYS[number % len(KEYS)]
                    number += 1
                    value = b"%d" % number
                    await db.put(key, value, overwrite=True)
                    written[key] = value
                    await trio.sleep(0.05)

        async with cluster.connect() as db, trio.open_nursery() as nursery:
            for key in KEYS:
                await db.put(key, VALUE, w=3)
                written[key] = VALUE
            nursery.start_soon(write)
            await cluster.leave("a")
            await cluster.settled(PATIENCE_S)
            newcomer = cluster.add_machine()
            await cluster.until(cluster.ready, 10)
            await cluster.replace("b", newcomer.name)
            await cluster.settled(PATIENCE_S)
            over = True
        await in_place(cluster)
        for name in ("a", "b"):
            assert not any(cluster[name].engine.holds(partition) for partition in range(cluster.partitions))
        async with cluster.connect(newcomer.name) as db:
            for key in KEYS:
                assert (await db.get(key, r=2)).values == (written[key],)

    dynamo_fast.testing.run(scenario, nodes=5)
