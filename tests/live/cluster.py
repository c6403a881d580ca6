"""A cluster of real processes on loopback, for tests that kill, restart and torment nodes.

    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.wait_ready()
        cluster[0].kill()            # SIGKILL, by pid
        cluster[0].start()
        cluster.wait_ready()

Every node listens on a loopback address of its own (127.x.y.1, .2, .3 ...), on a port that the operating system chose.
Outgoing connections come from 127.0.0.1, so nobody's ephemeral port can take a node's port while that node is down.
A `network` (network.py, namespaces.py) puts them somewhere else, where the links between them can be cut.
Nothing here waits for time to pass: every wait is for a condition, with a deadline after which the logs are shown.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tests.live.raw import answers

if TYPE_CHECKING:
    from tests.live.network import Network

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


class NodeFailed(Exception):
    """A node ended, or did not become what was waited for; the text holds the end of its log."""


def free_port(host: str) -> int:
    """A port on that loopback address which was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Poll the condition; raises TimeoutError naming what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.02)


class Node:
    """One `dynamo-fast serve` process; survives its own death, keeps its data directory and address."""

    def __init__(self, directory: Path, index: int, host: str, arguments: Sequence[str] = (), config: str = "") -> None:
        self.index = index
        self.host = host
        self.port = free_port(host)
        self.address = f"{host}:{self.port}"  # by which nodes and clients know it
        self.listen = self.address
        self.reach = self.address  # where this process finds it
        self.data_dir = directory / f"node{index}"
        self.log_path = directory / f"node{index}.log"
        self.config_path = directory / f"node{index}.toml"
        self.arguments = list(arguments)
        self.config = config
        self.wrapper: list[str] = []
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What start() runs; `wrapper` goes in front (strace, a shell that mounts a small file system)."""
        self.config_path.write_text(self.config)
        return [
            *self.wrapper, sys.executable, "-m", "dynamo_fast", "serve", "--config", str(self.config_path),
            "--data-dir", str(self.data_dir), "--listen", self.listen, "--advertise", self.address, "--host", f"host{self.index}",
            *self.arguments,
        ]

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None, "already running"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment}, start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, "never started"
        return self.process.pid

    def kill(self) -> None:
        """kill -9, and wait until the kernel has taken the process away; its checkpoint helper dies with it."""
        assert self.process is not None, "never started"
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None, "never started"
        self.process.terminate()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit code of a node that is expected to end by itself."""
        assert self.process is not None, "never started"
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise NodeFailed(f"node {self.index} still runs after {timeout_s} s\n{self.log_end()}") from None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_end(self, lines: int = 30) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def memory_bytes(self) -> int:
        """Resident memory of the process itself."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise NodeFailed(f"node {self.index} has no memory: it has ended\n{self.log_end()}")


class Cluster:
    """Nodes of one birth: each is told all addresses with --bootstrap. Leaving the `with` kills whatever still runs."""

    def __init__(
        self, directory: Path, nodes: int = 3, arguments: Sequence[str] = (), config: str = "", network: "Network | None" = None
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # One process may run several clusters in a row or at once; each call gets a network of its own.
        number = next(_networks)
        hosts = [f"127.{number >> 8}.{number & 255}.{index + 1}" for index in range(nodes)]
        self.nodes = [Node(directory, index, host, arguments, config) for index, host in enumerate(hosts)]
        if network is not None:
            network.place(self.nodes)
        bootstrap = ",".join(self.addresses)
        for node in self.nodes:
            node.arguments += ["--bootstrap", bootstrap]

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        if error is not None:
            error.add_note(self.log_ends())

    def start(self) -> None:
        for node in self.nodes:
            if not node.running:
                node.start()

    def kill(self) -> None:
        for node in self.nodes:
            if node.running:
                node.kill()

    def terminate(self) -> list[int]:
        """SIGTERM to all at once; their exit codes."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        return [node.wait() for node in running]

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every running node serves and sees every other one. Raises NodeFailed, with logs, when one ended or time is up."""
        def all_ready() -> bool:
            for node in self.nodes:
                if not node.running:
                    raise NodeFailed(f"node {node.index} ended\n{node.log_end()}")
            return all(is_ready(node, peers=len(self.nodes) - 1) for node in self.nodes)

        try:
            wait_until(all_ready, "all nodes to be ready", timeout_s)
        except TimeoutError as error:
            raise NodeFailed(f"{error}\n{self.log_ends()}") from None

    def log_ends(self) -> str:
        return "\n".join(f"---- node {node.index} ({node.address}) ----\n{node.log_end()}" for node in self.nodes)


def _loopback_networks() -> Iterator[int]:
    """127.x.y: x.y differ between concurrent test processes (by pid) and between the clusters of one process."""
    start = os.getpid() * 7
    while True:
        start += 1
        yield (64 << 8) + start % (128 << 8)


_networks = _loopback_networks()


def is_ready(node: Node, peers: int = 0) -> bool:
    """Whether the node answers that it serves and sees that many peers; False as long as nobody listens."""
    return answers(lambda reply: reply.state == "ready" and len(reply.peers_up) >= peers, node.reach)


@contextlib.contextmanager
def paused(node: Node) -> Iterator[None]:
    """SIGSTOP for the length of the block."""
    node.pause()
    try:
        yield
    finally:
        node.resume()
