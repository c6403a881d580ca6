"""Power-cut images of log and LMDB together: `python -m tests.storage.images --count N [--seed S] [--json FILE]`.

A life of an engine is recorded: every write and sync of its log, through the disk's seam, and of the helper's data.mdb, by a
library that is preloaded into the helper (recorder.c). An image is what the disks could hold when the power is cut at some
moment of it: writes since a file's last sync are there or not, sector by sector. Every image must open, and hold exactly what
some prefix of the puts and deletions left, at or past the last one that was told to be durable.
"""

from __future__ import annotations

import argparse
import bisect
import concurrent.futures
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from dynamo_fast.disk import Disk, File
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from tests.storage.disks import SECTOR, Change, Recorder
from tests.storage.engines import WAIT_SECONDS_MAX, settings, tick, turn, wait_for_something
from tests.storage.records import HIGHEST, LOWEST, Write, forest_of, record, roots, store_key, write
from tests.storage.rows import Row, at_least, none_of, report, told

TARGET = 100_000
PARTITIONS = 16
WRITES = 400
KEYS = 120
IMAGES_PER_LIFE = 1000
HEAD = struct.Struct("<QQII")
WRITE, SYNCED_WRITE, SYNC = range(3)
BOUNDS = settings(log_segment_bytes=12_000, checkpoint_fill=0.0, sync_seconds=1e6)


class Timed(Recorder):
    """Knows when each change was made, by the clock that the helper's recorder uses."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        self.times.append(time.monotonic_ns())
        return super().before(what, path, data, offset)


class PageWrite(NamedTuple):
    """What the helper did to data.mdb."""

    ns: int
    kind: int
    offset: int
    data: bytes


class Life(NamedTuple):
    """A recorded life. `durable` has (time, writes that were told to be on disk by then)."""

    disk: Timed
    base: bytes  # data.mdb before the helper wrote to it
    pages: list[PageWrite]
    writes: list[Write]
    durable: list[tuple[int, int]]


class Dry(Disk):
    """Syncs nothing: images are read once."""

    def open(self, path: Path, *, create: bool = False) -> File:
        file = super().open(path, create=create)
        file.sync = lambda: None  # type: ignore[method-assign]
        file.reserve = lambda length: None  # type: ignore[method-assign]
        return file

    def sync_directory(self, path: Path) -> None:
        pass

    def replace(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def boot_id(self) -> str:
        return "after the cut"


def scratch() -> Path:
    """A directory in memory where there is one: what is measured is not this machine's disk."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="dynamo-fast-images-", dir=shared if os.access(shared, os.W_OK) else None))


