"""`dynamo-fast dev`: a whole cluster in one terminal, to try things on and to develop against."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import trio

from dynamo_fast.cli.processes import Children, environment_for, write_prefixed
from dynamo_fast.cli.serve import REFUSED, WORKER_PORT_STEP, on_signals, refuse
from dynamo_fast.node.config import ConfigError, load_config

HOST = "127.0.0.1"
READY_S = 60.0
LOOK_S = 0.05


@click.command()
@click.option("--nodes", type=click.IntRange(1, 16), default=3, show_default=True, help="How many nodes.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True,
              help="Directory that holds all their data; it is kept, and used again by the next start.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=7400, show_default=True,
              help=f"Port of the first node; the others listen {WORKER_PORT_STEP} ports apart. 0: any that are free.")  # fmt: skip
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with settings for every node.")
@click.option("--colour/--no-colour", "colours", default=None, help="Colour the names before each line (only in a terminal if not said).")
def dev(nodes: int, data_dir: Path, port: int, file: Path | None, colours: bool | None) -> None:
    """Run a whole cluster in this terminal. Ctrl-C stops it; its data stays."""
    try:
        load_config(file, os.environ)
    except ConfigError as error:
        refuse(error)
    ports = free_ports(nodes) if port == 0 else [port + WORKER_PORT_STEP * number for number in range(nodes)]
    if ports[-1] > 65535:
        refuse(f"--port {port} with {nodes} nodes goes up to port {ports[-1]}; the last port is 65535")
    addresses = [f"{HOST}:{one}" for one in ports]
    sys.exit(trio.run(run_cluster, addresses, data_dir, file, sys.stdout.isatty() if colours is None else colours))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so that they differ."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def run_cluster(addresses: list[str], data_dir: Path, file: Path | None, colours: bool) -> int:
    """Starts the nodes, says when they are ready, stops them on a signal; the exit code."""
    stop = trio.Event()
    names = [f"node{number}" for number in range(1, len(addresses) + 1)]
    async with trio.open_nursery() as nursery:
        children = Children(nursery, write_prefixed(max(map(len, names)), colours))
        await nursery.start(on_signals, stop)
        for name, address in zip(names, addresses, strict=True):
            flags: dict[str, Any] = {"node.data_dir": str(data_dir / name), "node.listen": address, "node.host": name,
                                     "node.bootstrap": addresses}  # fmt: skip
            arguments = ["serve", "--supervised", *(("--config", str(file)) if file else ())]
            children.start(name, arguments, environment_for(flags, os.environ))
        nursery.start_soon(stop_when_one_ends, children, stop)
        nursery.start_soon(say_when_ready, addresses, data_dir)
        await stop.wait()
        ended_before = dict(children.codes)
        await children.stop()
        nursery.cancel_scope.cancel()
    if ended_before:
        return REFUSED if REFUSED in ended_before.values() else 1
    say("stopped; the data stays in " + str(data_dir))
    return 1 if any(children.codes.values()) else 0


async def stop_when_one_ends(children: Children, stop: trio.Event) -> None:
    """A cluster for trying things is of no use with a node that ended by itself: its last line says why."""
    async for child in children.ended:
        if not stop.is_set():
            say(f"{child.name} ended with exit code {child.code}; stopping the others")
            stop.set()


async def say_when_ready(addresses: list[str], data_dir: Path) -> None:
    """Waits until every node serves and sees all others, then tells how to talk to the cluster."""
    from dynamo_fast.client.client import connect
    from dynamo_fast.client.errors import DynamoError
    from dynamo_fast.wire.control_messages import StatusReply

    def whole(statuses: Mapping[str, StatusReply | DynamoError]) -> bool:
        """Whether those of our nodes that are members see each other: one may have left, and nodes that we do not run may have joined."""
        ours = [statuses[address] for address in addresses if address in statuses]
        return all(isinstance(one, StatusReply) and one.state == "ready" and len(one.peers_up) >= len(ours) - 1 for one in ours)

    try:
        async with connect(addresses, connect_timeout_s=READY_S) as db:
            while not whole(await db.cluster.status()):  # noqa: ASYNC110  the nodes are other processes
                await trio.sleep(LOOK_S)
    except DynamoError as error:
        say(f"the nodes did not become a cluster: {error}")
        return
    seed = addresses[0]
    option = "" if seed == f"{HOST}:7400" else f" --seeds {seed}"
    say(f"ready: {len(addresses)} nodes at {', '.join(addresses)}, data in {data_dir}")
    say("talk to it from another terminal:")
    say(f"    dynamo-fast put greeting hello{option}")
    say(f"    dynamo-fast get greeting{option}")
    say(f"    dynamo-fast status{option}")
    say("Ctrl-C stops it")


def say(line: str) -> None:
    sys.stdout.buffer.write(f"dev | {line}\n".encode())
    sys.stdout.buffer.flush()
