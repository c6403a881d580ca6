"""The generator against redis-benchmark on the same redis: a yardstick must not be the thing that bends."""

from __future__ import annotations

import csv
import io
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.compare.rows import Row
from bench.compare.sides import Side, require
from bench.redis_server import RedisServer
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.target import RespTarget
from dynamo_fast.load.workload import Workload, run


def redis_benchmark(server: RedisServer, test: str, depth: int, operations: int, keys: int) -> float:
    """Requests per second as redis-benchmark measures them, 50 connections, 100-byte values."""
    executable = shutil.which("redis-benchmark")
    if executable is None:
        raise FileNotFoundError("redis-benchmark is not installed: apt-get install redis-tools")
    command = [executable, "-h", "127.0.0.1", "-p", str(server.port), "-t", test, "-c", "50", "-P", str(depth), "-d", "100",
               "-r", str(keys), "-n", str(operations), "--csv"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in csv.reader(io.StringIO(output)):
        if line and line[0].lower() == test:
            return float(line[1])
    raise ValueError(f"redis-benchmark did not report {test}: {output!r}")


def generator_rows(directory: Path, rounds: int, seconds: float, keys: int, say: Callable[[str], None]) -> list[Row]:
    """Ours / theirs for SET and GET at both depths, medians over the rounds."""
    ratios: dict[tuple[str, int], list[float]] = {(test, depth): [] for depth in (1, 16) for test in ("set", "get")}
    with RedisServer(directory / "redis-for-generator") as server:
        target = RespTarget([server.address])
        for number in range(rounds):
            for (test, depth), found in ratios.items():
                # redis-benchmark writes the same keys: fresh key spaces, in which no value is known, take what it left.
                side = Side("redis", target, KeySpace(keys, 100, 100), [server.pid])
                workload = Workload(depth=depth, gets=float(test == "get"), seconds=seconds, warmup_s=0.2)
                ours = require(side, run(side.target, side.keys, workload)).rate_per_s
                theirs = redis_benchmark(server, test, depth, int(ours * seconds), keys)
                found.append(ours / theirs)
                say(f"generator, round {number + 1} of {rounds}: {test} depth {depth}: {ours:,.0f}/s, redis-benchmark {theirs:,.0f}/s")
    return [
        Row(f"generator, {test.upper()} depth {depth} / redis-benchmark", statistics.median(found), "x", 0.9)
        for (test, depth), found in ratios.items()
    ]
