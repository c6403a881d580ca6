"""How many requests fail while nodes are away, after the client's own retries, which all count: those in flight at the fault, too.

    python -m tests.reliability.availability two-of-five    # W=1 R=1, every pair of five nodes, killed and then paused
    python -m tests.reliability.availability one-of-three   # (3,2,2), a node killed and restarted again and again
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

import dynamo_fast
from bench.compare.rows import Row
from tests.live.cluster import Cluster, Node
from tests.reliability.rows import Measured, arguments, report
from tests.reliability.traffic import Traffic

CONFIG = '[log]\nlevel = "warning"\n'
AWAY_REQUESTS = 20_000  # between a kill and the restart, and again between the restart and the next kill


async def settled(cluster: Cluster, db: dynamo_fast.Client) -> None:
    """All nodes serve and see each other, and the client is connected to all."""
    await trio.to_thread.run_sync(cluster.wait_ready)
    with trio.fail_after(30):
        while not all(node["connected"] for node in db.statistics()["nodes"].values()):  # noqa: ASYNC110  a client tells nobody
            await trio.sleep(0.02)


async def without(cluster: Cluster, db: dynamo_fast.Client, traffic: Traffic, away: Sequence[Node], how: str, requests: int) -> None:
    """The traffic goes on while these nodes are killed or paused; so many requests end before they come back, and some after."""
    await traffic.more(requests // 10)
    for node in away:
        node.kill() if how == "killed" else node.pause()
    try:
        await traffic.more(requests)
    finally:
        for node in away:
            node.start() if how == "killed" else node.resume()
    await settled(cluster, db)
    await traffic.more(requests // 10)


async def two_of_five(directory: Path, requests: int) -> Measured:
    pairs = list(itertools.combinations(range(5), 2))
    measured = []
    with Cluster(directory, nodes=5, config=CONFIG) as cluster:
        await trio.to_thread.run_sync(cluster.wait_ready)
        async with dynamo_fast.connect(cluster.addresses) as db:
            for how in ("killed", "paused"):
                traffic = Traffic(db, r=1, w=1)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(traffic.run)
                    for pair in pairs:
                        before = traffic.failed
                        await without(cluster, db, traffic, [cluster[index] for index in pair], how, requests)
                        print(f"nodes {pair} {how}: {traffic.failed - before} failed; {traffic.requests} requests so far", flush=True)
                    traffic.stop()
                share = 100 * (1 - traffic.failed / traffic.requests)
                row = Row(f"success with W=1 R=1 while any two of five nodes are {how}", share, "%", 100.0)
                measured.append((row, {"pairs": len(pairs)} | traffic.evidence()))
    return measured


async def one_of_three(directory: Path, requests: int) -> Measured:
    kills = 0
    with Cluster(directory, nodes=3, config=CONFIG) as cluster:
        await trio.to_thread.run_sync(cluster.wait_ready)
        async with dynamo_fast.connect(cluster.addresses) as db:
            traffic = Traffic(db, r=2, w=2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(traffic.run)
                while traffic.requests < requests:
                    await without(cluster, db, traffic, [cluster[kills % 3]], "killed", min(AWAY_REQUESTS, requests // 10))
                    kills += 1
                    print(f"kill {kills}: {traffic.requests} requests so far, {traffic.failed} failed", flush=True)
                traffic.stop()
    per_million = traffic.failed * 1e6 / traffic.requests
    name = "(3,2,2), one node killed and restarted under load: failed requests"
    return [(Row(name, per_million, "per million", 5, at_most=True), {"kills": kills} | traffic.evidence())]


MEASURES = {"two-of-five": (two_of_five, 3_000), "one-of-three": (one_of_three, 1_000_000)}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("what", choices=sorted(MEASURES))
    parser.add_argument("--requests", type=int, help="two-of-five: for each pair (default: 3000); one-of-three: in all (default: 1000000)")
    options = parser.parse_args()
    measure, usual = MEASURES[options.what]
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-availability-") as directory:
        return report(options.output, lambda: trio.run(measure, Path(directory), options.requests or usual))


if __name__ == "__main__":
    sys.exit(main())
