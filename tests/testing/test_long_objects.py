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
    homes = {home.name for home in cluster.homes(KEY.encode())}
    copies = {name: cluster.copy(name, KEY.encode()) for name in cluster.machines}
    held = [copies[name] for name in sorted(homes)]
    return all(
        one is not None and one.packed == (held[0].packed if held[0] else b"") and len(one.siblings) == siblings for one in held
    ) and not any(copies[name] for name in copies if name not in homes)


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
