"""What storage costs and how it behaves at length, on this machine: `python -m bench.storage costs|recovery|steady`.

costs     processor time of a store, a log append, a find in the buffer and in LMDB, a move by the helper, a removal
recovery  a process with 1,000,000 keys and a full log is killed with SIGKILL; how long opening takes after that
steady    random puts over 1,000,000 keys through many checkpoints; rates, stalls and what the helper used
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.storage.settings import StorageSettings

KEYS = 1_000_000
OBJECT_BYTES = 196  # a value of 100 bytes, one clock entry, one sibling
PASS_PUTS = 32  # stores between two ends of a pass
TICK_NS = 20_000_000
HOLD = 1e9  # a checkpoint_fill that is never reached


def store_keys(count: int) -> list[bytes]:
    rng = random.Random(7)
    return [rng.randbytes(24) for _ in range(count)]


def records(count: int = 1000) -> list[bytes]:
    rng = random.Random(8)
    return [encode_record(b"key-%010d" % number, rng.randbytes(OBJECT_BYTES), hash=number + 1) for number in range(count)]


def open_engine(directory: Path, **changes: float) -> LmdbEngine:
    return LmdbEngine(directory, Disk(), StorageSettings(**changes))  # type: ignore[arg-type]


def put_random(engine: LmdbEngine, keys: list[bytes], count: int, in_order: bool = False) -> None:
    """Puts in passes with the maintenance between them, never faster than `room` allows."""
    some = records()
    next_tick = 0
    for step in range(0, count, PASS_PUTS):
        for number in range(step, min(step + PASS_PUTS, count)):
            engine.put(keys[number if in_order else random.randrange(len(keys))], some[number % 1000], 0)
        engine.flush()
        if time.monotonic_ns() >= next_tick:
            tick(engine)
            next_tick = time.monotonic_ns() + TICK_NS
        while engine.fullness and engine.settings.checkpoint_fill != HOLD:
            tick(engine)
            time.sleep(0.001)


def tick(engine: LmdbEngine) -> None:
    for job in engine.tick():
        job()


@contextmanager
def cpu(what: str, count: int) -> Iterator[None]:
    """Prints processor and elapsed time per operation."""
    began, used = time.perf_counter(), time.process_time()
    yield
    cpu_us, wall_us = (time.process_time() - used) / count * 1e6, (time.perf_counter() - began) / count * 1e6
    print(f"{what:58} {cpu_us:8.3f} us cpu {wall_us:8.3f} us elapsed", flush=True)


def drain(engine: LmdbEngine) -> None:
    """Everything goes to LMDB; prints what that took."""
    moved = engine.checkpoints
    began, records, done, cpu_ns = time.perf_counter(), moved.records_moved, moved.done, moved.helper_cpu_ns
    while engine.statistics()["buffer_records"]:
        tick(engine)
        time.sleep(0.001)
    records, done, cpu_ns = moved.records_moved - records, moved.done - done, moved.helper_cpu_ns - cpu_ns
    seconds = time.perf_counter() - began
    print(f"helper: {records} records in {done} checkpoints, {cpu_ns / records / 1e3:.2f} us cpu each, {seconds:.2f} s", flush=True)


def finds(engine: Engine, keys: list[bytes]) -> None:
    get = engine.get
    for key in keys:
        get(key)


def costs(directory: Path) -> None:
    keys, some = store_keys(200_000), records()
    engine = open_engine(directory / "store", checkpoint_fill=HOLD)
    put, flush = engine.put, engine.flush
    with cpu("put of a new key, with the log write of every 32", len(keys)):
        for number, key in enumerate(keys):
            put(key, some[number % 1000], 0)
            if number % PASS_PUTS == 0:
                flush()
    with cpu("put of a random key that is in the buffer, the same", len(keys)):
        for number, key in enumerate(keys):
            put(key, some[number % 1000], 1)
            if number % PASS_PUTS == 0:
                flush()
    hot = keys[:64] * 3000
    with cpu("put of one of 64 keys, the same", len(hot)):
        for number, key in enumerate(hot):
            put(key, some[number % 1000], 1)
            if number % PASS_PUTS == 0:
                flush()
    with cpu("put of one of 64 keys, without log write", len(hot)):
        for number, key in enumerate(hot):
            put(key, some[number % 1000], 1)
    flush()
    with cpu("get from the buffer, one of 64 keys", len(hot)):
        finds(engine, hot)
    with cpu("get from the buffer, random", len(keys)):
        finds(engine, keys)
    engine.close()
    engine = open_engine(directory / "store", checkpoint_fill=0.0)
    flush = engine.flush
    drain(engine)
    with cpu("get from LMDB, random", len(keys)):
        finds(engine, keys)
    with cpu("get of a key that is nowhere", len(keys)):
        finds(engine, [key[::-1] for key in keys])
    in_order, position = sorted(keys), engine.position
    with cpu("removal of a key in LMDB, with the log write of every 32", len(keys)):
        for number, key in enumerate(in_order):
            engine.delete(key)
            if number % PASS_PUTS == 0:
                flush()
    flush()
    log_bytes, buffer_bytes = (total / len(keys) for total in (engine.position - position, engine.buffer.memory_bytes))
    print(f"removal: {log_bytes:.1f} bytes of log, {buffer_bytes:.1f} of write buffer until it is in LMDB")
    drain(engine)
    engine.close()


def write_and_die(directory: Path) -> None:
    """The victim of `recovery`: moves a first million to LMDB as usual, fills the log, and is killed."""
    keys = store_keys(KEYS)
    engine = open_engine(directory / "store", checkpoint_fill=0.25)
    put_random(engine, keys, KEYS, in_order=True)
    engine.close()
    engine = open_engine(directory / "store", checkpoint_fill=HOLD, write_buffer_bytes_max=1 << 30)
    while engine.fullness < 2:
        put_random(engine, keys, 10_000)
    found = engine.statistics()
    print(f"killed with {found['buffer_records']} records in the buffer, {found['log_bytes']} bytes of log", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def recovery(directory: Path, rounds: int) -> None:
    command = [sys.executable, "-m", "bench.storage", "victim", "--directory", str(directory)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    for _ in range(rounds):
        script = f"""import resource, os, signal
