"""What a change of members does to requests, and what it costs to move the data.

    python -m tests.reliability.members correctness     # 3 -> 6 -> 3 nodes under load: no wrong answer, and hardly any that fails
    python -m tests.reliability.members transfer        # how fast an idle node gets its data, against a plain copy of the same records
    python -m tests.reliability.members foreground --records 1000000    # what puts at a fixed rate feel of it
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import trio

import dynamo_fast
from bench.compare.rows import Row
from tests.reliability.counters import Counters
from tests.reliability.growing import Growing, addresses_of, join, leave
from tests.reliability.moving import foreground, transfer
from tests.reliability.rows import Measured, arguments, report

AROUND = 20  # one of so many requests comes before the first change, between the two, and after the second


async def correctness(directory: Path, given: argparse.Namespace) -> Measured:
    keys, requests = given.keys, given.requests
    with Growing(directory, 3) as cluster:
        first = cluster.nodes[:3]
        async with dynamo_fast.connect(addresses_of(*first)) as db, dynamo_fast.connect(addresses_of(*first)) as operator:
            load = Counters(db, keys, r=2, w=2)
            await load.load()
            last = [await trio.to_thread.run_sync(cluster.waiting) for _ in range(3)]
            took = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                for change, nodes in ((join, last), (leave, first)):
                    await load.more(requests // AROUND)
                    before = load.requests
                    took.append(await change(operator, *nodes))
                    print(f"{change.__name__} of three: {took[-1]}, {load.requests - before} requests meanwhile, {load.failed} failed, "
                          f"{load.wrong} wrong", flush=True)  # fmt: skip
                await load.more(max(requests // AROUND, requests - load.requests))
                load.stop()
        for node in first:
            node.terminate()
        async with dynamo_fast.connect(addresses_of(*last)) as db:
            asked = load.requests
            read_back = await load.read_back(db)
    name = "3 -> 6 -> 3 nodes under load, R+W>N"
    evidence = load.evidence() | {"join took": str(took[0]), "leave took": str(took[1]), "keys": keys, "keys right at the end": read_back}
    return [
        (Row(f'{name}: wrong "not found"', load.lost, "answers", 0, at_most=True), evidence),
        (Row(f"{name}: stale reads", load.stale, "answers", 0, at_most=True), evidence),
        (Row(f"{name}: failed requests", load.failed * 1e6 / asked, "per million", 5, at_most=True), evidence),
    ]


async def moved(directory: Path, given: argparse.Namespace) -> Measured:
    return await transfer(directory, given.records, given.value_bytes, given.rounds)


async def felt(directory: Path, given: argparse.Namespace) -> Measured:
    return await foreground(directory, given.rate, given.records, given.value_bytes, given.rounds)


MEASURES = {"correctness": correctness, "transfer": moved, "foreground": felt}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("what", choices=sorted(MEASURES))
    parser.add_argument("--keys", type=int, default=20_000, help="of correctness (default: 20000)")
    parser.add_argument("--requests", type=int, default=200_000, help="of correctness: at least; it goes on while the members change")
    parser.add_argument("--records", type=int, default=200_000, help="that the cluster holds (default: 200000)")
    parser.add_argument("--value-bytes", type=int, default=1024, help="of each record (default: 1024)")
    parser.add_argument("--rate", type=float, default=2000.0, metavar="PUTS_PER_SECOND", help="of foreground (default: 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="changes that are measured (default: 3)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-members-") as directory:
        return report(given.output, lambda: trio.run(MEASURES[given.what], Path(directory), given))


if __name__ == "__main__":
    sys.exit(main())
