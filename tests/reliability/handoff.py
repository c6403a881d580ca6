"""How long hints take to go home, as a share of the outage in which they were written, with clients that go on all the while.

    python -m tests.reliability.handoff --outage 60     # or 300
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import trio

import dynamo_fast
from bench.compare.rows import Row
from dynamo_fast.env import parse_address
from tests.live.cluster import Cluster
from tests.live.drained import hints_kept, wait_drained
from tests.reliability.rows import Measured, arguments, report
from tests.reliability.traffic import Foreground

CONFIG = '[log]\nlevel = "warning"\n'
KEYS = 1_000_000


async def replay(directory: Path, outage_s: float, rate_per_s: float) -> Measured:
    with Cluster(directory, nodes=5, config=CONFIG) as cluster:
        await trio.to_thread.run_sync(cluster.wait_ready)
        away, others = cluster[4], cluster.nodes[:4]
        servers = [parse_address(node.address, 0) for node in others]
        with Foreground(servers, KEYS, rate_per_s=rate_per_s) as load:
            async with dynamo_fast.connect([node.address for node in others]) as db:
                away.kill()
                killed = time.monotonic()
                await trio.sleep(outage_s)
                kept = await hints_kept(db)
                began = time.monotonic()
                away.start()
                drained_s = await wait_drained(db, timeout_s=10 * outage_s)
                ended = time.monotonic()
    outage = began - killed
    evidence = {
        "outage, s": round(outage, 1),
        "hints at its end": kept,
        "drained after, s": round(drained_s, 2),
        "requests/s in the outage": round(load.rate_between(killed, began)),
        "requests/s in the replay": round(load.rate_between(began, ended)),
        "failed without a retry": load.failures,
        "p99 of all puts, ms": round(load.puts["p99"] / 1e6, 2) if load.puts else None,
    }
    how = f"at {rate_per_s:g} puts/s" if rate_per_s else "at full load"
    return [(Row(f"hint replay / outage of {outage_s:g} s, {how}", drained_s / outage, "x", 1, at_most=True), evidence)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--outage", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=0.0, metavar="PUTS_PER_SECOND", help="default: as many as the nodes take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-handoff-") as directory:
        return report(options.output, lambda: trio.run(replay, Path(directory), options.outage, options.rate))


if __name__ == "__main__":
    sys.exit(main())
