"""How fast a node that joins gets its data while nobody asks for anything, against a plain copy of the same records; and what requests
feel of it when there are some."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

import dynamo_fast
from bench.compare.rows import Row
from bench.plain_copy import plain_copy
from bench.processes import cpu_seconds, wait_quiet
from dynamo_fast.env import parse_address
from tests.live.cluster import Node
from tests.reliability.growing import Growing, addresses_of, join, leave, told_by
from tests.reliability.rows import Measured
from tests.reliability.traffic import Foreground

FOREGROUND_KEYS = 5000
SETTLE_S, BEFORE_S = 2.0, 10.0  # of load that is not counted, and of load before a change
LOAD_WINDOW = 1000
LOAD_S = 20.0  # for a window


class Round(NamedTuple):
    """One node is about to join."""

    number: int
    db: dynamo_fast.Client
    members: list[Node]
    node: Node


async def fill(db: dynamo_fast.Client, records: int, value_bytes: int) -> None:
    """So many records of random bytes, on every home."""
    rng = random.Random(7)
    for first in range(0, records, LOAD_WINDOW):
        items = [(b"key:%012d" % number, rng.randbytes(value_bytes)) for number in range(first, min(first + LOAD_WINDOW, records))]
        await db.put_many(items, w=3, dw=0, deadline_s=LOAD_S)


@asynccontextmanager
async def grown_by_turns(directory: Path, records: int, value_bytes: int, rounds: int) -> AsyncIterator[AsyncIterator[Round]]:
    """Three members that hold so much, and for each round a node that waits, while all of them are quiet; afterwards it leaves."""
    with Growing(directory / "cluster", 3) as cluster:
        members = cluster.nodes[:3]
        async with dynamo_fast.connect(addresses_of(*members)) as db:
            await fill(db, records, value_bytes)

            async def one_by_one() -> AsyncIterator[Round]:
                for number in range(1, rounds + 1):
                    node = await trio.to_thread.run_sync(cluster.waiting)
                    await trio.to_thread.run_sync(wait_quiet, [one.pid for one in (*members, node)])
                    yield Round(number, db, members, node)
                    print(f"  leave {await leave(db, node)}", flush=True)
                    node.terminate()

            yield one_by_one()


async def transfer(directory: Path, records: int, value_bytes: int, rounds: int) -> Measured:
    """A node joins three, and leaves again before the next one does; after each a plain copy of as many records of the same size."""
    ratios: list[float] = []
    shares: list[float] = []
    async with grown_by_turns(directory, records, value_bytes, rounds) as turns:
        async for number, db, members, node in turns:
            before = cpu_seconds([one.pid for one in members]), cpu_seconds([node.pid])
            took = await join(db, node)
            told: dict[str, Any] = (await told_by(node)).statistics["transfer"]
            senders_s, receiver_s = cpu_seconds([one.pid for one in members]) - before[0], cpu_seconds([node.pid]) - before[1]
            copy = await trio.to_thread.run_sync(plain_copy, told["objects"], value_bytes, 1, directory)
            ratios.append(copy.seconds / told["seconds"])
            shares.append(told["wire_bytes"] / told["bytes"])
            per_object = 1e6 / told["objects"]
            print(f"round {number}: {told['objects']:,} objects, {told['bytes'] / told['seconds'] / 1e6:.1f} MB/s in "
                  f"{told['seconds']:.2f} s, join {took}; cpu us an object: {senders_s * per_object:.1f} sending, "
                  f"{receiver_s * per_object:.1f} receiving; plain copy {copy.bytes_per_s / 1e6:.1f} MB/s in {copy.seconds:.2f} s, "
                  f"{copy.sender_cpu_s * per_object:.1f} and {copy.receiver_cpu_s * per_object:.1f} us", flush=True)  # fmt: skip
    name = f"transfer to a node that joins, values of {value_bytes} bytes"
    evidence = {"records": records, "rounds": rounds}
    rate = Row(f"{name}: rate / plain copy", statistics.median(ratios), "x", 0.5)
    sent = Row(f"{name}: bytes sent / moved", max(shares), "x", 1.02, at_most=True)
    return [
        (rate, evidence | {"ratios": [round(one, 3) for one in ratios]}),
        (sent, evidence | {"shares": [round(one, 4) for one in shares]}),
    ]


async def foreground(directory: Path, rate_per_s: float, records: int, value_bytes: int, rounds: int) -> Measured:
    """Puts that are due at a fixed rate, before a node joins and while it gets its data; it leaves again before the next round."""
    ratios: list[float] = []
    async with grown_by_turns(directory, records, value_bytes, rounds) as turns:
        async for number, db, members, node in turns:
            with Foreground([parse_address(one.address, 0) for one in members], FOREGROUND_KEYS, rate_per_s=rate_per_s) as load:
                await trio.sleep(SETTLE_S)
                asked = time.monotonic()
                await trio.sleep(BEFORE_S)
                began = time.monotonic()
                took = await join(db, node)
                told: dict[str, Any] = (await told_by(node)).statistics
            (count, before_ms), (count_during, during_ms) = load.p99_between(asked, began), load.p99_between(*took.span("synced"))
            ratios.append(during_ms / before_ms)
            moved = told["transfer"]["bytes"] / told["transfer"]["seconds"] / 1e6
            print(f"round {number}: put p99 {before_ms:.2f} ms of {count:,} before, {during_ms:.2f} ms of {count_during:,} while "
                  f"data moves: {ratios[-1]:.2f}; {moved:.1f} MB/s, {took}; paused {told['admission']['paused_s']} s; {load.failures}",
                  flush=True)  # fmt: skip
    evidence = {"records": records, "value bytes": value_bytes, "ratios": [round(one, 2) for one in ratios]}
    name = f"put p99 at {rate_per_s:g}/s during a transfer / before"
    return [(Row(name, statistics.median(ratios), "x", 1.3, at_most=True), evidence)]
