"""`serve --workers K`: K members on one machine under one supervisor, which looks after them and takes them along when it goes."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_fast.wire.control_messages import StatusReply
from tests.live.cluster import Node, wait_until
from tests.live.raw import answers, status

pytestmark = pytest.mark.live
WORKERS = 3


def port_for_all(host: str) -> int:
    """A first port such that those of all workers, ten apart, were free a moment ago."""
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            first: int = probe.getsockname()[1]
        try:
            for number in range(1, WORKERS):
                with socket.socket() as probe:
                    probe.bind((host, first + 10 * number))
        except (OSError, OverflowError):
            continue
        return first


def whole(reply: StatusReply) -> bool:
    return reply.state == "ready" and len(reply.peers_up) == WORKERS - 1


class Workers:
    def __init__(self, directory: Path) -> None:
        self.node = Node(directory, 0, "127.0.0.1", ["--workers", str(WORKERS)])
        self.node.port = port_for_all("127.0.0.1")
        self.node.address = self.node.listen = self.node.reach = f"127.0.0.1:{self.node.port}"
        self.node.arguments += ["--bootstrap", self.node.address]
        self.addresses = [f"127.0.0.1:{self.node.port + 10 * number}" for number in range(WORKERS)]

    def start(self) -> None:
        self.node.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until every worker serves and sees all others."""
        for address in self.addresses:
            wait_until(lambda address=address: answers(whole, address), f"the worker at {address}")

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.node.pid}/task/{self.node.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    try:
        made.start()
        yield made
    finally:
        if made.node.running:
            made.node.terminate()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dynamo_fast", *arguments], capture_output=True, text=True, timeout=30)


def test_workers_are_members_of_one_machine(workers: Workers) -> None:
    replies = [status(address) for address in workers.addresses]
    assert len({reply.node_id for reply in replies}) == WORKERS
    assert {(reply.host, reply.members) for reply in replies} == {("host0", WORKERS)}
    assert run("put", "k", "v", "--seeds", workers.addresses[0]).returncode == 0
    assert run("get", "k", "--seeds", workers.addresses[2]).stdout.strip() == "v"
    assert workers.node.terminate() == 0
    assert "Traceback" not in workers.node.log()


def test_a_dead_worker_comes_back(workers: Workers) -> None:
    before = workers.pids()
    subprocess.run(["kill", "-9", str(before[0])], check=True)
    wait_until(lambda: len(workers.pids()) == WORKERS and before[0] not in workers.pids(), "another process in its place")
    workers.wait_ready()


def test_workers_go_with_their_supervisor(workers: Workers) -> None:
    workers.node.kill()
    for address in workers.addresses:
        wait_until(lambda address=address: not answers(lambda reply: True, address), f"the worker at {address} to end")


def test_a_worker_that_refuses_to_start_stops_them_all(tmp_path: Path) -> None:
    made = Workers(tmp_path)
    with socket.create_server(("127.0.0.1", made.node.port + 10)):
        made.node.start()
        assert made.node.wait() == 7
    assert f"cannot listen on {made.addresses[1]}" in made.node.log()
