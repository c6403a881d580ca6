"""Large clusters in virtual time: they form and settle, a change is known everywhere soon, and gossip costs little where nothing happens.

    python -m tests.sim.large [--nodes 100] [--joins 2]

The exit code is 0 only if every figure is within its bound. A placement is computed once for all nodes: it is the same on each, and
takes longer than everything else that is looked at here.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from dynamo_fast.core import placement, succession
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.node import birth
from dynamo_fast.testing.cluster import Cluster, run
from dynamo_fast.testing.members import members_of
from dynamo_fast.testing.network import Pipe
from dynamo_fast.wire.errors import WireError
from dynamo_fast.wire.frame import HEADER_BYTES, Frame, FrameCutter
from dynamo_fast.wire.status import MessageType

BYTES_MAX = 200  # of gossip, per node and second, where nothing happens
KNOWN_S_MAX = 10.0  # until every node knows of a change
WATCHED_S = 60.0


@dataclass(frozen=True)
class Figures:
    """What was measured; seconds are simulated but for `cpu_s`."""

    nodes: int
    formed_s: float
    gossip_bytes: float  # per node and second
    known_s: float  # of a bucket's settings
    joined_known_s: float  # of members that join
    settled_s: float  # until those are members everywhere, with all they have to hold
    cpu_s: float


class GossipBytes:
    """Counts the bytes of gossip, whole frames, that arrive anywhere."""

    def __init__(self, cluster: Cluster) -> None:
        self.bytes = 0
        self._cutters: dict[Pipe, FrameCutter | None] = {}
        cluster.network.on_chunk = self._chunk

    def _chunk(self, pipe: Pipe, data: bytes) -> None:
        cutter = self._cutters.setdefault(pipe, FrameCutter())
        if cutter is None:
            return
        try:
            self.bytes += sum(HEADER_BYTES + len(frame.body) for frame in cutter.feed(data) if is_gossip(frame))
        except WireError:
            self._cutters[pipe] = None  # it was watched from the middle of a frame on


def is_gossip(frame: Frame) -> bool:
    return frame.type in (MessageType.CONTROL, MessageType.CONTROL_REPLY) and b"\xa2op\xa6gossip" in frame.body


@contextmanager
def placements_once() -> Iterator[None]:
    """Every placement is computed by the first node that wants it, and the others are given the same."""
    made: dict[str, Any] = {}

    def once(compute: Callable[..., Any]) -> Callable[..., Any]:
        def given(*args: Any, **options: Any) -> Any:
            key = f"{compute.__name__} {args!r} {options!r}"
            if key not in made:
                made[key] = compute(*args, **options)
            return made[key]

        return given

    before = birth.first_placement, succession.next_placement
    birth.first_placement, succession.next_placement = once(placement.first_placement), once(succession.next_placement)
    try:
        yield
    finally:
        birth.first_placement, succession.next_placement = before


async def until_known(cluster: Cluster) -> float:
    """How long it takes until all members have one history."""
    began_s = cluster.clock.now
    nodes = [one.node for one in members_of(cluster.machines.values()) if one.node is not None]
    await cluster.until(lambda: len({node.cluster.history.digest for node in nodes}) == 1, 60)
    return cluster.clock.now - began_s


async def measure(cluster: Cluster, joins: int) -> Figures:
    began_s, formed_s, nodes = time.process_time(), cluster.clock.now, len(cluster.machines)
    await trio.sleep(5)
    counted = GossipBytes(cluster)
    await trio.sleep(1)  # frames that were under way
    before = counted.bytes
    await trio.sleep(WATCHED_S)
    gossip_bytes = (counted.bytes - before) / nodes / WATCHED_S
    cluster.network.on_chunk = None
    async with cluster.connect(host="operator") as client:
        began = cluster.clock.now
        cluster.nursery.start_soon(client.cluster.set_bucket, "bucket", BucketSettings(reconcile="last-write-wins"))
        await cluster.until(lambda: any(b"bucket" in one.node.cluster.view.buckets for one in cluster.machines.values()
                                        if one.node is not None and one.node.cluster.view is not None), 10)  # fmt: skip
        known_s = cluster.clock.now - began + await until_known(cluster)
    joined_known_s = settled_s = 0.0
    if joins:
        names = [cluster.add_machine().name for _ in range(joins)]
        await cluster.until(cluster.ready, 60)
        began = cluster.clock.now
        await cluster.join(*names)
        joined_known_s = await until_known(cluster)
        await cluster.settled(600)
        settled_s = cluster.clock.now - began
    return Figures(nodes, formed_s, gossip_bytes, known_s, joined_known_s, settled_s, time.process_time() - began_s)


def figures(nodes: int, joins: int, partitions: int = 256) -> Figures:
    """Of a cluster of so many nodes, to which so many more are added in the end."""
    with placements_once():
        return run(measure, joins, nodes=nodes, partitions=partitions, seed=nodes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.large", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=100, help="of the cluster (default %(default)s)")
    parser.add_argument("--joins", type=int, default=2, help="nodes that join it in the end, in one step (default %(default)s)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = figures(given.nodes, given.joins)
    print(f"{found.nodes} nodes formed a cluster in {found.formed_s:.2f} s")
    print(f"gossip where nothing happens: {found.gossip_bytes:.0f} bytes per node and second (at most {BYTES_MAX})")
    print(f"all know of a bucket's settings after {found.known_s:.2f} s, of members that join after {found.joined_known_s:.2f} s"
          f" (at most {KNOWN_S_MAX:g}); these are in force after {found.settled_s:.1f} s")  # fmt: skip
    print(f"{found.cpu_s:.0f} s of CPU")
    return 0 if found.gossip_bytes <= BYTES_MAX and max(found.known_s, found.joined_known_s) <= KNOWN_S_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
