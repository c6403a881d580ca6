"""`dynamo-fast bench` as a user types it: reports, JSON, exit codes, and mistakes named."""

import json

import pytest
from click.testing import CliRunner

from dynamo_fast.cli.bench import bench
from tests.load.fake_node import FakeNode
from tests.load.fake_server import FakeRedis, FakeServer

SHORT = ["--connections", "2", "--keys", "50", "--seconds", "0", "--operations", "100", "--warmup", "0"]


def test_a_node_is_loaded_and_reported_as_text() -> None:
    node = FakeNode()
    with FakeServer(node) as server:
        node.members = [server.address]
        result = CliRunner().invoke(bench, ["{}:{}".format(*server.address), *SHORT, "--gets", "0.5", "--value-bytes", "1-9"])
    assert result.exit_code == 0, result.output
    for name, what in (("fill", "put latency ms"), ("run", "get latency ms"), ("verify", "requests/s (50 in")):
        assert any(line.startswith(name) and what in line for line in result.stdout.splitlines()), result.stdout
    assert len(node.versions) == 50


def test_redis_is_loaded_and_reported_as_json() -> None:
    with FakeServer(FakeRedis()) as server:
        address = "{}:{}".format(*server.address)
        result = CliRunner().invoke(bench, [address, "--protocol", "resp", "--wait-replicas", "2", *SHORT, "--no-verify", "--json"])
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)
    assert list(reports) == ["fill", "run"]
    assert reports["run"]["completed"] == 100
    assert reports["run"]["ok"] is True


def test_a_run_with_siblings_fails_and_says_so() -> None:
    node = FakeNode()
    node.context = lambda key: b""  # type: ignore[method-assign]
    with FakeServer(node) as server:
        node.members = [server.address]
        node.put = lambda put: node.versions.setdefault(put.key, []).append((1, put.value)) or b""  # type: ignore[func-returns-value, method-assign]
        result = CliRunner().invoke(bench, ["{}:{}".format(*server.address), *SHORT])
    assert result.exit_code == 1
    assert "problem" in result.stdout
    assert "siblings" in result.stdout


@pytest.mark.parametrize(("given", "code", "words"), [
    (["--depth", "0"], 2, "'--depth'"),
    (["--value-bytes", "many"], 2, "give a number of bytes"),
    (["--value-bytes", "9-1"], 2, "ascending sizes"),
    (["--keys", "5", "--connections", "50"], 2, "5 keys are too few"),
    (["--seconds", "0"], 2, "give one of them"),
    (["nowhere:70000"], 2, "is not an address"),
    (["127.0.0.1:1"], 1, "127.0.0.1:1: Connection refused"),
])
def test_mistakes_are_named(given: list[str], code: int, words: str) -> None:
    node = FakeNode()
    with FakeServer(node) as server:
        node.members = [server.address]
        own = [] if any(":" in word for word in given) else ["{}:{}".format(*server.address)]
        result = CliRunner().invoke(bench, [*own, "--no-fill", "--no-verify", *given])
    assert result.exit_code == code
    assert words in result.output


def test_one_node_is_enough_to_load_them_all() -> None:
    nodes = [FakeNode(number) for number in range(3)]
    with FakeServer(nodes[0]) as one, FakeServer(nodes[1]) as two, FakeServer(nodes[2]) as three:
        for node in nodes:
            node.members = [one.address, two.address, three.address]
        by_home = CliRunner().invoke(bench, ["127.0.0.1:1,{}:{}".format(*two.address), *SHORT, "--keys", "300"])
        loaded = [len(node.versions) for node in nodes]
        any_node = CliRunner().invoke(bench, ["{}:{}".format(*two.address), *SHORT, "--keys", "300", "--route", "any"])
    assert by_home.exit_code == any_node.exit_code == 0, by_home.output + any_node.output
    assert all(loaded)
    assert sum(loaded) == len(nodes[1].versions) == 300
