"""`dynamo-fast bench` against real nodes: no siblings, no wrong value, whichever way the requests take."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dynamo_fast.cli.bench import bench
from tests.live.cluster import Cluster

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp("bench")
    with Cluster(directory, nodes=3) as started:
        started.wait_ready()
        yield started


@pytest.mark.parametrize("given", [
    ["--depth", "16", "--gets", "0.3", "--zipf", "0.99"],
    ["--route", "any", "--gets", "0.5", "--value-bytes", "0-3000"],
    ["--rate", "2000", "--dw", "2"],
    ["--connections", "1", "--strict", "--r", "3"],
])
def test_a_load_of_real_nodes_shows_no_problem(cluster: Cluster, given: list[str]) -> None:
    arguments = [*cluster.addresses, "--keys", "2000", "--seconds", "0", "--operations", "3000", "--warmup", "0.1", "--json", *given]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)
    assert [report["problems"] for report in reports.values()] == [[], [], []]
    assert reports["run"]["completed"] >= 3000
    assert reports["verify"]["completed"] == 2000
