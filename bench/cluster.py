"""A local cluster of ours to bench against: `with BenchCluster(directory) as cluster`, or from a shell

    python -m bench.cluster --nodes 3 --data /tmp/cluster

which prints the addresses for `dynamo-fast bench` and runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.processes import resident_bytes
from dynamo_fast.env import Address, parse_address
from dynamo_fast.load.target import DynamoTarget
from tests.live.cluster import Cluster

READY_TIMEOUT_S = 60.0


class BenchCluster:
    """Nodes as `dynamo-fast serve` starts them. `settings` are sections of their configuration file."""

    def __init__(self, directory: Path, nodes: int = 3, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.cluster = Cluster(directory, nodes, config=toml({"log": {"level": "warning"}, **(settings or {})}))

    def __enter__(self) -> Self:
        self.cluster.__enter__()
        try:
            self.cluster.wait_ready(READY_TIMEOUT_S)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cluster.__exit__(kind, error, trace)

    @property
    def servers(self) -> list[Address]:
        return [parse_address(address, 0) for address in self.cluster.addresses]

    @property
    def pids(self) -> list[int]:
        """The nodes themselves; their helper processes are their children."""
        return [node.pid for node in self.cluster]

    def statistics(self) -> list[dict[str, Any]]:
        """What each node's status says in figures, in the order of `servers`."""
        return [reply.statistics for reply in DynamoTarget(self.servers).statuses()]

    def resident_bytes(self) -> list[int]:
        """Of each node, its helper processes included."""
        return [resident_bytes([pid]) for pid in self.pids]


def toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of numbers, truth and plain text as a TOML file."""
    def value(given: Any) -> str:
        return f'"{given}"' if isinstance(given, str) else str(given).lower()

    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value(given)}\n" for key, given in section.items()) for name, section in sections.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="run a local cluster for benchmarks until Ctrl-C")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--data", type=Path, help="directory for data and logs; default: one that is removed at the end")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting of every node")
    given = parser.parse_args()
    settings: dict[str, dict[str, Any]] = {}
    for assignment in given.set:
        name, _, text = assignment.partition("=")
        section, _, key = name.partition(".")
        settings.setdefault(section, {})[key] = int(text) if text.lstrip("-").isdigit() else text
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # so that the nodes are stopped then as well
    with tempfile.TemporaryDirectory() as scratch, BenchCluster(given.data or Path(scratch), given.nodes, settings) as cluster:
        addresses = " ".join(f"{host}:{port}" for host, port in cluster.servers)
        print(f"ready: dynamo-fast bench {addresses}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
