"""Processes that are killed with SIGKILL while they write: everything they said was in the log is found, every time."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from tests.storage.engines import open_lmdb, open_moving, settings, settle
from tests.storage.records import HIGHEST, LOWEST, forest_of, numbers_in, record, roots, store_key

PARTITIONS = 64
KEYS = 700
KILLS = 5

# Write number i stores version i of key i * 31 % KEYS, or deletes that key when i is a multiple of 3; after every pass the
# writer says how many writes are in the log.
WRITER = """
import sys
from pathlib import Path
from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from tests.storage.engines import settings, tick
from tests.storage.records import record, store_key
from tests.storage.test_kill import BOUNDS, KEYS, PARTITIONS
engine = LmdbEngine(Path(sys.argv[1]), Disk(), BOUNDS, partitions=PARTITIONS)
number = int(sys.argv[2])
while True:
    for _ in range(20):
        key = number * 31 % KEYS
        if number % 3:
            engine.put(store_key(key), record(key, number, number % 300))
        else:
            engine.delete(store_key(key))
        number += 1
    engine.flush()
    print(number, engine.checkpoints.records_moved, flush=True)
    tick(engine)
"""

# Removes a partition that is in LMDB, four records a pass, and says after each pass how many are gone; nothing goes to LMDB meanwhile.
REMOVER = """
import sys
from pathlib import Path
from tests.storage.engines import open_lmdb, remove_partition
from tests.storage.test_kill import PARTITIONS
for removed in remove_partition(open_lmdb(Path(sys.argv[1]), PARTITIONS), 13, 4):
    print(removed, flush=True)
sys.stdin.read()
"""

# Small enough that ranges move to LMDB and segments come and go all the time.
BOUNDS = settings(log_bytes_max=1 << 20, log_segment_bytes=60_000, checkpoint_fill=0.1, sync_seconds=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_what_was_said_to_be_written_is_found(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    said = 0
    for kill in range(KILLS):
        wanted = said + rng.randrange(1000, 4000)
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(said)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                said, moved = map(int, line.split())
                # Every other one may be killed before its helper process has begun.
                if said >= wanted and (moved or kill % 2):
                    break
            writer.kill()
            said = max([said, *(int(line.split()[0]) for line in writer.stdout if line.endswith("\n"))])
        engine = LmdbEngine(tmp_path, Disk(), BOUNDS, partitions=PARTITIONS)
        report = engine.recovery
        assert report.unclean
        assert report.same_boot
        assert report.rot_records == 0, f"seed {seed}, kill {kill}: {report}"
        found = dict(engine.scan(LOWEST, HIGHEST, KEYS + 1))
        for number in range(max(0, said - KEYS), said):
            key = number * 31 % KEYS
            # Newer than said is fine: a pass may have been written and not been told of.
            versions = [record(key, later, later % 300) if later % 3 else None for later in (number, number + KEYS) if later < said + 20]
            assert found.get(store_key(key)) in versions, f"seed {seed}, kill {kill}: write {number} of {said} is lost"
        assert roots(engine.forest) == roots(forest_of(found, PARTITIONS))
        engine.close()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_removals_that_only_the_log_knows_are_remembered(tmp_path: Path, share: float) -> None:
    model = {store_key(number): record(number, 0) for number in numbers_in((12, 13), PARTITIONS, 1000)}
    engine = open_moving(tmp_path, PARTITIONS)
    for key, stored in model.items():
        engine.put(key, stored, 0)
    engine.flush()
    settle(engine)
    engine.close()
    gone = sorted(key for key in model if key[0] >> 2 == 13)
    said = 0
    command = [sys.executable, "-c", REMOVER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as remover:
        assert remover.stdout is not None
        while said < share * len(gone):
            said = int(remover.stdout.readline())
        remover.kill()
        said = max([said, *(int(line) for line in remover.stdout if line.endswith("\n"))])
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.statistics()["lmdb_records"] == len(model), "the helper has seen the removals: this test is of the log alone"
    left = dict(engine.scan(LOWEST, HIGHEST, 1000))
    # A pass may have been written and not been told of.
    assert any(left.keys() == model.keys() - set(gone[:removed]) for removed in (said, min(said + 4, len(gone))))
    assert engine.holds(13) is any(key[0] >> 2 == 13 for key in left)
    assert roots(engine.forest) == roots(forest_of(left, PARTITIONS))
    engine.close()
