"""A network namespace for each node, all joined by a bridge, for root on Linux: nodes with addresses of their own and links that go down.

Each node has two interfaces. `peers` leads to a bridge, which stands in a namespace too, and on to the other nodes; `clients` leads
straight to this process and is never cut. A link in one direction is cut by a route into a black hole at its sender, so that the
kernel itself retransmits, gives up and dials in vain; a node is taken off by setting the bridge's port down.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.live.cluster import Node
from tests.live.network import Network

PORT = 7400
PEERS = "198.18.0"  # set aside for tests of networks (RFC 2544); inside the namespaces alone


def ip(*arguments: str) -> None:
    """Runs `ip`; CalledProcessError, with what it said, when it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)


def batch(commands: Sequence[str], namespace: str = "") -> None:
    """Several at once, which is much faster."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands), text=True, check=True, capture_output=True)


def allowed() -> bool:
    """Whether this process may make namespaces and join them."""
    name = f"dft{os.getpid()}"
    try:
        ip("netns", "add", name)
        try:
            ip("link", "add", f"{name}a", "type", "veth", "peer", "name", "b", "netns", name)
        finally:
            ip("netns", "delete", name)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False
    return True


class Namespaces(Network):
    """Raises FileNotFoundError or CalledProcessError when this may not be done here."""

    def __init__(self) -> None:
        super().__init__()
        self._name = f"df{os.getpid()}"
        self._made: list[str] = []
        self._down: list[str] = []

    def _namespace(self, label: object) -> str:
        return f"{self._name}-{label}"

    def place(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        for name in leftovers():
            ip("netns", "delete", name)
        bridge = self._make("bridge")
        batch(["link add bridge type bridge", "link set bridge up"], bridge)
        for node in nodes:
            self._join(node, bridge, self._make(node.index))

    def _make(self, label: object) -> str:
        name = self._namespace(label)
        ip("netns", "add", name)
        self._made.append(name)
        return name

    def _join(self, node: Node, bridge: str, namespace: str) -> None:
        index = node.index
        ours, theirs = _line_addresses(index)
        outside = f"{self._name}c{index}"
        batch([
            f"link add port{index} netns {bridge} type veth peer name peers netns {namespace}",
            f"link add {outside} type veth peer name clients netns {namespace}",
            f"address add {ours}/30 dev {outside}",
            f"link set {outside} up",
        ])  # fmt: skip
        batch([f"link set port{index} master bridge", f"link set port{index} up"], bridge)
        batch([
            "link set lo up",
            f"address add {PEERS}.{index + 1}/24 dev peers",
            "link set peers up",
            f"address add {theirs}/30 dev clients",
            "link set clients up",
        ], namespace)  # fmt: skip
        node.listen, node.address, node.reach = f"0.0.0.0:{PORT}", f"{PEERS}.{index + 1}:{PORT}", f"{theirs}:{PORT}"
        node.arguments.append("--insecure-listen")
        node.wrapper = ["ip", "netns", "exec", namespace, *node.wrapper]

    def cut(self, one: int, two: int) -> None:
        ip("-n", self._namespace(one), "route", "replace", "blackhole", f"{PEERS}.{two + 1}/32")

    def unplug(self, index: int) -> None:
        """The cable of one node is pulled."""
        ip("-n", self._namespace("bridge"), "link", "set", f"port{index}", "down")
        self._down.append(f"port{index}")

    def heal(self) -> None:
        for node in self.nodes:
            ip("-n", self._namespace(node.index), "route", "flush", "type", "blackhole")
        for port in self._down:
            ip("-n", self._namespace("bridge"), "link", "set", port, "up")
        self._down.clear()

    def close(self) -> None:
        for name in reversed(self._made):  # and with each its interfaces, both ends
            ip("netns", "delete", name)
        self._made.clear()


def _line_addresses(index: int) -> tuple[str, str]:
    """Our end and the node's of the line between them: a network of four addresses that no concurrent test process uses."""
    number = (os.getpid() * 8 + index) % (1 << 14)
    high, low = divmod(4 * number, 256)
    return f"198.19.{high}.{low + 1}", f"198.19.{high}.{low + 2}"


def leftovers() -> list[str]:
    """Namespaces of ours whose process is gone: what a kill -9 of a test run leaves behind."""
    found = Path("/run/netns").glob("df[0-9]*-*") if Path("/run/netns").exists() else ()
    return [one.name for one in found if not Path(f"/proc/{one.name[2:].partition('-')[0]}").exists()]
