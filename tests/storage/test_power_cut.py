"""A power cut leaves a log that opens, and holds exactly a prefix of what was put and deleted, at or past the last durable word.

The disk is recorded, and what it could have held at some moment is made up afterwards: unsynced sectors there or not,
unsynced names there or not.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dynamo_fast.storage.lmdb_engine import LmdbEngine
from tests.storage.disks import Recorder
from tests.storage.engines import settings, turn
from tests.storage.records import Write, after, record, store_key, write
from tests.storage.test_recovery import PARTITIONS, replay

IMAGES = 1000
WRITES = 150


def recorded(directory: Path, seed: int) -> tuple[Recorder, list[Write], list[int]]:
    """A life of an engine: its disk, what was written in order, and where in the log each ends. Marks: durable positions."""
    rng = random.Random(seed)
    disk = Recorder()
    engine = LmdbEngine(directory, disk, settings(log_segment_bytes=8000, checkpoint_fill=9.0, sync_seconds=1e6), partitions=PARTITIONS)
    writes: list[Write] = []
    ends = []
    for number in range(WRITES):
        if number % 4 == 3:
            writes.append((rng.choice(list(after(writes))), None))
        else:
            writes.append((store_key(number), record(number, 0, rng.choice([0, 50, 400, 3000]))))
        write(engine, *writes[-1])
        ends.append(engine.position)
        if rng.random() < 0.4:
            turn(engine)
        if rng.random() < 0.1:
            engine.flush()
            engine.sync()
            disk.mark(engine.durable)
    engine.flush()
    engine.abandon()
    return disk, writes, ends


@pytest.mark.parametrize("seed", range(4))
def test_every_image_is_a_prefix(tmp_path: Path, seed: int) -> None:
    disk, writes, ends = recorded(tmp_path / "store", seed)
    rng = random.Random(seed + 100)
    torn = 0
    for number in range(IMAGES // 4):
        moment = rng.randrange(len(disk.changes) + 1)
        durable = max((position for changes, position in disk.marks if changes <= moment), default=0)
        image = tmp_path / f"image-{number}"
        image.mkdir()
        disk.image(moment, rng, image)
        found, recovered = replay(image)
        assert found.rot_records == 0, f"seed {seed}, image {number}: a power cut was taken for rot"
        assert recovered == after(writes[: found.records]), f"seed {seed}, image {number}: not a prefix"
        assert found.records >= sum(end <= durable for end in ends), f"seed {seed}, image {number}: durable writes are lost"
        torn += found.torn_bytes > 0
        if number % 5 == 0:
            assert replay(image)[1] == recovered, "reading it again gives the same"
    assert torn > 20, "the images are not harsh enough"


def test_an_image_goes_on_and_is_cut_again(tmp_path: Path) -> None:
    """After a cut the log goes on in a new segment; what lay beyond the cut never comes back."""
    disk, writes, _ = recorded(tmp_path / "store", 9)
    rng = random.Random(9)
    for number in range(20):
        store = tmp_path / f"store-{number}"
        (store / "log").mkdir(parents=True)
        (store / "storage.json").write_text(f'{{"format": 1, "partitions": {PARTITIONS}, "boot_id": "another"}}')
        disk.image(rng.randrange(len(disk.changes) + 1), rng, store / "log")
        second_disk = Recorder()
        small = settings(log_segment_bytes=8000, checkpoint_fill=9.0)
        engine = LmdbEngine(store, second_disk, small, partitions=PARTITIONS)
        assert engine.recovery.tail_may_be_lost
        known = after(writes[: engine.recovery.records])
        more = [(store_key(WRITES + later), record(WRITES + later, number)) for later in range(20)]
        for pair in more:
            engine.put(*pair)
            turn(engine)
        for key in known:
            engine.delete(key)
        engine.sync()
        engine.put(store_key(5), record(5, 99))  # tells how far the log was durable
        engine.flush()
        engine.abandon()
        found, recovered = replay(store / "log")
        assert found.rot_records == 0
        assert recovered == dict(more) | ({store_key(5): record(5, 99)} if store_key(5) in recovered else {})
