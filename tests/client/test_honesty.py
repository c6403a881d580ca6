"""Every answer is honest, whatever the nodes do: ok means applied, NotApplied means not applied, and a retried put is one version.

Random faults from a printed seed; each put writes a value of its own, so the store shows afterwards what really happened to it.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio

import dynamo_fast
from dynamo_fast.wire.status import Status
from tests.client.fake_node import FakeCluster, fake_cluster, in_virtual_time

PUTS, WRITERS = 300, 12
STATUSES = [status for status in Status if status > Status.NOT_FOUND]
UNKNOWN = [status for status in STATUSES if status >= Status.QUORUM_FAILED]


def misbehaviour(chance: random.Random) -> object:
    """Something for a node to do with its next request: mostly nothing special."""
    if chance.random() < 0.6:
        return None
    return chance.choice(
        [
            chance.choice(STATUSES),  # refused or given up, and not applied
            ("apply", chance.choice(UNKNOWN)),
            "break",
            ("apply", "break"),
            "silence",
            ("apply", "silence"),
            chance.random(),  # late
        ]
    )


async def torment(cluster: FakeCluster, chance: random.Random) -> None:
    """Breaks, refuses, revives, one node after the other, for ever."""
    while True:
        await trio.sleep(chance.random())
        node = chance.choice(cluster.nodes)
        if node.away:
            node.away = False
        elif chance.random() < 0.3:
            await node.kill()
        node.silent = chance.random() < 0.1
        node.fragment_bytes = chance.choice([0, 0, 1, 7])


@pytest.mark.parametrize("seed", range(12))
@in_virtual_time
async def test_what_the_client_says_is_what_happened(seed: int) -> None:
    chance = random.Random(seed)
    said: dict[bytes, str] = {}
    async with fake_cluster(nodes=4) as (cluster, db):
        for node in cluster.nodes:
            node.script.extend(misbehaviour(chance) for _ in range(2000))
        values = iter(b"%d" % number for number in range(PUTS))

        async def write() -> None:
            for value in values:
                said[value] = "unknown"  # also if cancelled below
                with trio.move_on_after(chance.choice([0.05, 5.0])):
                    try:
                        await db.put(b"k%d" % chance.randrange(20), value, deadline_s=chance.choice([0.2, 1.0, 3.0]))
                        said[value] = "ok"
                    except dynamo_fast.NotApplied:
                        said[value] = "not applied"
                    except dynamo_fast.Unknown:
                        pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(torment, cluster, random.Random(seed))
            async with trio.open_nursery() as writers:
                for _ in range(WRITERS):
                    writers.start_soon(write)
            nursery.cancel_scope.cancel()

        stored = Counter(version.value for written in cluster.objects.values() for version in written.siblings)
        assert {value for value, verdict in said.items() if verdict == "ok"} <= set(stored)
        assert {value for value, verdict in said.items() if verdict == "not applied"}.isdisjoint(stored)
        assert set(stored.values()) == {1}
        assert len(said) == PUTS
        verdicts = Counter(said.values())
        assert min(verdicts["ok"], verdicts["not applied"], verdicts["unknown"]) > 0, verdicts

        for node in cluster.nodes:
            node.script.clear()
            node.away = node.silent = False
        await trio.sleep(30)
        assert {result.found for result in await db.get_many([b"k%d" % number for number in range(20)])} == {True}
        await trio.sleep(5)
        assert all(not node["requests_in_flight"] for node in db.statistics()["nodes"].values())
