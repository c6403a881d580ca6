"""A small share of the sweep over damaged pages and records (`python -m tests.storage.corruption` has the large run)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from dynamo_fast.disk import Disk
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.log_start import LogStart
from tests.storage.corruption import KINDS, SERVED, STALE, UNNOTICED, Place, Store, harmed, look, sweep
from tests.storage.engines import open_lmdb, settings, settle, tick
from tests.storage.records import hash_of, record, store_key

TRANSACTION_AT = 144  # in a meta page of LMDB


def test_no_damage_serves_wrong_bytes_or_goes_unnoticed() -> None:
    rows = {row.name: row.figure for row in sweep(90, seed=5)}
    assert rows["that served bytes never stored under their key"] == 0
    assert rows["that lost a record and did not know"] == 0
    assert rows["that could not be looked at"] == 0
    assert rows["that lacked a record, and knew"] > 10, "the damage is not harsh enough"


def test_a_look_tells_what_should_not_be(tmp_path: Path) -> None:
    """The judge itself: bytes that were never stored, and a version older than the newest, in a store that suspects nothing."""
    engine = open_lmdb(tmp_path, 16)
    engine.put(store_key(1), record(1, 1))
    engine.put(store_key(2), record(2, 1))
    engine.close()
    assert look(tmp_path, {store_key(1): [record(1, 1)], store_key(2): [record(2, 1)]}) == 0
    assert look(tmp_path, {store_key(1): [record(1, 5)], store_key(2): [record(2, 1)]}) & SERVED
    assert look(tmp_path, {store_key(1): [record(1, 1), record(1, 2)], store_key(2): [record(2, 1)]}) == STALE | UNNOTICED


def test_an_lmdb_that_went_back_by_a_transaction_is_noticed(tmp_path: Path) -> None:
    """Of its two meta pages the newer one is an earlier one again, so the tree before the last commit is found, whole and consistent; and
    the log no longer has what that commit brought."""
    versions = {store_key(number): [record(number, version) for version in range(3)] for number in range(40)}
    engine = LmdbEngine(tmp_path, Disk(), settings(checkpoint_fill=0.0, log_segment_bytes=2_000), partitions=16)
    for version in range(3):
        for key, stored in versions.items():
            engine.put(key, stored[version], hash_of(stored[version - 1]) if version else 0)
        engine.flush()
        settle(engine)
    while engine.log.bytes:
        tick(engine)
    engine.close()
    assert look(tmp_path, versions) == 0
    beginning = LogStart(Disk(), tmp_path / "log").read()
    with (tmp_path / "lmdb" / "data.mdb").open("r+b") as file:
        newer = max((0, 4096), key=lambda page: number_at(file, page + TRANSACTION_AT))
        number = number_at(file, newer + TRANSACTION_AT)
        file.seek(newer + TRANSACTION_AT)
        file.write((number - 2).to_bytes(8, "little"))
    assert beginning is not None
    assert beginning.transaction == number
    control = shutil.copytree(tmp_path, tmp_path / "control")
    start = LogStart(Disk(), control / "log")
    assert start.read() == beginning
    start.write(beginning._replace(transaction=0))
    assert look(control, versions) == STALE | UNNOTICED, "nothing else tells of it"
    again = open_lmdb(tmp_path, 16)
    assert any(again.get(key) != stored[-1] for key, stored in versions.items()), "this damage changes nothing"
    assert again.suspects == set(range(16))
    again.close()
    third = open_lmdb(tmp_path, 16)
    assert third.suspects == set(range(16))
    assert LogStart(Disk(), tmp_path / "log").read() == (beginning.position, number - 1), "the loss is known now, and not found anew"
    third.close()


def number_at(file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    return int.from_bytes(file.read(8), "little")


@pytest.mark.parametrize("kind", KINDS)
def test_harm_is_where_it_is_said_to_be(tmp_path: Path, kind: str) -> None:
    content = random.Random(3).randbytes(300)
    (tmp_path / "file").write_bytes(content)
    places = [Place("file", at, 100) for at in (0, 100, 200)]
    store = Store(tmp_path, {}, [{"file": bytes(300)}], places)
    changed = harmed(store, places[1], kind, random.Random(4))
    assert changed is not None
    assert changed != content
    if kind == "truncated":
        assert changed == content[:100]
    else:
        assert len(changed) == 300
        assert sorted({at // 100 for at in range(300) if changed[at] != content[at]}) in ([1], [0, 1], [1, 2])
