"""What the engine with a disk promises beyond the contract: it remembers, and moves records to LMDB without losing one."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import ReplayVisitor, StorageError
from dynamo_fast.storage.helper import NICENESS
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.settings import MIB
from tests.storage.engines import SMALL, open_lmdb, open_moving, settings, settle, tick, turn, wait_for_something
from tests.storage.records import HIGHEST, LOWEST, forest_of, hash_of, record, roots, store_key

PARTITIONS = 64


def open_with(directory: Path, **changes: float) -> LmdbEngine:
    return LmdbEngine(directory, Disk(), settings(**changes), partitions=PARTITIONS)


def fill(engine: LmdbEngine, model: dict[bytes, bytes], rng: random.Random, puts: int, keys: int = 2000, tick_every: int = 0) -> None:
    """Random puts into engine and model; with `tick_every` the maintenance runs in between."""
    for step in range(puts):
        number = rng.randrange(keys)
        key, stored = store_key(number), record(number, rng.randrange(1 << 30), rng.choice([0, 30, 200]))
        engine.put(key, stored, hash_of(model.get(key)))
        model[key] = stored
        if step % 50 == 0:
            engine.flush()
        if tick_every and step % tick_every == 0:
            turn(engine)
    engine.flush()


def check(engine: LmdbEngine, model: dict[bytes, bytes]) -> None:
    assert engine.scan(LOWEST, HIGHEST, len(model) + 10) == sorted(model.items())
    assert all(engine.get(key) == stored for key, stored in model.items())
    assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))


@pytest.mark.parametrize("clean", [True, False])
def test_an_engine_remembers(tmp_path: Path, clean: bool) -> None:
    model: dict[bytes, bytes] = {}
    engine = open_lmdb(tmp_path, PARTITIONS)
    assert engine.recovery.records == 0
    assert not engine.recovery.unclean
    fill(engine, model, random.Random(1), 3000)
    position = engine.position
    if clean:
        engine.close()
    else:
        abandon(engine)
    again = open_lmdb(tmp_path, PARTITIONS)
    assert again.recovery.unclean is not clean
    assert again.recovery.same_boot
    assert not again.recovery.tail_may_be_lost
    assert again.recovery.records == 3000
    assert again.recovery.torn_bytes == again.recovery.rot_records == 0
    assert again.position == position
    check(again, model)
    again.close()


def abandon(engine: LmdbEngine) -> None:
    """As a kill would leave it, but for the descriptors, which only the end of a process gives back."""
    engine.checkpoints.close()
    engine.abandon()


def test_records_move_to_lmdb_and_stay_what_they_were(tmp_path: Path) -> None:
    model: dict[bytes, bytes] = {}
    rng = random.Random(2)
    engine = open_moving(tmp_path, PARTITIONS)
    for _ in range(3):
        fill(engine, model, rng, 3000, tick_every=100)
        settle(engine)
        check(engine, model)
    statistics = engine.statistics()
    assert statistics["buffer_records"] == 0
    assert statistics["records_moved"] >= len(model)
    assert statistics["lmdb_records"] == len(model)
    assert statistics["lmdb_bytes"] >= sum(map(len, model.values()))
    assert statistics["checkpoints"] >= 16
    assert statistics["log_bytes"] < MIB
    assert engine.checkpoints.trouble is None
    engine.close()
    again = open_lmdb(tmp_path, PARTITIONS)
    assert again.recovery.records == 0
    check(again, model)
    fill(again, model, rng, 2000)
    abandon(again)
    third = open_lmdb(tmp_path, PARTITIONS)
    assert third.recovery.records == 2000
    check(third, model)
    third.close()


def test_puts_go_on_while_their_range_is_being_moved(tmp_path: Path) -> None:
    """Between freeze and commit a key has a frozen version and a newer one; both end where they belong."""
    model: dict[bytes, bytes] = {}
    rng = random.Random(3)
    engine = open_moving(tmp_path, PARTITIONS)
    fill(engine, model, rng, 2000, keys=300)
    while engine.statistics()["checkpoints"] < 20:
        fill(engine, model, rng, 20, keys=300)
        tick(engine)
        check(engine, model)
        wait_for_something(engine)
    abandon(engine)
    again = open_lmdb(tmp_path, PARTITIONS)
    check(again, model)
    again.close()


def test_a_killed_helper_is_replaced_and_nothing_is_moved_twice(tmp_path: Path) -> None:
    model: dict[bytes, bytes] = {}
    engine = open_moving(tmp_path, PARTITIONS)
    fill(engine, model, random.Random(4), 5000)
    kills = 0
    for _ in range(100_000):
        tick(engine)
        pid = engine.checkpoints.mover.pid
        if pid is not None and kills < 5 and engine.checkpoints.under_way:
            os.kill(pid, signal.SIGKILL)
            kills += 1
            engine.checkpoints._not_before_ns = 0  # the pause between attempts is not what is tested
        wait_for_something(engine)
        engine.checkpoints._not_before_ns = 0
        if not engine.statistics()["buffer_records"]:
            break
    assert kills == 5
    assert engine.checkpoints.mover.starts >= 2
    check(engine, model)
    engine.close()
    again = open_lmdb(tmp_path, PARTITIONS)
    check(again, model)
    again.close()


def test_the_helper_lets_nodes_go_first_within_its_session_and_among_sessions(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, PARTITIONS)
    fill(engine, {}, random.Random(6), 100)
    while not engine.checkpoints.done:  # it has answered, so it is past its beginning
        tick(engine)
        wait_for_something(engine)
    pid = engine.checkpoints.mover.pid
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():  # else the kernel knows no other niceness than that of a process
        assert group.read_text().split()[1:] == ["nice", str(NICENESS)]
    engine.close()


def test_segments_are_made_ahead_and_deleted_when_every_range_has_passed(tmp_path: Path) -> None:
    model: dict[bytes, bytes] = {}
    engine = open_with(tmp_path, checkpoint_fill=0.1, log_segment_bytes=100_000, log_bytes_max=4 * MIB)
    rng = random.Random(5)
    most = 0
    for _ in range(60):
        fill(engine, model, rng, 500, tick_every=100)
        most = max(most, len(list((tmp_path / "log").iterdir())))
        wait_for_something(engine)
    while engine.statistics()["log_bytes"] > 0.1 * 4 * MIB:
        tick(engine)
        wait_for_something(engine)
    assert len(list((tmp_path / "log").iterdir())) < most
    assert most > 5
    check(engine, model)
    engine.close()


def test_checkpoints_come_evenly(tmp_path: Path) -> None:
    """One for each sixteenth of the log that may wait, from the start, and hardly ever one more."""
    model: dict[bytes, bytes] = {}
    engine = open_with(tmp_path, checkpoint_fill=0.5, log_segment_bytes=100_000, log_bytes_max=4 * MIB)
    rng = random.Random(6)
    started_at = []
    while engine.position < 4 * MIB:
        fill(engine, model, rng, 20)
        under_way = engine.checkpoints.under_way
        turn(engine)
        if engine.checkpoints.under_way and not under_way:
            started_at.append(engine.position)
        while engine.checkpoints.under_way:
            wait_for_something(engine)
            turn(engine)
    gaps = [later - earlier for earlier, later in zip([0, *started_at], started_at, strict=False)]
    share = (0.5 * 4 * MIB - 100_000) / 16
    assert max(gaps) < share + 20_000, gaps
    assert 4 * MIB / (share + 20_000) <= len(gaps) <= 4 * MIB / share + 2, gaps
    assert engine.statistics()["log_bytes"] < 0.5 * 4 * MIB + 200_000
    check(engine, model)
    engine.close()


def test_room_shrinks_with_the_log_and_comes_back(tmp_path: Path) -> None:
    engine = open_with(tmp_path, checkpoint_fill=2.0, log_bytes_max=MIB, log_segment_bytes=100_000)
    seen = []
    for number in range(3000):
        engine.put(store_key(number), record(number, 0, 400))
        if number % 10 == 0:
            turn(engine)
            seen.append(engine.fullness)
    assert sorted(set(seen)) == [0, 1, 2]
    assert seen == sorted(seen)
    engine.put(store_key(1), record(1, 1))  # merges are taken still
    engine.close()
    roomy = open_with(tmp_path, checkpoint_fill=0.0, log_segment_bytes=100_000)
    settle(roomy)
    assert roomy.fullness == 0
    assert roomy.statistics()["log_bytes"] <= 100_000
    roomy.close()


def test_a_log_that_filled_up_in_one_segment_is_free_again_without_a_write(tmp_path: Path) -> None:
    """The next segment was not there in time, as on a disk that is slow to make files, and the last one grew up to the log's bound."""
    engine = open_with(tmp_path, log_bytes_max=MIB, log_segment_bytes=50_000, checkpoint_fill=0.1)
    model: dict[bytes, bytes] = {}
    rng = random.Random(5)
    while engine.fullness < 2:
        fill(engine, model, rng, 50)
    assert len(engine.log.segments) == 1
    assert engine.log.bytes >= MIB
    settle(engine)
    for _ in range(100):
        if engine.resting:
            break
        tick(engine)
        wait_for_something(engine)
    assert engine.fullness == 0
    assert engine.log.bytes == 0
    assert [segment.start for segment in engine.log.segments] == [engine.position], "the one that was outgrown is deleted"
    fill(engine, model, rng, 50)
    abandon(engine)
    again = open_with(tmp_path, log_bytes_max=MIB, log_segment_bytes=50_000)
    check(again, model)
    again.close()


