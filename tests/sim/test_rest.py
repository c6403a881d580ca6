"""What has to be in its place at the end of a run is looked at on the machines themselves."""

from __future__ import annotations

import dynamo_fast.testing
from dynamo_fast.testing import rest
from dynamo_fast.testing.cluster import Cluster

N = 3


def test_a_record_on_a_machine_that_is_no_home_is_found_and_of_one_given_up_is_not() -> None:
    async def scenario(cluster: Cluster) -> None:
        waiting = cluster.add_machine()
        await cluster.until(cluster.ready, 10)
        async with cluster.connect() as db:
            await db.put("key", b"one", w=N)
        assert rest.strays(cluster) == []
        assert rest.ownership(cluster, N) == []
        home = cluster.homes(b"key")[0]
        store_key = cluster.store_key(b"key")
        record = home.engine.get(store_key)
        assert record is not None
        waiting.engine.put(store_key, record)
        assert rest.strays(cluster) == [waiting.name]
        assert [one.promise for one in rest.ownership(cluster, N)] == ["every key has N owners"]
        assert rest.strays(cluster, [waiting.name]) == []
        assert rest.ownership(cluster, N, [waiting.name]) == []
        assert rest.ownership(cluster, N + 1, [waiting.name]) == []  # there are not more members
        assert [one.promise for one in rest.diverged_trees(cluster)] == []
        home.engine.replace_disk({})
        assert [one.promise for one in rest.diverged_trees(cluster)] == ["convergence"]
        await cluster.kill("a")
        assert not rest.well(cluster)
        await cluster.destroy("a")
        assert rest.well(cluster)

    dynamo_fast.testing.run(scenario)
