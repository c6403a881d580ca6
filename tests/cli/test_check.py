"""check over data directories that are sound, damaged in every way, in use, or not ours; it finds each and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dynamo_fast.cli.main import main
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.storage.tables import open_tables
from tests.storage.disks import Unhurried
from tests.storage.engines import open_moving, settings, settle, turn
from tests.storage.records import record, store_key

PARTITIONS = 64
MOVED, LOGGED = range(300), range(300, 400)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records in LMDB, newer ones and removals in the log over them; left cleanly."""
    path = tmp_path_factory.mktemp("sound") / "data"
    path.mkdir()
    (path / "identity.json").write_text(json.dumps({"node_id": "0" * 31 + "1"}))
    (path / "FORMAT").write_text("1\n")
    (path / "LOCK").touch()
    engine = open_moving(path, PARTITIONS)
    for number in MOVED:
        engine.put(store_key(number), record(number, 0, 100))
    turn(engine)
    settle(engine)
    engine.close()
    engine = LmdbEngine(path, Unhurried(), settings(checkpoint_fill=9.0), partitions=PARTITIONS)
    for number in LOGGED:
        engine.put(store_key(number), record(number, 1, 100))
    for number in range(10):
        engine.put(store_key(number), record(number, 2, 100))
    for number in range(10, 20):
        engine.delete(store_key(number))
    engine.flush()
    engine.close()
    return path


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "data")
    return tmp_path / "data"


