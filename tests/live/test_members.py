"""Members change by command line among real processes, under puts and gets: nothing acknowledged is lost, nothing fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

import dynamo_fast
from tests.cli.test_members_page import blocks
from tests.live.cluster import Cluster, Node, wait_until
from tests.live.raw import answers, status
from tests.live.test_tour import ROOT, run, tools

pytestmark = pytest.mark.live
__all__ = ["tools"]
KEYS = 2000
CHANGE_S = 120.0  # for one change, on a busy machine


def command(seeds: Sequence[Node], *words: str, code: int = 0) -> str:
    """What `dynamo-fast` with these words prints on stdout."""
    environment = {**os.environ, "DYNAMO_FAST_SEEDS": ",".join(node.address for node in seeds), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "dynamo_fast", *words], env=environment, capture_output=True, text=True, timeout=CHANGE_S, check=False
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}, wanted {code}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def waiting(cluster: Cluster, number: int) -> Iterator[Node]:
    """A node that was started with seeds and waits to join; killed at the end."""
    host = cluster[0].host.rsplit(".", 1)[0] + f".{number}"
    node = Node(cluster.directory, number, host, ["--seeds", ",".join(cluster.addresses)])
    try:
        node.start()
        wait_until(lambda: "waiting: ask a member with `dynamo-fast join" in node.log(), "the node to say that it waits")
        yield node
    except BaseException as error:
        error.add_note(f"---- node {number} ({node.address}) ----\n{node.log_end()}")
        raise
    finally:
        if node.running:
            node.kill()


class Traffic:
    """Puts and gets without end, in a thread, by one client that knows the first members only. `acknowledged`: what it may rely on."""

    def __init__(self, seeds: Sequence[str]) -> None:
        self.db = dynamo_fast.blocking.connect(seeds, deadline_s=5.0, strict=True)
        self.acknowledged: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.db.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            key, value = f"busy{self.rounds % 300}", b"round %d" % self.rounds
            try:
                self.db.put(key, value, overwrite=True)
                self.acknowledged[key] = value
                seen = self.db.get(key).values
                if value not in seen:
                    self.failures.append(f"{key}: put {value!r}, and a strict get saw {seen}")
            except dynamo_fast.DynamoError as error:
                self.failures.append(f"{key}: {type(error).__name__}: {error}")
            self.rounds += 1

    def wait_rounds(self, count: int) -> None:
        """Until so many more have been gone through."""
        target = self.rounds + count
        wait_until(lambda: self.rounds >= target or not self._thread.is_alive(), f"{count} rounds of traffic")


def fill(seeds: Sequence[str]) -> dict[str, bytes]:
    values = {f"key{number}": b"value %d" % number for number in range(KEYS)}
    with dynamo_fast.blocking.connect(seeds, deadline_s=20.0) as db:
        db.put_many(values, w=2)
    return values


def all_read_back(seeds: Sequence[str], values: dict[str, bytes]) -> None:
    """By a new client, strictly, and by a listing."""
    with dynamo_fast.blocking.connect(seeds, deadline_s=20.0) as db:
        results = db.get_many(list(values), r=2, strict=True)
        lost = [key for key, result in zip(values, results, strict=True) if values[key] not in result.values]
        assert not lost
        listed = {key.decode() for key in db.keys()}  # noqa: SIM118
        assert not values.keys() - listed


def old_copies(node: Node) -> int:
    found: list[int] = []
    assert answers(lambda reply: not found.append(reply.statistics["parting"]["old_copies"]), node.address)  # type: ignore[func-returns-value]
    return found[0]


def test_from_three_to_four_and_back_to_three(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3) as cluster, waiting(cluster, 4) as fourth:
        cluster.wait_ready()
        values = fill(cluster.addresses)
        with Traffic(cluster.addresses) as traffic:
            traffic.wait_rounds(50)
            joined = json.loads(command(cluster.nodes, "join", fourth.address, "--json"))
            assert (joined["placement"], joined["members"], joined["settled"]) == (2, 4, True)
            traffic.wait_rounds(100)
            shares = json.loads(command(cluster.nodes, "ring", "--json"))["members"]
            assert [share["partitions_owned"] for share in shares] == [768] * 4
            assert all(old_copies(node) == 0 for node in cluster)
            all_read_back([fourth.address], values)
            assert "is a member already" in refused(cluster.nodes, "join", fourth.address)

            left = cluster[0]
            assert json.loads(command([fourth], "leave", left.address, "--json"))["members"] == 3
            wait_until(lambda: answers(lambda reply: reply.state == "left", left.address), "the node that left to say so")
            assert old_copies(left) == 0
            assert left.terminate() == 0
            traffic.wait_rounds(100)
            assert "stopped" in left.log()
        assert traffic.failures == []
        rest = [cluster[1], cluster[2], fourth]
        all_read_back([node.address for node in rest], {**values, **traffic.acknowledged})
        left.start()
        wait_until(lambda: "this node has left the cluster" in left.log(), "the node that left to know it after a restart")
        assert "has left" in refused(rest, "join", left.address)


def refused(seeds: Sequence[Node], *words: str) -> str:
    """What a change that is refused says."""
    message: str = json.loads(command(seeds, *words, "--json", code=1))["message"]
    return message


def test_a_killed_node_is_replaced(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=4) as cluster, waiting(cluster, 5) as fifth:
        cluster.wait_ready()
        values = fill(cluster.addresses)
        dead, rest = cluster[3], cluster.nodes[:3]
        assert "it is not dead" in refused(rest, "replace", dead.address, fifth.address, "--dead")
        with Traffic(cluster.addresses) as traffic:
            traffic.wait_rounds(50)
            dead.kill()
            replaced = json.loads(command(rest, "replace", dead.address, fifth.address, "--dead", "--json"))
            assert (replaced["placement"], replaced["members"]) == (2, 4)
            traffic.wait_rounds(100)
        # A request that was under way at the dead node when it died may be of unknown fate.
        assert len(traffic.failures) <= 2, traffic.failures
        members = [*rest, fifth]
        all_read_back([fifth.address], values)
        shares = json.loads(command(members, "ring", "--json"))["members"]
        assert {share["node"]["address"] for share in shares} == {node.address for node in members}
        # Whoever was declared dead is refused when it comes back, and knows better than to serve.
        dead.start()
        wait_until(lambda: answers(lambda reply: not reply.peers_up, dead.address), "the dead node to be there, alone")
        command(members, "status", "--wait", "settled", "--timeout", "30")
        for node in rest:
            assert status(dead.address).node_id not in status(node.address).peers_up


def test_a_change_waits_for_a_node_that_is_away_and_goes_on_through_restarts(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3) as cluster, waiting(cluster, 4) as fourth:
        cluster.wait_ready()
        values = fill(cluster.addresses)
        away = cluster[2]
        away.kill()
        rest = cluster.nodes[:2]
        begun = json.loads(command(rest, "join", fourth.address, "--no-wait", "--json"))
        assert (begun["placement"], begun["settled"]) == (2, False)
        text = f"waits for {away.address} (no answer)"
        wait_until(lambda: text in command(rest, "status", code=5), "status to say whom it waits for", CHANGE_S)
        command(rest, "join", fourth.address, "--timeout", "1", code=1)
        command(rest, "status", "--wait", "settled", "--timeout", "1", code=5)
        cluster[0].kill()
        fourth.kill()
        for node in (cluster[0], fourth, away):
            node.start()
        command(rest, "status", "--wait", "settled", "--timeout", str(CHANGE_S - 20))
        assert json.loads(command(rest, "ring", "--json"))["number"] == 2
        all_read_back([fourth.address], values)


def test_the_page_on_operations_is_true(tmp_path: Path, tools: Path) -> None:
    with Cluster(tmp_path / "cluster", nodes=3) as cluster, waiting(cluster, 4) as fourth, waiting(cluster, 5) as fifth:
        cluster.wait_ready()
        members = [*cluster.nodes, fourth, fifth]
        names = {f"10.0.0.{number}:7400": node.address for number, node in enumerate(members, 1)} | {"zone db4": "zone host4"}
        environment = {
            **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "DYNAMO_FAST_SEEDS": cluster[0].address, "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        for kind in ("members", "dead"):
            for step in blocks(kind):
                words = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], step.command)
                run(step._replace(command=words), tmp_path, environment)
            if kind == "members":
                cluster[1].kill()
