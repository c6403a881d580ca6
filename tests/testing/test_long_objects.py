"""Keys whose versions are together longer than a frame: made by coordinators that were apart, and at home everywhere once they are not."""

from __future__ import annotations

import pytest

import dynamo_fast.testing
from dynamo_fast.client.errors import TooLarge
from dynamo_fast.testing.cluster import Cluster

MIB = 1 << 20
VALUE_BYTES = 256 << 10
FRAME_BYTES_MAX = 2 * MIB + VALUE_BYTES  # the least that goes with such values; a put may then leave a quarter of it
SETTINGS = {"limits__frame_bytes_max": FRAME_BYTES_MAX, "limits__value_bytes_max": VALUE_BYTES, "requests__deadline_ms": 5000}
SIBLINGS_EACH = 2
KEY = "cart"


async def fill_apart(cluster: Cluster) -> list[bytes]:
    """Every node alone, home or not, takes as many versions of the key as it may; the values."""
    for name in cluster.machines:
        cluster.isolate(name)
    await cluster.until(lambda: not cluster.ready(), 30)
    await cluster.clock.sleep(15)
    values = []
    for name in cluster.machines:
        async with cluster.connect(name, partition_aware=False) as db:
            for number in range(SIBLINGS_EACH):
                values.append(f"{name}{number}".encode().ljust(VALUE_BYTES, b"."))
                await db.put(KEY, values[-1], w=1, dw=1)
            with pytest.raises(TooLarge, match="together are too large; get it, resolve them, and put with the context"):
                await db.put(KEY, bytes(VALUE_BYTES), w=1)
    return sorted(values)


def homes_agree(cluster: Cluster, siblings: int) -> bool:
    """Whether all homes hold the same, of so many versions, and nobody else holds anything."""
    homes = cluster.homes(KEY.encode())
    partition = cluster.placement().ring().partition(KEY.encode(), b"")
    roots = {name: machine.engine.forest.root(partition) for name, machine in cluster.machines.items()}
    if len({roots[home.name] for home in homes}) > 1 or any(roots[name] for name in roots.keys() - {home.name for home in homes}):
        return False
    copies = [cluster.copy(home.name, KEY.encode()) for home in homes]
    return all(one is not None and one.packed == (copies[0].packed if copies[0] else b"") for one in copies) and (
        copies[0] is not None and len(copies[0].siblings) == siblings)  # fmt: skip


def no_connection_was_closed_for_it(cluster: Cluster) -> bool:
    return all(machine.node.reactor.protocol_errors == 0 for machine in cluster.machines.values() if machine.node)


async def apart_and_together(cluster: Cluster) -> None:
    values = await fill_apart(cluster)
    await cluster.heal()
    await cluster.until(lambda: homes_agree(cluster, len(values)), 120)
    packed = cluster.copy(cluster.homes(KEY.encode())[0].name, KEY.encode())
    assert packed is not None
    assert len(packed.packed) > FRAME_BYTES_MAX
    assert no_connection_was_closed_for_it(cluster)
    async with cluster.connect() as db:
        found = await db.get(KEY, r=3)
        assert sorted(found.values) == values
        await db.put(KEY, b"resolved", context=found.context, w=3)
        assert (await db.get(KEY, r=3)).value == b"resolved"
    await cluster.until(lambda: homes_agree(cluster, 1), 30)
    assert no_connection_was_closed_for_it(cluster)


@pytest.mark.parametrize("nodes", [5, 7])
def test_what_was_taken_apart_comes_together_and_can_be_read_and_resolved(nodes: int) -> None:
    """Homes bring each other what they lack, and substitutes hand over what they keep for them."""
    dynamo_fast.testing.run(apart_and_together, seed=3, nodes=nodes, **SETTINGS)


async def grown(cluster: Cluster) -> list[bytes]:
    """A key longer than a frame, at all its homes; its values."""
    values = await fill_apart(cluster)
    await cluster.heal()
    await cluster.until(lambda: homes_agree(cluster, len(values)), 120)
    return values


