"""Changes of members from end to end, where a scenario in plain text could not say what has to be so."""

from __future__ import annotations

import dynamo_fast.testing
from dynamo_fast.testing import rest
from dynamo_fast.testing.cluster import Cluster


def test_replicas_of_one_partition_never_share_a_machine() -> None:
    """Two nodes each of two machines join three that have one each."""

    async def scenario(cluster: Cluster) -> None:
        hosts = {"a": "a", "b": "b", "c": "c", "d": "rack1", "e": "rack1", "f": "rack2", "g": "rack2"}
        for name in "defg":
            cluster.add_machine(name, host=hosts[name])
        await cluster.join(*"defg")
        await cluster.settled()
        assert all(len({hosts[name] for name in names}) == 3 for names in rest.names_of_homes(cluster))

    dynamo_fast.testing.run(scenario, nodes=3)


def test_replicas_of_one_partition_never_share_a_zone() -> None:
    """All that join are in one zone, and the others are said to be in two."""

    async def scenario(cluster: Cluster) -> None:
        zones = {"a": "here", "b": "here", "c": "near"} | dict.fromkeys("def", "far")
        for name in "abc":
            await cluster.set_zone(name, zones[name])
        for name in "def":
            cluster.add_machine(name, zone=zones[name])
        await cluster.join(*"def")
        await cluster.settled()
        assert all(len({zones[name] for name in names}) == 3 for names in rest.names_of_homes(cluster))

    dynamo_fast.testing.run(scenario, nodes=3)


def test_a_record_is_where_it_belongs_after_every_change() -> None:
    """All that was written with one copy is on every home, and nowhere else."""

    async def scenario(cluster: Cluster) -> None:
        keys = [b"key %d" % number for number in range(100)]
        async with cluster.connect() as db:
            for key in keys:
                await db.put(key, key, w=1, dw=1)
        cluster.add_machine("d")
        await cluster.join("d")
        await cluster.settled()
        cluster.add_machine("e")
        await cluster.replace("a", "e")
        await cluster.settled()
        await cluster.leave("b")
        await cluster.settled()
        await cluster.until(lambda: not rest.strays(cluster) and not rest.diverged_trees(cluster), 30)
        assert rest.ownership(cluster, 3) == []
        for key in keys:
            assert {name for name in cluster.machines if cluster.copy(name, key) is not None} == {"c", "d", "e"}

    dynamo_fast.testing.run(scenario, nodes=3)
