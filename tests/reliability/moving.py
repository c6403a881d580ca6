"""How fast a node that joins gets its data while nobody asks for anything, against a plain copy of the same records."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import trio

import dynamo_fast
from bench.compare.rows import Row
from bench.plain_copy import plain_copy
from bench.processes import cpu_seconds, wait_quiet
from tests.reliability.growing import Growing, addresses_of, join, leave, told_by
from tests.reliability.rows import Measured

LOAD_WINDOW = 1000
LOAD_S = 20.0  # for a window


async def fill(db: dynamo_fast.Client, records: int, value_bytes: int) -> None:
    """So many records of random bytes, on every home."""
    rng = random.Random(7)
    for first in range(0, records, LOAD_WINDOW):
        items = [(b"key:%012d" % number, rng.randbytes(value_bytes)) for number in range(first, min(first + LOAD_WINDOW, records))]
        await db.put_many(items, w=3, dw=0, deadline_s=LOAD_S)


async def transfer(directory: Path, records: int, value_bytes: int, rounds: int) -> Measured:
    """A node joins three, and leaves again before the next one does; after each a plain copy of as many records of the same size."""
    ratios: list[float] = []
    shares: list[float] = []
    with Growing(directory / "cluster", 3) as cluster:
        members = cluster.nodes[:3]
        async with dynamo_fast.connect(addresses_of(*members)) as db:
            await fill(db, records, value_bytes)
            for number in range(rounds):
                node = await trio.to_thread.run_sync(cluster.waiting)
                await trio.to_thread.run_sync(wait_quiet, [one.pid for one in (*members, node)])
                before = cpu_seconds([one.pid for one in members]), cpu_seconds([node.pid])
                took = await join(db, node)
                told: dict[str, Any] = (await told_by(node)).statistics["transfer"]
                senders_s, receiver_s = cpu_seconds([one.pid for one in members]) - before[0], cpu_seconds([node.pid]) - before[1]
                copy = await trio.to_thread.run_sync(plain_copy, told["objects"], value_bytes, 1, directory)
                ratios.append(copy.seconds / told["seconds"])
                shares.append(told["wire_bytes"] / told["bytes"])
                per_object = 1e6 / told["objects"]
                print(f"round {number + 1}: {told['objects']:,} objects, {told['bytes'] / told['seconds'] / 1e6:.1f} MB/s in "
                      f"{told['seconds']:.2f} s, join {took}; cpu us an object: {senders_s * per_object:.1f} sending, "
                      f"{receiver_s * per_object:.1f} receiving; plain copy {copy.bytes_per_s / 1e6:.1f} MB/s in {copy.seconds:.2f} s, "
                      f"{copy.sender_cpu_s * per_object:.1f} and {copy.receiver_cpu_s * per_object:.1f} us", flush=True)  # fmt: skip
                print(f"  leave {await leave(db, node)}", flush=True)
                node.terminate()
    name = f"transfer to a node that joins, values of {value_bytes} bytes"
    evidence = {"records": records, "rounds": rounds}
    return [
        (Row(f"{name}: rate / plain copy", statistics.median(ratios), "x", 0.5), evidence | {"ratios": [round(one, 3) for one in ratios]}),
        (Row(f"{name}: bytes sent / moved", max(shares), "x", 1.02, at_most=True), evidence | {"shares": [round(one, 4) for one in shares]}),
    ]