from pathlib import Path
from bench.storage import open_engine
engine = open_engine(Path({str(directory)!r}) / "store")
print(engine.recovery)
print("resident MiB:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
os.kill(os.getpid(), signal.SIGKILL)"""
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", script])
        print(f"process start to killed again: {time.perf_counter() - began:.2f} s")


def steady(directory: Path, seconds: float) -> None:
    keys = store_keys(KEYS)
    engine = open_engine(directory / "store")
    put_random(engine, keys, KEYS, in_order=True)
    began, used, puts = time.monotonic(), time.process_time(), 0
    helper = engine.checkpoints.helper_cpu_ns
    moved = engine.checkpoints.records_moved
    engine.pass_ns.reset()
    engine.tick_ns.reset()
    last = began
    while (now := time.monotonic()) < began + seconds:
        put_random(engine, keys, 20_000)
        puts += 20_000
        if now - last >= 5:
            last = now
            found = engine.statistics()
            print(f"{now - began:5.0f} s {puts / (now - began):9.0f} put/s, buffer {found['buffer_bytes'] / 2**20:.0f} MiB, "  # type: ignore[operator]
                  f"log {found['log_bytes'] / 2**20:.0f} MiB, {found['checkpoints']} checkpoints", flush=True)  # type: ignore[operator]  # fmt: skip
    elapsed = time.monotonic() - began
    moved = engine.checkpoints.records_moved - moved
    print(f"{puts / elapsed:.0f} put/s; node {(time.process_time() - used) / puts * 1e6:.2f} us cpu a put; helper "
          f"{(engine.checkpoints.helper_cpu_ns - helper) / puts / 1e3:.2f} us a put, {moved} records moved")  # fmt: skip
    for name in ("pass_ns", "tick_ns"):
        summary = engine.statistics()[name]
        print(name, {key: round(value / 1000) if key != "count" else value for key, value in summary.items()}, "us")  # type: ignore[attr-defined]
    print("resident MiB:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print("LMDB MiB:", (directory / "store" / "lmdb" / "data.mdb").stat().st_size >> 20)
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["costs", "recovery", "steady", "victim"])
    parser.add_argument("--directory", type=Path, default=None, help="where to write; a temporary one by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of `steady`")
    parser.add_argument("--rounds", type=int, default=3, help="of `recovery`")
    arguments = parser.parse_args()
    if arguments.what == "victim":
        return write_and_die(arguments.directory)
    directory = Path(tempfile.mkdtemp(prefix="bench-storage-", dir=arguments.directory))
    try:
        if arguments.what == "costs":
            costs(directory)
        elif arguments.what == "recovery":
            recovery(directory, arguments.rounds)
        else:
            steady(directory, arguments.seconds)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