def fingerprint(path: Path) -> dict[str, tuple[str, int]]:
    return {str(file.relative_to(path)): (hashlib.md5(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
            for file in sorted(path.rglob("*")) if file.is_file()}  # fmt: skip


def checked(path: Path, code: int) -> dict[str, Any]:
    before = fingerprint(path)
    result = CliRunner().invoke(main, ["check", str(path), "--json"])
    assert result.exit_code == code, result.output
    assert fingerprint(path) == before, "it changed something"
    return json.loads(result.stdout) if code in (0, 1) else {"refusal": result.stderr}


def test_a_sound_directory(copied: Path) -> None:
    report = checked(copied, 0)
    assert report["clean"]
    assert not report["damage"]
    assert (report["records"], report["log_records"], report["torn_bytes"]) == (len(MOVED), len(MOVED) + len(LOGGED) + 20, 0)
    words = CliRunner().invoke(main, ["check", str(copied)])
    assert words.exit_code == 0
    assert "300 records in LMDB, 420 in " in words.output
    assert "sound" in words.output


def replaced(file: Path, old: bytes, new: bytes) -> None:
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


def in_tables(path: Path, change: Callable[[Any, Any], object]) -> None:
    tables = open_tables(path / "lmdb", 1 << 34)
    with tables.environment.begin(write=True) as transaction:
        change(transaction, tables)
    tables.environment.close()


def flip_a_record(path: Path) -> None:
    replaced(path / "lmdb" / "data.mdb", record(50, 0, 100), record(50, 0, 100)[:-1] + b"?")


def flip_a_log_record(path: Path) -> None:
    for file in (path / "log").glob("*.log"):
        file.write_bytes(file.read_bytes().replace(record(310, 1, 100), record(310, 1, 100)[:-1] + b"?"))


def lose_a_log_header(path: Path) -> None:
    for file in (path / "log").glob("*.log"):
        file.write_bytes(file.read_bytes().replace(store_key(320) + record(320, 1, 100), bytes(24) + record(320, 1, 100)))


def lose_a_key(path: Path) -> None:
    in_tables(path, lambda transaction, tables: transaction.delete(store_key(60), db=tables.records))


def swap(path: Path) -> None:
    def change(transaction: Any, tables: Any) -> None:
        transaction.put(store_key(70), record(71, 0, 100), db=tables.records)
        transaction.put(store_key(71), record(70, 0, 100), db=tables.records)

    in_tables(path, change)


def wrong_hash(path: Path) -> None:
    stored = encode_record(b"key-80", b"something else", hash=int.from_bytes(record(80, 0, 100)[32:40], "little"))
    in_tables(path, lambda transaction, tables: transaction.put(store_key(80), stored, db=tables.records))


def wrong_leaf(path: Path) -> None:
    in_tables(path, lambda transaction, tables: transaction.put((9).to_bytes(4, "big"), bytes(range(256)) * 8, db=tables.leaves))


def short_rows(path: Path) -> None:
    def change(transaction: Any, tables: Any) -> None:
        transaction.put((9).to_bytes(4, "big"), b"short", db=tables.leaves)
        transaction.put(b"\3", b"short", db=tables.moved)

    in_tables(path, change)


def no_lmdb(path: Path) -> None:
    shutil.rmtree(path / "lmdb")


def no_tables(path: Path) -> None:
    (path / "lmdb" / "data.mdb").write_bytes(b"\xff" * 8192)


def half_of_lmdb(path: Path) -> None:
    os.truncate(path / "lmdb" / "data.mdb", (path / "lmdb" / "data.mdb").stat().st_size // 3 // 4096 * 4096)


def no_log(path: Path) -> None:
    shutil.rmtree(path / "log")


def no_start(path: Path) -> None:
    (path / "log" / "start").unlink()


def garbage(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(b"\xfe\xff") and None


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_record, "records in LMDB that cannot be read"),
    (flip_a_log_record, "records of the log that are damaged or gone"),
    (lose_a_log_header, "records of the log that are damaged or gone"),
    (lose_a_key, "leaves in LMDB that are not the sums of its records"),
    (swap, "records under the store key of another"),
    (wrong_hash, "records whose hash is not their object's"),
    (wrong_leaf, "leaves in LMDB that are not the sums of its records"),
    (short_rows, "rows of moved positions with a wrong length"),
    (no_lmdb, "an LMDB that cannot be opened"),
    (no_tables, "an LMDB that cannot be opened"),
    (half_of_lmdb, ""),  # LMDB refuses it, or dies of it
    (no_log, "a log that is gone"),
    (no_start, "a beginning of the log that cannot be read"),
    (garbage("identity.json"), "an identity that cannot be read"),
    (garbage("membership"), "a history of the cluster that cannot be read"),
    (garbage("storage.json"), "a description that cannot be read"),
    (garbage("suspect.json"), "a list of suspects that cannot be read"),
]


@pytest.mark.parametrize(("harm", "what"), DAMAGES, ids=[f"{number}-{what[:40]}" for number, (_, what) in enumerate(DAMAGES)])
def test_damage_of_every_kind_is_found(copied: Path, harm: Callable[[Path], None], what: str) -> None:
    harm(copied)
    report = checked(copied, 1)
    assert not report["clean"]
    assert any(one["what"].startswith(what) for one in report["damage"]), report["damage"]
    assert all(one["count"] >= 1 and one["where"] and one["advice"] for one in report["damage"])


def test_a_table_says_what_where_how_many_and_what_to_do(copied: Path) -> None:
    flip_a_record(copied)
    words = CliRunner(env={"COLUMNS": "300"}).invoke(main, ["check", str(copied)])
    assert words.exit_code == 1
    assert "records in LMDB that cannot be read" in words.output
    assert f"partition {store_key(50)[0] >> 2}" in words.output
    assert "anti-entropy" in words.output


def test_a_torn_tail_is_no_damage(copied: Path) -> None:
    (copied / "clean").unlink()
    description = json.loads((copied / "storage.json").read_text())
    (copied / "storage.json").write_text(json.dumps(description | {"boot_id": "another"}))
    file = next(file for file in (copied / "log").glob("*.log") if record(9, 2, 100) in file.read_bytes())
    content = file.read_bytes()
    place = content.index(store_key(19), content.index(record(9, 2, 100)))
    file.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    report = checked(copied, 0)
    assert report["torn_bytes"] == 64
    assert "no damage" in CliRunner().invoke(main, ["check", str(copied)]).output


def test_what_is_in_use_or_foreign_is_refused(copied: Path, tmp_path: Path) -> None:
    engine = open_moving(copied, PARTITIONS)
    assert "in use by another process" in checked(copied, 7)["refusal"]
    engine.close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("dear diary")
    assert "not a data directory" in checked(tmp_path / "other", 7)["refusal"]
    (copied / "FORMAT").write_text("2\n")
    assert "data format 2" in checked(copied, 7)["refusal"]
