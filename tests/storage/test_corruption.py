"""A small share of the sweep over damaged pages and records (`python -m tests.storage.corruption` has the large run)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.storage.corruption import KINDS, SERVED, STALE, UNNOTICED, Place, Store, harmed, look, sweep
from tests.storage.engines import open_lmdb
from tests.storage.records import record, store_key


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
