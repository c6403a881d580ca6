"""A small share of the power-cut images (`python -m tests.storage.images` has the large run), and proof that they are harsh."""

from __future__ import annotations

from tests.storage.images import Prefixes, judge_elsewhere, rows_of
from tests.storage.records import record, store_key


def test_every_image_of_log_and_lmdb_holds_a_prefix() -> None:
    tally = judge_elsewhere(seed=7, count=150)
    assert tally.violations == 0, tally
    assert tally.torn > 5, "the images are not harsh enough"
    assert tally.moved > 50, "nothing was moved to LMDB"
    assert [row.ok for row in rows_of(tally, 150)] == [True] * len(rows_of(tally, 150))


def test_a_disk_that_takes_no_notice_of_syncs_is_found_out() -> None:
    assert judge_elsewhere(seed=8, count=40, obedient=False).violations > 0


def test_a_prefix_is_recognised_and_nothing_else() -> None:
    first, second = (store_key(1), record(1, 1)), (store_key(2), record(2, 1))
    prefixes = Prefixes([first, second, (store_key(1), None)])
    assert [prefixes.longest(found) for found in ([], [first], [first, second], [second])] == [0, 1, 2, 3]
    assert prefixes.longest([(store_key(1), record(1, 2))]) is None