def test_a_log_that_is_longer_than_a_lowered_bound_is_taken(tmp_path: Path) -> None:
    model = {store_key(number): record(number, 0, 50_000) for number in range(2000)}
    engine = open_with(tmp_path, checkpoint_fill=9.0, write_buffer_bytes_max=256 * MIB, log_bytes_max=256 * MIB)
    for key, stored in model.items():
        engine.put(key, stored)
    engine.close()
    again = open_with(tmp_path, checkpoint_fill=0.5, write_buffer_bytes_max=4 * MIB, log_bytes_max=4 * MIB)
    assert again.fullness == 2
    settle(again)
    assert again.fullness < 2
    check(again, model)
    again.close()


def test_a_record_that_is_longer_than_every_limit_goes_all_the_way(tmp_path: Path) -> None:
    """Merges are not refused, so a record may be longer than the log and the write buffer may be: ten times as long as either, here."""
    bounds = {"log_bytes_max": 4 * MIB, "log_segment_bytes": MIB, "write_buffer_bytes_max": 4 * MIB}
    long, small = store_key(1), store_key(2)
    engine = open_with(tmp_path, checkpoint_fill=0.5, **bounds)
    model = {}
    for version in range(3):  # the next one stands beside the one before for a moment
        model[long] = record(1, version, 45 * MIB)
        engine.put(long, model[long])
        model[small] = record(2, version)
        engine.put(small, model[small])
        engine.flush()
        assert engine.fullness == 2, "clients' puts are refused until it has been moved"
        check(engine, model)
    abandon(engine)
    again = open_with(tmp_path, checkpoint_fill=0.5, **bounds)
    check(again, model)
    settle(again)
    assert again.fullness == 0
    assert again.statistics()["log_bytes"] < 4 * MIB
    check(again, model)
    again.close()
    last = open_with(tmp_path, checkpoint_fill=0.5, **bounds)
    check(last, model)
    last.close()


