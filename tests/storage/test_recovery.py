"""Reading the log back: torn tails are cut, rot is stepped over and told, and the two are never taken for each other."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo_fast.core.merkle import Forest
from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.log import segment_name
from dynamo_fast.storage.log_start import Beginning, LogStart
from dynamo_fast.storage.recovery import Replay
from dynamo_fast.storage.write_buffer import WriteBuffer
from tests.storage.disks import Unhurried, Unreadable
from tests.storage.engines import open_lmdb, open_moving, settings, settle, turn
from tests.storage.records import HIGHEST, LOWEST, Write, after, forest_of, record, roots, store_key, write

PARTITIONS = 64
WRITES = 24
SYNCED = 14  # of them, before a durable sync of which the later ones tell

Written = tuple[Path, list[Write], list[int]]


@pytest.fixture
def written(tmp_path: Path, wait_for_sync: Callable[[LmdbEngine], None]) -> Written:
    """A log of one segment: its directory, the writes in order, the positions at which they begin and the end."""
    writes = [
        (store_key(number), record(number, 1, 3 * number)) if number % 4 else (store_key(number - 2), None)
        for number in range(2, WRITES + 2)
    ]
    positions = []
    engine = open_lmdb(tmp_path / "store", PARTITIONS)
    for number, (key, stored) in enumerate(writes):
        positions.append(engine.position)
        write(engine, key, stored)
        engine.flush()
        if number == SYNCED - 1:
            engine.sync()
            wait_for_sync(engine)
            assert engine.durable == engine.position
    positions.append(engine.position)
    engine.close()
    return tmp_path / "store" / "log", writes, positions


def payload_bytes(written: Write) -> int:
    return 0 if written[1] is None else len(written[1])


def replay(directory: Path, same_boot: bool = False, disk: Disk | None = None) -> tuple[Replay, dict[bytes, bytes]]:
    buffer, forest = WriteBuffer(1 << 20), Forest(PARTITIONS, 256)
    found = Replay(disk or Unhurried(), buffer, forest, [0] * 256)
    beginning = LogStart(Disk(), directory).read() or Beginning(0, 0)
    found.run(directory, beginning, beginning.transaction, same_boot, 0)
    if found.rot_records:
        found.mend_base_hashes(lambda store_key: 0)
    content = dict(buffer.scan(LOWEST, HIGHEST, 10_000))
    assert roots(forest) == roots(forest_of(content, PARTITIONS))
    return found, content


def segment_of(directory: Path) -> Path:
    """The one that was used."""
    return max(directory.glob("*.log"), key=lambda path: path.stat().st_size)


def test_a_tail_torn_at_every_byte(written: Written, tmp_path: Path) -> None:
    directory, writes, positions = written
    content = segment_of(directory).read_bytes()[: positions[-1]]
    fillings = [lambda n: b"", lambda n: bytes(n), lambda n: random.Random(n).randbytes(n)]
    for cut in range(positions[SYNCED], positions[-1] + 1):
        for filling in fillings[: 3 if cut % 7 == 0 else 1]:
            # Whatever stands in the few bytes of padding after a record, the record is whole.
            ends = (
                positions[1:]
                if filling is fillings[0]
                else [at + 64 + payload_bytes(one) for at, one in zip(positions, writes, strict=False)]
            )
            whole = sum(end <= cut for end in ends)
            image = tmp_path / "image"
            image.mkdir(exist_ok=True)
            (image / segment_name(1)).write_bytes(content[:cut] + filling(positions[-1] - cut))
            found, recovered = replay(image)
            assert recovered == after(writes[:whole])
            assert (found.rot_records, found.end, found.segments[-1].end) == (0, positions[whole], positions[whole])
            assert (image / segment_name(1)).stat().st_size == positions[whole], "the torn bytes are gone"
            if cut % 7 == 0:
                again, recovered = replay(image)
                assert (again.torn_bytes, recovered) == (0, after(writes[:whole]))


@pytest.mark.parametrize("same_boot", [False, True])
def test_every_byte_damaged_in_turn(written: Written, tmp_path: Path, same_boot: bool) -> None:
    directory, writes, positions = written
    content = segment_of(directory).read_bytes()[: positions[-1]]
    image = tmp_path / "image"
    image.mkdir()
    for at in range(0, positions[-1], 5):
        hit = sum(end <= at for end in positions[1:])
        padding = at - positions[hit] >= 64 + payload_bytes(writes[hit])
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        (image / segment_name(1)).write_bytes(damaged)
        found, recovered = replay(image, same_boot)
        if padding:
            assert recovered == after(writes)
        elif hit < SYNCED or (same_boot and hit < WRITES - 1):
            assert found.rot_records == 1
            assert recovered == after(writes[:hit] + writes[hit + 1 :])
            in_header = at - positions[hit] < 64
            assert found.rot_partitions == (set(range(PARTITIONS)) if in_header else {writes[hit][0][0] >> 2})
            assert found.end == positions[-1]
        else:
            assert (found.rot_records, found.rot_partitions) == (0, set())
            assert recovered == after(writes[:hit])
            assert found.torn_bytes > 0


def segments(tmp_path: Path) -> tuple[Path, dict[bytes, bytes], list[Path]]:
    """A log of many full segments, all synced, and one more that knows it."""
    engine = LmdbEngine(tmp_path / "store", Disk(), settings(log_segment_bytes=3000, checkpoint_fill=9.0), partitions=PARTITIONS)
    model = {}
    for number in range(80):
        key, stored = store_key(number), record(number, 0, 100)
        engine.put(key, stored)
        turn(engine)
        model[key] = stored
    engine.close()
    second = LmdbEngine(tmp_path / "store", Disk(), settings(log_segment_bytes=3000, checkpoint_fill=9.0), partitions=PARTITIONS)
    second.put(store_key(80), record(80, 0))
    model[store_key(80)] = record(80, 0)
    second.close()
    log = tmp_path / "store" / "log"
    used = [path for path in sorted(log.glob("*.log")) if path.read_bytes().strip(b"\0")]
    assert len(used) > 5
    return log, model, used


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("damage", ["empty", "zeros", "noise", "unreadable"])
def test_a_lost_segment_is_told_and_the_others_are_kept(tmp_path: Path, which: int, damage: str) -> None:
    log, model, used = segments(tmp_path)
    victim = used[which]
    lost = {key: stored for key, stored in model.items() if stored in victim.read_bytes()}
    size = victim.stat().st_size
    if damage != "unreadable":
        victim.write_bytes({"empty": b"", "zeros": bytes(size), "noise": random.Random(1).randbytes(size)}[damage])
    found, recovered = replay(log, disk=Unreadable(victim) if damage == "unreadable" else None)
    assert recovered == {key: stored for key, stored in model.items() if key not in lost}
    assert found.rot_partitions == set(range(PARTITIONS))


def test_a_truncated_segment_in_the_middle_is_rot(tmp_path: Path) -> None:
    log, model, used = segments(tmp_path)
    content = used[1].read_bytes()
    used[1].write_bytes(content[:1000])
    found, recovered = replay(log)
    missing = set(model) - set(recovered)
    assert 0 < len(missing) < 20
    assert found.rot_partitions == set(range(PARTITIONS))


def test_segments_after_a_torn_one_are_cut_too(tmp_path: Path, wait_for_sync: Callable[[LmdbEngine], None]) -> None:
    """The kernel may have written the second file and not the first; a prefix is what counts."""
    engine = LmdbEngine(tmp_path / "store", Disk(), settings(log_segment_bytes=3000, sync_seconds=1e6), partitions=PARTITIONS)
    puts = [(store_key(number), record(number, 0, 100)) for number in range(40)]
    for key, stored in puts:
        engine.put(key, stored)
        turn(engine)
    assert engine.durable == 0
    log = tmp_path / "store" / "log"
    image = tmp_path / "image"
    shutil.copytree(log, image)
    engine.close()
    first = sorted(image.glob("*.log"))[0]
    damaged = bytearray(first.read_bytes())
    damaged[1000] ^= 1
    first.write_bytes(damaged)
    found, recovered = replay(image)
    assert found.rot_records == 0
    whole = [key in recovered for key, _ in puts]
    assert whole == sorted(whole, reverse=True)
    assert 0 < sum(whole) < 6
    assert len(list(image.glob("*.log"))) == 1


def test_after_rot_the_trees_still_say_what_is_there(tmp_path: Path) -> None:
    """The versions: one in LMDB, two in the log, of which the first is damaged; the second names it as its predecessor."""
    store = tmp_path / "store"
    engine = open_moving(store, PARTITIONS)
    engine.put(store_key(1), record(1, 0))
    engine.flush()
    settle(engine)
    engine.close()
    engine = open_lmdb(store, PARTITIONS)
    for version in (1, 2):
        engine.put(store_key(1), record(1, version))
    engine.put(store_key(2), record(2, 0))
    engine.close()
    path = max((store / "log").glob("*.log"), key=lambda path: path.read_bytes().find(record(1, 1)))
    path.write_bytes(path.read_bytes().replace(record(1, 1), record(1, 1)[:-1] + b"?"))
    for opener in (open_lmdb, open_moving, open_lmdb):
        engine = opener(store, PARTITIONS)
        model = {store_key(1): record(1, 2), store_key(2): record(2, 0)}
        assert engine.scan(LOWEST, HIGHEST, 10) == sorted(model.items())
        assert roots(engine.forest) == roots(forest_of(model, PARTITIONS))
        assert engine.suspects == {store_key(1)[0] >> 2}
        if opener is open_moving:
            settle(engine)
        engine.close()


def test_a_disk_that_fails_while_the_tail_is_cut_stops_the_start(written: Written) -> None:
    directory, _, positions = written
    path = segment_of(directory)
    path.write_bytes(path.read_bytes()[: positions[-1] - 5])

    class Stubborn(Disk):
        def open(self, path: Path, *, create: bool = False) -> None:  # type: ignore[override]
            raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(OSError, match="Read-only"):
        replay(directory, disk=Stubborn())