def test_it_moves_to_whoever_becomes_a_home_and_away_from_who_leaves() -> None:
    async def scenario(cluster: Cluster) -> None:
        values = await grown(cluster)
        leaving = cluster.homes(KEY.encode())[0].name
        cluster.add_machine("new")
        await cluster.replace(leaving, "new")
        await cluster.settled()
        await cluster.until(lambda: homes_agree(cluster, len(values)), 120)
        assert "new" in {home.name for home in cluster.homes(KEY.encode())}
        assert cluster.copy(leaving, KEY.encode()) is None
        async with cluster.connect() as db:
            assert sorted((await db.get(KEY, r=3, strict=True)).values) == values
        assert no_connection_was_closed_for_it(cluster)

    dynamo_fast.testing.run(scenario, seed=5, nodes=5, **SETTINGS)


def test_a_home_that_lost_its_disk_gets_it_by_read_repair_and_without() -> None:
    async def scenario(cluster: Cluster) -> None:
        values = await grown(cluster)
        one, two, three = cluster.homes(KEY.encode())
        for name, read in ((one.name, True), (two.name, False)):
            await cluster.kill(name)
            store_key = cluster.store_key(KEY.encode())
            cluster[name].engine.delete(store_key)
            cluster[name].engine.flush()
            await cluster.restart(name)
            await cluster.until(cluster.ready, 30)
            if read:
                async with cluster.connect(three.name, partition_aware=False) as db:
                    assert sorted((await db.get(KEY, r=3)).values) == values
                await cluster.until(lambda: homes_agree(cluster, len(values)), 2)
            else:
                await cluster.until(lambda: homes_agree(cluster, len(values)), 60)
        assert no_connection_was_closed_for_it(cluster)

    dynamo_fast.testing.run(scenario, seed=6, nodes=5, anti_entropy__round_s=20, **SETTINGS)


def test_a_client_that_takes_less_is_told_so_and_what_to_do() -> None:
    """Through a home and through a node that forwards; and the connection goes on."""

    async def scenario(cluster: Cluster) -> None:
        await grown(cluster)
        homes = {home.name for home in cluster.homes(KEY.encode())}
        other = next(name for name in cluster.machines if name not in homes)
        for name in (min(homes), other):
            async with cluster.connect(name, partition_aware=False, answer_bytes_max=FRAME_BYTES_MAX) as db:
                await db.put("small", b"one", overwrite=True)
                dials = cluster.network.dials
                for _ in range(2):
                    with pytest.raises(TooLarge, match=r"takes at most 2359296. Get it with a client that takes more \(answer_bytes_max\)"):
                        await db.get(KEY)
                assert (await db.get("small")).value == b"one"
                assert cluster.network.dials == dials, "no connection was closed"
        async with cluster.connect(min(homes), partition_aware=False) as db:
            await db.put(KEY, b"given up", overwrite=True, w=3)
            assert (await db.get(KEY, r=3)).value == b"given up"

    dynamo_fast.testing.run(scenario, seed=7, nodes=5, **SETTINGS)


def test_it_comes_home_over_connections_that_break_between_its_pieces_and_over_slow_ones() -> None:
    """Two megabytes and a half take longer on such a link than a question may take to be answered, and nobody is suspected for it."""

    async def scenario(cluster: Cluster) -> None:
        values = await fill_apart(cluster)
        for one in cluster.machines:
            for two in cluster.machines:
                if one != two:
                    cluster.network.link(one, two).__dict__.update(cut=False, bytes_per_s=100_000.0)
        await cluster.until(cluster.ready, 60)
        for _ in range(3):
            await cluster.clock.sleep(5)
            for machine in cluster.machines.values():
                machine.node.reactor.reset(cluster.chance)
        await cluster.until(lambda: homes_agree(cluster, len(values)), 600)
        assert no_connection_was_closed_for_it(cluster)

    dynamo_fast.testing.run(scenario, seed=8, nodes=5, **SETTINGS)
