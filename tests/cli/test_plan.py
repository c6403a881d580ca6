"""plan against a cluster of fakes: what would move, what is refused and why, and that nothing but questions is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.shell import Shell
from tests.client.fake_node import PARTITIONS, FakeCluster
from tests.client.loopback import loopback_cluster


@pytest.fixture
def shell() -> Iterator[Shell[FakeCluster]]:
    with loopback_cluster(nodes=4) as cluster:
        yield Shell(cluster)


def test_a_join_shows_what_each_node_would_get_and_give(shell: Shell[FakeCluster]) -> None:
    document = json.loads(shell("plan join db9 --json").stdout)
    assert (document["placement"], document["partitions"], document["refusal"]) == (1, PARTITIONS, None)
    *old, new = document["nodes"]
    assert [node["node"] for node in old] == shell.cluster.addresses
    assert (new["node"], new["host"], new["zone"], new["weight"]) == ("new on db9", "db9", "", 100)
    assert new["gained"] == new["partitions_after"] == document["replicas_moved"] == 3 * PARTITIONS // 5
    assert sum(node["lost"] for node in old) == new["gained"]
    assert all(node["partitions_before"] == 3 * PARTITIONS // 4 for node in old)
    assert document["bytes_moved"] is None
    lines = shell("plan join db9").stdout
    assert "new on db9" in lines
    assert f"{3 * PARTITIONS // 5} of {3 * PARTITIONS} replicas would be copied" in lines
    assert "nothing is changed" in lines


def test_bytes_are_estimated_from_what_the_nodes_hold(shell: Shell[FakeCluster]) -> None:
    replicas = 3 * PARTITIONS // 4
    for node in shell.cluster.nodes[:2]:  # one that does not tell is left out of the average
        held = {"buffer_bytes": 900 * replicas, "buffer_records": replicas, "lmdb_bytes": 100 * replicas, "lmdb_records": replicas}
        node.statistics = {"storage": held}
    document = json.loads(shell("plan join db9 --json").stdout)
    assert document["bytes_moved"] == 1000 * document["replicas_moved"] == document["nodes"][-1]["bytes_gained"]
    assert document["records_moved"] == 2 * document["replicas_moved"]
    assert f"about {1000 * document['replicas_moved'] / 1024:.1f} KiB" in shell("plan join db9").stdout


def test_a_leave_a_replacement_and_a_weight(shell: Shell[FakeCluster]) -> None:
    addresses = shell.cluster.addresses
    document = json.loads(shell(f"plan leave {addresses[1]} --json").stdout)
    assert [node["lost"] for node in document["nodes"]] == [0, 48, 0, 0]
    assert [node["gained"] for node in document["nodes"]] == [16, 0, 16, 16]
    document = json.loads(shell(f"plan replace {shell.cluster.nodes[2].id.hex()[:6]} db9 --json").stdout)
    assert [(node["gained"], node["lost"]) for node in document["nodes"]] == [(0, 0), (0, 0), (0, 48), (0, 0), (48, 0)]
    document = json.loads(shell(f"plan weight {addresses[0]} 50 --json").stdout)
    assert document["nodes"][0]["weight"] == 50
    assert document["nodes"][0]["partitions_after"] < 48
    assert document["nodes"][0]["lost"] == document["replicas_moved"]
    assert all(not node.received for node in shell.cluster.nodes)


def test_an_unsafe_plan_is_shown_and_refused(shell: Shell[FakeCluster]) -> None:
    addresses = shell.cluster.addresses
    result = shell(f"plan leave {addresses[0]} {addresses[1]}", code=1)
    assert "2 members would be left for 3 replicas" in result.output
    assert [line.split()[-5:] for line in result.stdout.splitlines()[1:5]] == [
        ["48", "0", "0", "48", "-"], ["48", "0", "0", "48", "-"], ["48", "64", "16", "0", "?"], ["48", "64", "16", "0", "?"],
    ]  # fmt: skip
    document = json.loads(shell(f"plan leave {addresses[0]} {addresses[1]} --json", code=1).stdout)
    assert "let another node join first" in document["refusal"]
    assert document["replicas"] == 2
    shell(f"plan leave {addresses[0]} {addresses[1]} --unsafe")
    heavy = shell("plan join db9:1000 --json", code=1)
    assert "node new on db9 would hold every partition, for its weight of 1000" in json.loads(heavy.stdout)["refusal"]


def test_an_impossible_plan_is_refused_even_as_unsafe(shell: Shell[FakeCluster]) -> None:
    document = json.loads(shell(f"plan leave {' '.join(shell.cluster.addresses)} --unsafe --json", code=1).stdout)
    assert "1 to 1024 members, not 0" in document["refusal"]
    assert document["nodes"] == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("plan leave nowhere:1", "no node of this cluster"),
        ("plan leave 01", "no node of this cluster"),
        ("plan join db9:heavy", "no HOST[:WEIGHT[,ZONE]]"),
        ("plan join :5", "no HOST[:WEIGHT[,ZONE]]"),
        ("plan join db9:0", "with a weight from 1 to 65535"),
        ("plan join db9:100,west db10", "'db10' needs a zone, as in db10:100,ZONE: the cluster has west"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(shell: Shell[FakeCluster], words: str, reason: str) -> None:
    assert reason in shell(words, code=2).output


def test_a_joiner_on_a_known_host_is_in_its_zone(shell: Shell[FakeCluster]) -> None:
    document = json.loads(shell("plan join db9:200,west db9:50 --json --unsafe", code=0).stdout)
    assert [(node["weight"], node["zone"]) for node in document["nodes"][-2:]] == [(200, "west"), (50, "west")]