def recorder_library(directory: Path) -> Path:
    library = directory / "recorder.so"
    command = [
        *os.environ.get("CC", "cc").split(),
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(Path(__file__).with_name("recorder.c")),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


@contextmanager
def preloaded(library: Path, out: Path) -> Iterator[None]:
    """Processes that are started meanwhile are recorded."""
    names = {"LD_PRELOAD": str(library), "RECORDER_OUT": str(out)}
    os.environ |= names
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def live(directory: Path, seed: int) -> Life:
    """Puts and deletions of few keys, passes, syncs, and many checkpoints; puts go on while the helper writes and after it has."""
    rng = random.Random(seed)
    disk = Timed()
    store, out = directory / "store", directory / "pages"
    engine = LmdbEngine(store, disk, BOUNDS, partitions=PARTITIONS)
    base = (store / "lmdb" / "data.mdb").read_bytes()
    writes: list[Write] = []
    ends: list[int] = []
    durable = []
    with preloaded(recorder_library(directory), out):
        for number in range(WRITES):
            key = rng.randrange(KEYS)
            stored = None if rng.random() < 0.25 else record(key, number, rng.choice([0, 50, 400, 3000]))
            before = engine.position
            write(engine, store_key(key), stored)
            if engine.position > before:
                writes.append((store_key(key), stored))
                ends.append(engine.position)
            if rng.random() < 0.4:
                engine.flush()
            if rng.random() < 0.1:
                engine.flush()
                engine.sync()
            if rng.random() < 0.3:
                turn(engine)
                if engine.checkpoints._asked:
                    wait_for_something(engine)  # the helper has committed, and the node has not heard of it
            durable.append((time.monotonic_ns(), sum(end <= engine.durable for end in ends)))
        engine.flush()
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while engine.checkpoints.under_way and time.monotonic() < deadline:
            tick(engine)
            wait_for_something(engine)
        engine.checkpoints.close()
        engine.abandon()
    return Life(disk, base, list(page_writes(out.read_bytes())), writes, durable)


def page_writes(content: bytes) -> Iterator[PageWrite]:
    offset = 0
    while offset < len(content):
        ns, place, n, kind = HEAD.unpack_from(content, offset)
        offset += HEAD.size
        yield PageWrite(ns, kind, place, content[offset : offset + n])
        offset += n


def cut_pages(life: Life, moment_ns: int, rng: random.Random, obedient: bool) -> bytes:
    """data.mdb after a power cut; a disk that is not obedient takes no notice of syncs."""
    done = [one for one in life.pages if one.ns < moment_ns]
    synced = max((index for index, one in enumerate(done) if one.kind == SYNC), default=-1) if obedient else -1
    content = bytearray(life.base)
    for index, one in enumerate(done):
        step = len(one.data) or 1 if index <= synced or (obedient and one.kind == SYNCED_WRITE) else SECTOR
        for first in range(0, len(one.data), step):
            if step != SECTOR or rng.random() < 0.5:
                place, piece = one.offset + first, one.data[first : first + step]
                content.extend(bytes(max(0, place + len(piece) - len(content))))
                content[place : place + len(piece)] = piece
    return bytes(content.ljust(-(-len(content) // 4096) * 4096, b"\0"))


def make_image(life: Life, rng: random.Random, target: Path, obedient: bool = True) -> int:
    """What the disks may hold at a moment; how many writes had been told to be durable by then."""
    events = sorted([*life.disk.times, *(one.ns for one in life.pages)])
    moment_ns = events[rng.randrange(len(events))]
    (target / "log").mkdir(parents=True)
    (target / "lmdb").mkdir()
    (target / "storage.json").write_text(f'{{"format": 1, "partitions": {PARTITIONS}, "boot_id": "before the cut"}}')
    disk = life.disk
    if not obedient:
        disk = Timed()
        disk.changes = [one if one.what != "sync" else Change("read", one.path, b"", 0) for one in life.disk.changes]
        disk.times = life.disk.times
    disk.image(bisect.bisect_left(disk.times, moment_ns), rng, target / "log")
    (target / "lmdb" / "data.mdb").write_bytes(cut_pages(life, moment_ns, rng, obedient))
    return max((count for ns, count in life.durable if ns <= moment_ns), default=0)


class Prefixes:
    """Recognises what an engine holds as the outcome of a number of writes."""

    def __init__(self, writes: list[Write]) -> None:
        self.counts: dict[int, list[int]] = {}
        content: dict[bytes, int] = {}
        total = 0
        self.counts.setdefault(0, []).append(0)
        for count, (key, stored) in enumerate(writes, 1):
            total ^= content.pop(key, 0)
            if stored is not None:
                content[key] = hash((key, stored))
                total ^= content[key]
            self.counts.setdefault(total, []).append(count)

    def longest(self, found: list[tuple[bytes, bytes]]) -> int | None:
        """The longest prefix that leaves this; None when none does."""
        total = 0
        for pair in found:
            total ^= hash(pair)
        return max(self.counts[total]) if total in self.counts else None


class Tally(NamedTuple):
    """Of images."""

    images: int = 0
    unopened: int = 0
    no_prefix: int = 0
    lost: int = 0  # which hold less than was told to be durable
    wrong_trees: int = 0
    rot: int = 0  # in which a power cut was taken for rot
    torn: int = 0  # whose log had a torn tail: the measure of their harshness
    moved: int = 0  # with records in LMDB
    why: str = ""  # the last was not opened

    def plus(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(self[:-1], other[:-1], strict=True)), other.why or self.why)

    @property
    def violations(self) -> int:
        return self.unopened + self.no_prefix + self.lost + self.wrong_trees + self.rot


def judge(directory: Path, prefixes: Prefixes, durable: int) -> Tally:
    """Opens an image and looks at all it holds."""
    try:
        engine = LmdbEngine(directory, Dry(), settings(checkpoint_fill=9.0, log_segment_bytes=1 << 20), partitions=PARTITIONS)
        found = engine.scan(LOWEST, HIGHEST, KEYS + 1)
    except (StorageError, OSError, ValueError, lmdb.Error) as error:
        return Tally(images=1, unopened=1, why=f"{type(error).__name__}: {error}")
    count = prefixes.longest(found)
    tally = Tally(
        images=1,
        no_prefix=count is None,
        lost=count is not None and count < durable,
        wrong_trees=roots(engine.forest) != roots(forest_of(dict(found), PARTITIONS)),
        rot=engine.recovery.rot_records > 0,
        torn=engine.recovery.torn_bytes > 0,
        moved=engine.recovery.skipped > 0 or engine.statistics()["finds_in_lmdb"] != 0 or engine.recovery.records < len(found),
    )
    engine.checkpoints.close()
    engine.abandon()
    return tally


def judge_life(seed: int, count: int, obedient: bool = True) -> Tally:
    """A life and that many images of it."""
    directory = scratch()
    try:
        life = live(directory, seed)
        prefixes = Prefixes(life.writes)
        rng = random.Random(seed)
        tally = Tally()
        for number in range(count):
            image = directory / "image"
            durable = make_image(life, rng, image, obedient)
            one = judge(image, prefixes, durable)
            if obedient and one.violations:
                print(f"seed {seed}, image {number}: {one}", file=sys.stderr)
            tally = tally.plus(one)
            shutil.rmtree(image)
        return tally
    finally:
        shutil.rmtree(directory)


def judge_elsewhere(seed: int, count: int, obedient: bool = True) -> Tally:
    """`judge_life` in a process of its own. One that LMDB takes along counts as an image that was not opened."""
    command = [sys.executable, "-m", "tests.storage.images", "--life", str(seed), str(count), str(int(obedient))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return Tally(images=1, unopened=1, why=f"the process that judged life {seed} ended with {done.returncode}")
    return Tally(*json.loads(done.stdout))


def rows_of(tally: Tally, target: int) -> list[Row]:
    return [
        at_least("power-cut images of log and LMDB", tally.images, "images", target),
        none_of("of these not opened", tally.unopened, "images"),
        none_of("without a durable acknowledged write", tally.lost, "images"),
        none_of("that hold no prefix of the writes", tally.no_prefix, "images"),
        none_of("with Merkle trees that do not fit", tally.wrong_trees, "images"),
        none_of("taken for rot", tally.rot, "images"),
        told("with a torn log", tally.torn, "images"),
        told("with records in LMDB", tally.moved, "images"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=TARGET, help="images")
    parser.add_argument("--seed", type=int, default=1, help="of the first life; each has 1000 images")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--life", type=int, nargs=3, help=argparse.SUPPRESS)  # what judge_elsewhere asks for
    arguments = parser.parse_args()
    tally = Tally()
    if arguments.life:
        seed, count, obedient = arguments.life
        print(json.dumps(judge_life(seed, count, bool(obedient))))
        return 0
    lives = [(arguments.seed + life, min(IMAGES_PER_LIFE, arguments.count - life * IMAGES_PER_LIFE))
             for life in range(-(-arguments.count // IMAGES_PER_LIFE))]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(judge_elsewhere, *life) for life in lives]):
            tally = tally.plus(done.result())
            print(f"\r{tally.images:,} images", end="", file=sys.stderr, flush=True)
    print(f"\n{tally.why}" if tally.why else "", file=sys.stderr)
    return report(rows_of(tally, arguments.count), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
