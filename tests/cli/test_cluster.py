"""status, ring and bucket against a cluster of fakes."""

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


def test_status_shows_each_node_and_its_figures(shell: Shell[FakeCluster]) -> None:
    lines = shell("status --statistics").stdout
    document = json.loads(shell("status --json").stdout)
    assert list(document) == shell.cluster.addresses
    for node in shell.cluster.nodes:
        assert node.address in lines
        assert f"{node.address}\trequests.puts\t0" in lines
        assert document[node.address]["state"] == "ready"
        assert document[node.address]["node_id"] == node.id.hex()
        assert document[node.address]["statistics"] == {"requests": {"puts": 0}}


def test_status_tells_who_does_not_answer(shell: Shell[FakeCluster]) -> None:
    shell.cluster.nodes[1].away = True
    shell.cluster.nodes[2].silent = True
    document = json.loads(shell("status --json --deadline 0.2", code=5).stdout)
    assert [node["state"] for node in document.values()] == ["ready", "unreachable", "unreachable", "ready"]
    assert "hello" in document[shell.cluster.addresses[1]]["message"]


def test_status_waits_until_all_are_ready_or_the_time_is_over(shell: Shell[FakeCluster]) -> None:
    shell("status --wait ready")
    shell.cluster.nodes[3].state = "starting"
    assert "starting" in shell("status", code=0).stdout
    assert "starting" in shell("status --wait ready --timeout 0.3", code=5).stdout
    shell.cluster.ready = False
    shell.cluster.nodes[3].state = "waiting"
    assert "waiting" in shell("status").stdout  # before there is a cluster the seeds are asked
    assert "waiting" in shell("status --wait ready --timeout 0.3", code=5).stdout


def test_ring_shows_shares_partitions_and_where_a_key_lives(shell: Shell[FakeCluster]) -> None:
    assert f"{PARTITIONS} partitions, 3 replicas" in shell("ring").stdout
    members = json.loads(shell("ring --json").stdout)["members"]
    assert [member["node"]["address"] for member in members] == shell.cluster.addresses
    partitions = shell("ring --partitions").stdout.splitlines()
    assert len(partitions) == PARTITIONS
    assert partitions[1].split() == ["1", *shell.cluster.addresses[1:4]]
    assert json.loads(shell("ring --partitions --json").stdout.splitlines()[0]) == {"partition": 0, "homes": shell.cluster.addresses[:3]}
    key = json.loads(shell("ring -b carts k --json").stdout)
    assert key["homes"] == [node.address for node in shell.cluster.homes(b"k", b"carts")]
    assert len(key["fallbacks"]) == 1
    assert f"partition {key['partition']}" in shell("ring -b carts k").stdout


def test_buckets_are_set_and_listed(shell: Shell[FakeCluster]) -> None:
    shell("bucket set carts --w 3 --dw 2 --strict")
    shell("bucket set clicks --reconcile last-write-wins")
    listed = json.loads(shell("bucket list --json").stdout)
    assert listed["defaults"]["w"] == 2
    assert {entry["name"]: entry for entry in listed["buckets"]} == {
        "carts": {"name": "carts", "r": None, "w": 3, "dw": 2, "strict": True, "reconcile": "siblings"},
        "clicks": {"name": "clicks", "r": None, "w": None, "dw": None, "strict": None, "reconcile": "last-write-wins"},
    }
    assert "last-write-wins" in shell("bucket list").stdout
    shell("bucket set carts --reconcile newest", code=2)
