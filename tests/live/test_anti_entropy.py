"""Anti-entropy among real processes: a node that lost its disk is refilled, and the page on operations says what happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import dynamo_fast
from tests.live.cluster import Cluster, Node, wait_until
from tests.live.raw import answers
from tests.live.test_tour import ROOT, run, steps, tools

pytestmark = pytest.mark.live
__all__ = ["tools"]
KEYS = 3000


def command(cluster: Cluster, *words: str, code: int = 0) -> str:
    environment = {**os.environ, "DYNAMO_FAST_SEEDS": ",".join(node.address for node in cluster if node.running), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "dynamo_fast", *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def figures(node: Node, group: str) -> dict[str, int]:
    """A group of a node's statistics."""
    found: dict[str, int] = {}

    def take(reply: object) -> bool:
        found.update(reply.statistics[group])  # type: ignore[attr-defined]
        return True

    assert answers(take, node.address)
    return found


def fill(cluster: Cluster) -> None:
    async def main() -> None:
        async with dynamo_fast.connect(cluster.addresses) as db:
            for start in range(0, KEYS, 100):
                async with trio.open_nursery() as nursery:
                    for number in range(start, start + 100):
                        nursery.start_soon(put, db, number)

    async def put(db: dynamo_fast.Client, number: int) -> None:
        await db.put(f"key{number}", b"value %d" % number, w=3)



    trio.run(main)


def test_a_node_that_lost_its_records_is_refilled_without_a_client(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.wait_ready()
        fill(cluster)
        lost = cluster[2]
        lost.kill()
        for name in ("log", "lmdb"):
            shutil.rmtree(lost.data_dir / name)
        lost.start()
        cluster.wait_ready()
        wait_until(lambda: figures(lost, "delivery")["entries_merged"] >= KEYS, "the records to be back")
        reports = json.loads(command(cluster, "repair", "--json"))
        assert [report["failed"] for report in reports.values()] == [{}] * 3
        again = json.loads(command(cluster, "repair", "--json"))
        assert [(report["compared"], report["differing"]) for report in again.values()] == [(2048, 0)] * 3
        sent = sum(figures(node, "delivery")["entries_sent"] for node in cluster)
        assert KEYS <= sent <= 1.05 * KEYS
        for node in cluster.nodes[:2]:
            node.kill()
        for number in (0, 1, KEYS // 2, KEYS - 1):
            assert command(cluster, "get", f"key{number}", "--r", "1") == f"value {number}"


def test_a_repair_says_who_cannot_be_reached(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.wait_ready()
        cluster[2].kill()
        reports = json.loads(command(cluster, "repair", "--json", code=5))
        assert reports[cluster[0].address]["failed"] == {cluster[2].address: "it cannot be reached"}
        assert reports[cluster[2].address]["done"] is False
        said = command(cluster, "repair", "--node", cluster[0].address, code=5)
        assert f"{cluster[0].address}: not with {cluster[2].address}: it cannot be reached" in said
        command(cluster, "repair", "--node", "127.9.9.9:1", code=1)


def test_the_page_on_operations_is_true(tmp_path: Path, tools: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    with Cluster(tmp_path / "cluster", nodes=3) as cluster:
        cluster.wait_ready()
        environment = {
            **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "DYNAMO_FAST_SEEDS": cluster.addresses[0], "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        commands = [step for block in page.split("```console\n")[1:] for step in steps(block.split("```")[0])]
        assert len(commands) >= 3
        for step in commands:
            run(step, tmp_path, environment)
        shown = json.loads(command(cluster, "status", "--json"))[cluster.addresses[0]]["statistics"]
        for group in shown:
            assert f"| `{group}` |" in page
        for figure in shown["anti_entropy"]:
            assert f"`{figure}`" in page