def test_values_of_a_mebibyte_go_all_the_way(tmp_path: Path) -> None:
    model = {store_key(number): record(number, number, MIB) for number in range(12)}
    engine = open_moving(tmp_path, PARTITIONS)
    for key, stored in model.items():
        engine.put(key, stored)
        turn(engine)
    check(engine, model)
    settle(engine)
    check(engine, model)
    engine.close()
    again = open_lmdb(tmp_path, PARTITIONS)
    check(again, model)
    again.close()


class Seen(ReplayVisitor):
    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []

    def on_replayed(self, store_key: bytes, record: bytes) -> None:
        self.records.append((store_key, record))


def test_a_visitor_sees_the_end_of_the_log_in_order(tmp_path: Path) -> None:
    engine = open_lmdb(tmp_path, PARTITIONS)
    written = [(store_key(number % 7), record(number % 7, number)) for number in range(1000)]
    for key, stored in written:
        engine.put(key, stored)
    engine.flush()
    engine.close()
    seen = Seen()
    LmdbEngine(tmp_path, Disk(), SMALL, partitions=PARTITIONS, visitor=seen).close()
    assert seen.records == written
    seen = Seen()
    LmdbEngine(tmp_path, Disk(), settings(replay_visit_bytes=10_000), partitions=PARTITIONS, visitor=seen).close()
    assert 0 < len(seen.records) < 200
    assert seen.records == written[-len(seen.records) :]


