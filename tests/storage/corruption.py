"""Every page of LMDB and every record of the log damaged in turn: `python -m tests.storage.corruption --count N [--seed S] [--json FILE]`.

A store with records in LMDB and newer ones in the log is damaged in one place: a bit flipped, zeros, garbage, what stood there earlier,
another page's or record's bytes, the file cut off there. Then everything in it is read, and read again after a scrub. No bytes that were
never stored under their key may be served, and whatever is missing or stale must be known: its partition is suspect.

A store that is refused, and a process that LMDB takes along, serve nothing; both are told.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

from dynamo_fast.core.digest import key_position
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.storage.scrubbing import leaf_range
from tests.storage.engines import settings, settle
from tests.storage.images import Dry, scratch
from tests.storage.records import MAC_KEY, record, store_key
from tests.storage.rows import Row, at_least, none_of, report, told

TARGET = 20_000
PARTITIONS = 16
KEYS = 160
PAGE = 4096
KINDS = ("bit", "zeros", "garbage", "stale", "swapped", "truncated")
SECONDS_MAX = 60  # for one store; damaged pages may lead round and round
SERVED, UNNOTICED, REFUSED, STALE, LOST = 1, 2, 4, 8, 16  # bits of what a look at a store ends with


class Place(NamedTuple):
    """Where to do harm: a page of data.mdb, or a record of the log."""

    file: str
    offset: int
    length: int


class Store(NamedTuple):
    """A store to be damaged, all that was ever stored under each key, the newest last, and the same files earlier on."""

    path: Path
    history: dict[bytes, list[bytes]]
    earlier: list[dict[str, bytes]]
    places: list[Place]


def build(directory: Path, seed: int) -> Store:
    """Several generations of records moved to LMDB, small ones and such as have pages of their own; the last ones in the log alone."""
    rng = random.Random(seed)
    path = directory / "store"
    history: dict[bytes, list[bytes]] = {}
    earlier = []

    def put(engine: LmdbEngine, generation: int, numbers: list[int]) -> None:
        for number in numbers:
            stored = record(number, generation, rng.choice([20, 200, 800, 5000]))
            engine.put(store_key(number), stored)
            history.setdefault(store_key(number), []).append(stored)
        engine.flush()

    for generation in range(4):
        engine = LmdbEngine(path, Dry(), settings(checkpoint_fill=0.0, log_segment_bytes=60_000), partitions=PARTITIONS)
        put(engine, generation, rng.sample(range(KEYS), KEYS if generation == 0 else KEYS // 3))
        settle(engine)
        earlier.append({"lmdb/data.mdb": (path / "lmdb" / "data.mdb").read_bytes()})
        engine.close()
    engine = LmdbEngine(path, Dry(), settings(checkpoint_fill=9.0, log_segment_bytes=60_000), partitions=PARTITIONS)
    starts = []
    for number in rng.sample(range(KEYS + 20), KEYS // 3):
        starts.append(engine.position)
        put(engine, 9, [number])
    starts.append(engine.position)
    begins = {str(segment.path.relative_to(path)): segment.start for segment in engine.log.segments}
    ends = {str(segment.path.relative_to(path)): segment.end for segment in engine.log.segments}
    engine.close()
    pages = (path / "lmdb" / "data.mdb").stat().st_size // PAGE
    places = [Place("lmdb/data.mdb", PAGE * page, PAGE) for page in range(pages)]
    for start, end in itertools.pairwise(starts):
        file = next(name for name in begins if begins[name] <= start < ends[name])
        places.append(Place(file, start - begins[file], end - start))
    return Store(path, history, earlier, places)


def harmed(store: Store, place: Place, kind: str, rng: random.Random) -> bytes | None:
    """The file's content with the damage; None when this damage changes nothing."""
    content = (store.path / place.file).read_bytes()
    end = place.offset + place.length
    was = content[place.offset : end]
    if kind == "truncated":
        return content[: place.offset]
    if kind == "bit":
        bit = rng.randrange(8 * len(was))
        now = bytearray(was)
        now[bit // 8] ^= 1 << bit % 8
    elif kind == "zeros":
        now = bytearray(len(was))
    elif kind == "garbage":
        now = bytearray(rng.randbytes(len(was)))
    else:
        if kind == "stale" and place.file == "lmdb/data.mdb":
            sources = [old[place.file][place.offset : end] for old in store.earlier]
        else:
            others = [other for other in store.places if other.file == place.file and other != place]
            other = rng.choice(others)
            sources = [content[other.offset : other.offset + other.length]]
            if kind == "swapped":
                content = content[: other.offset] + was[: other.length].ljust(other.length, b"\0") + content[other.offset + other.length :]
        sources = [source[: len(was)].ljust(len(was), b"\0") for source in sources if source and source != was]
        if not sources:
            return None
        now = bytearray(rng.choice(sources))
    if bytes(now) == was:
        return None
    return content[: place.offset] + bytes(now) + content[end:]


def look(path: Path, history: dict[bytes, list[bytes]]) -> int:
    """Reads everything in every way, scrubs, and reads again; bits."""
    outcome = 0
    try:
        engine = LmdbEngine(path, Dry(), settings(checkpoint_fill=9.0, log_segment_bytes=60_000), partitions=PARTITIONS)
    except (StorageError, OSError, ValueError, lmdb.Error):
        return REFUSED
    for again in (False, True):
        scanned = []
        for partition in range(PARTITIONS):
            with contextlib.suppress(lmdb.Error):
                scanned += engine.scan(
                    leaf_range(partition, 0, PARTITIONS, 256)[0], leaf_range(partition, 255, PARTITIONS, 256)[1], 2 * KEYS
                )
        for key, stored in [*scanned, *((key, engine.get(key)) for key in history)]:
            versions = history.get(key, [])
            if stored is not None and names(stored) != key:
                stored = None  # the replica, and a listing, see that it is another key's
            if stored is not None and stored not in versions:
                outcome |= SERVED
            elif stored is None or stored != versions[-1]:
                outcome |= LOST if stored is None else STALE
                if again and not engine.is_suspect(engine.forest.place(key[:16])[0]):
                    outcome |= UNNOTICED
        if not again:
            for leaf in {engine.forest.place(key[:16]) for key in history}:
                engine.recompute(*leaf, MAC_KEY)
    engine.checkpoints.close()
    engine.abandon()
    return outcome


def names(stored: bytes) -> bytes:
    """The store key of the key that a record names."""
    parts = decode_record(stored)
    return encode_store_key(MAC_KEY, key_position(parts.key, parts.bucket), parts.key, parts.bucket)


def outcome_of(store: Store, place: Place, content: bytes, target: Path) -> int | None:
    """Of a copy with that content, read by a process of its own; None when that was taken along."""
    shutil.copytree(store.path, target)
    (target / place.file).write_bytes(content)
    child = os.fork()  # this process never opens LMDB
    if child == 0:
        signal.alarm(SECONDS_MAX)
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os._exit(look(target, store.history))
        except BaseException:
            os._exit(128)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(target)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def built_elsewhere(directory: Path, seed: int) -> Store:
    """`build` in a process of its own, so that this one may fork."""
    subprocess.run([sys.executable, "-m", "tests.storage.corruption", "--seed", str(seed), "--build", str(directory)], check=True)
    store: Store = pickle.loads((directory / "built").read_bytes())
    return store


def harms(store: Store, seed: int) -> Iterator[tuple[int, Place, str, bytes]]:
    """Every place with every kind, over and over, each time with other bits. In an order that a small share samples well."""
    number = 0
    while True:
        for start in random.Random(seed).sample(range(len(KINDS)), len(KINDS)):
            for index, place in enumerate(random.Random(seed).sample(store.places, len(store.places))):
                kind = KINDS[(start + index) % len(KINDS)]
                content = harmed(store, place, kind, random.Random(f"{seed}/{number}"))
                if content is not None:
                    yield number, place, kind, content
                number += 1


def sweep(count: int, seed: int, progress: bool = False) -> list[Row]:
    """That many damaged stores, told as rows."""
    tally = dict.fromkeys(("served", "unnoticed", "refused", "stale", "lost", "ended", "whole", "failed"), 0)
    directory = scratch()
    try:
        store = built_elsewhere(directory, seed)
        for done, (number, place, kind, content) in zip(range(count), harms(store, seed), strict=False):
            outcome = outcome_of(store, place, content, directory / "harmed")
            tally["ended"] += outcome is None
            tally["failed"] += outcome == 128
            if outcome is None or outcome == 128:
                if outcome == 128:
                    print(f"harm {number} ({kind} at {place}): the look itself failed", file=sys.stderr)
                continue
            if outcome & (SERVED | UNNOTICED):
                print(f"harm {number} ({kind} at {place}): outcome {outcome}", file=sys.stderr)
            for name, bit in (("served", SERVED), ("unnoticed", UNNOTICED), ("refused", REFUSED), ("stale", STALE), ("lost", LOST)):
                tally[name] += bool(outcome & bit)
            tally["whole"] += outcome == 0
            if progress and done % 100 == 0:
                print(f"\r{done:,} stores", end="", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(directory)
    if progress:
        print(file=sys.stderr)
    return [
        at_least("stores damaged in one place", count, "stores", count),
        none_of("that served bytes never stored under their key", tally["served"], "stores"),
        none_of("that lost a record and did not know", tally["unnoticed"], "stores"),
        none_of("that could not be looked at", tally["failed"], "stores"),
        told("that served an earlier version, and knew after a scrub", tally["stale"], "stores"),
        told("that lacked a record, and knew", tally["lost"], "stores"),
        told("that were refused", tally["refused"], "stores"),
        told("whose pages ended the process", tally["ended"], "stores"),
        told("that lacked nothing", tally["whole"], "stores"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=TARGET, help="damaged stores")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)  # what built_elsewhere asks for
    arguments = parser.parse_args()
    if arguments.build:
        (arguments.build / "built").write_bytes(pickle.dumps(build(arguments.build, arguments.seed)))
        return 0
    return report(sweep(arguments.count, arguments.seed, True), arguments.json)


if __name__ == "__main__":
    from tests.storage import corruption  # so that what is pickled is known by that name

    sys.exit(corruption.main())
