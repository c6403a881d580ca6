"""A cluster in virtual time: real nodes, the real client, one seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio

import dynamo_fast.testing
from dynamo_fast.client.errors import DynamoError, NotApplied
from dynamo_fast.testing.state import State


async def a_little_of_everything(cluster: dynamo_fast.testing.Cluster) -> tuple[str, float]:
    """Puts, a kill, a loss of power, a frozen node and a cut: the digest of all that happened, and the time."""
    async with cluster.connect() as db:
        context = await db.put("cart", b"book")
        await cluster.kill("b")
        context = await db.put("cart", b"book,pen", context=context)
        await cluster.restart("b")
        await cluster.freeze("c")
        await db.put("cart", b"blind", deadline_s=3)
        await cluster.restart("c")
        await cluster.cut_power("a")
        await trio.sleep(1)
        await cluster.restart("a")
        cluster.isolate("b")
        await trio.sleep(20)
        await cluster.heal()
        assert sorted((await db.get("cart", r=3)).values) == [b"blind", b"book,pen"]
    return cluster.trace.digest, cluster.clock.now


def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Whatever Python's hash seed; and another seed is another run."""
    command = "import dynamo_fast.testing as t, tests.testing.test_cluster as m; print(t.run(m.a_little_of_everything, seed=7))"
    seen = set()
    for hash_seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        seen.add(subprocess.run([sys.executable, "-c", command], env=environment, check=True, capture_output=True, text=True).stdout)
    assert seen == {f"{dynamo_fast.testing.run(a_little_of_everything, seed=7)}\n"}
    assert dynamo_fast.testing.run(a_little_of_everything, seed=8)[0] not in seen.pop()


def test_an_error_of_the_scenario_comes_out_as_it_is() -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        await cluster.freeze("a")
        await cluster.kill("b")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        dynamo_fast.testing.run(scenario)


def test_a_killed_node_keeps_what_its_log_was_given_and_a_cut_of_power_keeps_what_was_synced() -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        for machine in cluster.machines.values():
            machine.engine.hold_syncs = True
        async with cluster.connect() as db:
            await db.put("key", b"in the page cache", w=3, dw=0)
            await cluster.kill("a")
            await cluster.cut_power("b", at_worst=True)
            await cluster.restart("a", "b")
            await cluster.until(cluster.ready, 10)
            assert cluster.copy("a", b"key") is not None
            assert cluster.copy("b", b"key") is None

    dynamo_fast.testing.run(scenario)


def test_a_frozen_node_says_nothing_and_then_everything() -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        async with cluster.connect("a") as db:
            await cluster.freeze("b", "c")
            with pytest.raises(DynamoError):
                await db.put("key", b"one", w=2, deadline_s=0.5)
            assert cluster.copy("b", b"key") is None
            await cluster.restart("b", "c")
            await cluster.until(lambda: cluster.copy("b", b"key") is not None, 5)
            await cluster.until(lambda: cluster.copy("c", b"key") is not None, 5)

    dynamo_fast.testing.run(scenario)


def test_a_full_disk_refuses_and_takes_again() -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        async with cluster.connect() as db:
            await db.put("key", b"one")
            for machine in cluster.machines.values():
                machine.fill_disk()
            with pytest.raises(DynamoError):
                await db.put("key", b"two", deadline_s=0.5)
            with pytest.raises(NotApplied):
                await db.put("other", b"three", deadline_s=0.5)
            assert b"one" in (await db.get("key")).values
            await cluster.heal()
            await db.put("other", b"four")

    dynamo_fast.testing.run(scenario)


def test_a_node_restarts_itself_after_a_failed_fsync() -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        cluster["a"].fail_next_sync = "an fdatasync failed"
        async with cluster.connect("a") as db:
            await db.put("key", b"one", dw=2)
            await cluster.until(lambda: cluster["a"].starts == 2 and cluster["a"].state is State.RUNNING, 20)
            await cluster.until(cluster.ready, 20)
            await db.put("key", b"two", dw=3, w=3)

    dynamo_fast.testing.run(scenario)


@pytest.mark.parametrize("moment", ["before the log write", "after the log write"])
def test_a_node_that_dies_inside_a_pass_says_nothing(moment: str) -> None:
    async def scenario(cluster: dynamo_fast.testing.Cluster) -> None:
        key = next(key for key in (b"%d" % number for number in range(99)) if cluster.homes(key)[0].name == "a")
        async with cluster.connect("a", partition_aware=False, attempts_max=1) as db:
            cluster["a"].die_in_pass = moment
            with pytest.raises(DynamoError):
                await db.put(key, b"one", deadline_s=0.5)
            assert cluster["a"].state is State.STOPPED
            assert [cluster["b"].engine.position, cluster["c"].engine.position] == [0, 0]
            assert (cluster["a"].engine.position == 0) is (moment == "before the log write")

    dynamo_fast.testing.run(scenario)