def test_a_directory_is_used_by_one_engine_at_a_time(tmp_path: Path) -> None:
    engine = open_lmdb(tmp_path, PARTITIONS)
    with pytest.raises(StorageError, match="in use by another process"):
        open_lmdb(tmp_path, PARTITIONS)
    engine.close()
    open_lmdb(tmp_path, PARTITIONS).close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "storage format 2, this version reads format 1"),
        ({"partitions": 128}, "made for 128 partitions, not 64"),
        (None, "is damaged"),
    ],
)
def test_a_foreign_or_newer_directory_is_refused(tmp_path: Path, change: dict[str, int] | None, words: str) -> None:
    open_lmdb(tmp_path, PARTITIONS).close()
    description = tmp_path / "storage.json"
    description.write_text("{" if change is None else json.dumps(json.loads(description.read_text()) | change))
    with pytest.raises(StorageError, match=words):
        open_lmdb(tmp_path, PARTITIONS)


def test_a_log_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    open_lmdb(tmp_path, PARTITIONS).close()
    (tmp_path / "storage.json").unlink()
    with pytest.raises(StorageError, match=r"has a log but no storage\.json"):
        open_lmdb(tmp_path, PARTITIONS)


def test_rot_in_lmdb_is_never_returned(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, PARTITIONS)
    engine.put(store_key(1), record(1, 1, 500))
    engine.put(store_key(2), record(2, 2, 500))
    turn(engine)
    settle(engine)
    engine.close()
    data = tmp_path / "lmdb" / "data.mdb"
    damaged = bytearray(record(1, 1, 500))
    damaged[300] ^= 4
    data.write_bytes(data.read_bytes().replace(record(1, 1, 500), damaged))  # in old pages too
    again = open_lmdb(tmp_path, PARTITIONS)
    assert again.get(store_key(1)) is None
    assert again.get(store_key(2)) == record(2, 2, 500)
    assert again.scan(LOWEST, HIGHEST, 10) == [(store_key(2), record(2, 2, 500))]
    partition = store_key(1)[0] >> 2
    assert again.suspects == {partition}
    assert again.statistics()["rot_found"] == 2
    assert store_key(1) < store_key(2)
    assert again.scan(LOWEST, HIGHEST, 1) == [(store_key(2), record(2, 2, 500))]  # fewer than the limit would mean the end
    tick(again)
    again.close()
    third = open_lmdb(tmp_path, PARTITIONS)
    assert third.recovery.suspects == {partition}
    third.forgive(partition)
    tick(third)
    third.close()
    fourth = open_lmdb(tmp_path, PARTITIONS)
    assert fourth.suspects == set()
    fourth.close()
