"""docs/storage.md shows bytes; the code writes exactly those."""

from __future__ import annotations

import re
from pathlib import Path

from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.log_start import Beginning, LogStart
from dynamo_fast.storage.schema import encode_record, encode_store_key
from dynamo_fast.storage.tables import open_tables
from tests.storage.engines import SMALL, open_moving, settings, settle
from tests.storage.records import record, store_key

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"
BLOCK = re.compile(r"^```golden (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GOLDEN = {name: bytes.fromhex(text) for name, text in BLOCK.findall(PAGE.read_text())}


def test_the_golden_record() -> None:
    written = encode_record(b"k", b"obj", b"bk", mark_nonce=0x11, mark_epoch=0x22, hash=0x33, owed=5, placement_number=0x77)
    assert written == GOLDEN["record"]


def test_the_golden_log_records(tmp_path: Path) -> None:
    key = encode_store_key(bytes(range(16)), bytes(range(100, 116)), b"k", b"bk")
    engine = LmdbEngine(tmp_path, Disk(), SMALL, partitions=64)
    engine.put(key, GOLDEN["record"], 0x44)
    engine.delete(key)
    engine.flush()
    engine.close()
    content = (tmp_path / "log" / "0000000001.log").read_bytes()
    written = GOLDEN["log"] + GOLDEN["removal"]
    assert content[: len(written)] == written
    assert not any(content[len(written) :])


def test_the_directory_is_as_described(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, 64)
    engine.put(store_key(1), record(1, 1))
    engine.flush()
    settle(engine)
    engine.close()
    named = set(re.findall(r"`([\w./]+)`", PAGE.read_text()))
    for path in tmp_path.rglob("*"):
        name = path.name + "/" if path.is_dir() else path.name
        assert name in named or name.endswith(".log"), f"{name} is not described"


def test_the_rows_of_lmdb(tmp_path: Path) -> None:
    engine = open_moving(tmp_path, 64)
    engine.put(store_key(1), record(1, 1))
    engine.flush()
    position = engine.position
    settle(engine)
    leaves = engine.forest.leaves(engine.forest.place(store_key(1)[:16])[0])
    engine.close()
    tables = open_tables(tmp_path / "lmdb", 1 << 30)
    with tables.environment.begin() as transaction:
        assert transaction.get(store_key(1), db=tables.records) == record(1, 1)
        partition = store_key(1)[0] >> 2
        assert transaction.get(partition.to_bytes(4, "big"), db=tables.leaves) == leaves
        moved = transaction.get(bytes([store_key(1)[0] >> 4]), db=tables.moved)
    assert moved == position.to_bytes(8, "little") * 16
    tables.environment.close()


def test_where_the_log_begins_survives_a_torn_slot(tmp_path: Path) -> None:
    start = LogStart(Disk(), tmp_path)
    start.create()
    assert start.read() == (0, 0)
    for position in (1000, 2000, 3000):
        start.write(Beginning(position, position + 1))
        assert LogStart(Disk(), tmp_path).read() == (position, position + 1)
    content = bytearray((tmp_path / "start").read_bytes())
    for damaged in range(2):
        torn = bytearray(content)
        torn[512 * damaged + 10] ^= 1
        (tmp_path / "start").write_bytes(torn)
        again = LogStart(Disk(), tmp_path)
        assert again.read() in ((2000, 2001), (3000, 3001))
        again.write(Beginning(4000, 5))
        assert LogStart(Disk(), tmp_path).read() == (4000, 5)
    (tmp_path / "start").write_bytes(b"")
    assert LogStart(Disk(), tmp_path).read() is None


def test_a_lost_start_puts_everything_under_suspicion(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, Disk(), settings(), partitions=64)
    engine.put(store_key(1), record(1, 1))
    engine.close()
    (tmp_path / "log" / "start").unlink()
    again = LmdbEngine(tmp_path, Disk(), settings(), partitions=64)
    assert again.get(store_key(1)) == record(1, 1)
    assert again.suspects == set(range(64))
    again.close()
    written = LogStart(Disk(), tmp_path / "log").read()
    assert written is not None
    assert written.position == 0
