"""What the Python client costs: gets and puts one by one, by 64 tasks at once, and in batches of 1000, against nodes that answer at once.

`python -m pytest bench/bench_client.py`: a round is 1000 operations, so milliseconds per round read as microseconds per operation.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio

from bench.canned_node import VALUE
from dynamo_fast.client.blocking import Client, connect

OPERATIONS, TASKS = 1000, 64
KEYS = [f"key{number}" for number in range(OPERATIONS)]


@pytest.fixture(scope="module")
def db() -> Iterator[Client]:
    with subprocess.Popen([sys.executable, "-m", "bench.canned_node"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        with connect(node.stdout.readline().strip()) as client:
            yield client
        node.stdin.close()


async def one_by_one(operation: Callable[[str], Awaitable[object]]) -> None:
    for key in KEYS:
        await operation(key)


async def by_tasks(operation: Callable[[str], Awaitable[object]]) -> None:
    keys = iter(KEYS)

    async def work() -> None:
        for key in keys:
            await operation(key)

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(work)


@pytest.mark.parametrize("way", [one_by_one, by_tasks])
@pytest.mark.parametrize("name", ["get", "put"])
def test_trio_client(benchmark: Any, db: Client, name: str, way: Callable[..., Awaitable[None]]) -> None:
    benchmark.group = f"{OPERATIONS} {name}s"
    client = db.loop.db
    operation = client.get if name == "get" else partial(_put, client.put)
    benchmark(db.loop.call, way, operation)


async def _put(put: Callable[[str, bytes], Awaitable[bytes]], key: str) -> None:
    await put(key, VALUE)


@pytest.mark.benchmark(group=f"{OPERATIONS} gets")
def test_get_many(benchmark: Any, db: Client) -> None:
    assert len(benchmark(db.get_many, KEYS)) == OPERATIONS


@pytest.mark.benchmark(group=f"{OPERATIONS} puts")
def test_put_many(benchmark: Any, db: Client) -> None:
    assert len(benchmark(db.put_many, dict.fromkeys(KEYS, VALUE))) == OPERATIONS


@pytest.mark.benchmark(group=f"{OPERATIONS} gets")
def test_blocking_get(benchmark: Any, db: Client) -> None:
    def thousand() -> None:
        for key in KEYS:
            db.get(key)

    benchmark(thousand)
