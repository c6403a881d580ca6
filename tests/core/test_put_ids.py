"""The memory of put ids: long enough, bounded."""

import random

import pytest

from dynamo_fast.core.put_ids import PutIds


def test_an_id_is_kept_for_twice_its_deadline_and_forgotten_in_the_end() -> None:
    ids = PutIds(salt=1, ids_max=100)
    first = bytes(range(16))
    assert ids.remember(first, 1000, now_ms=0)
    for now_ms in range(1, 2000, 100):
        ids.remember(random.Random(now_ms).randbytes(16), 1000, now_ms)
        assert first in ids
    for now_ms in range(2000, 6001, 100):
        ids.remember(random.Random(now_ms).randbytes(16), 1000, now_ms)
    assert first not in ids


def test_a_long_deadline_is_kept_among_short_ones() -> None:
    ids = PutIds(salt=1, ids_max=1000)
    long_lived = b"L" * 16
    ids.remember(b"a" * 16, 10, now_ms=0)
    ids.remember(long_lived, 5000, now_ms=5)
    for now_ms in range(10, 10_000, 50):
        ids.remember(random.Random(now_ms).randbytes(16), 10, now_ms)
        assert long_lived in ids


def test_short_deadlines_do_not_shorten_what_was_promised_before() -> None:
    ids = PutIds(salt=1, ids_max=1000)
    ids.remember(b"a" * 16, 1000, now_ms=0)
    kept = b"K" * 16
    ids.remember(kept, 1000, now_ms=1999)
    for now_ms in range(2000, 1999 + 2000):
        ids.remember(random.Random(now_ms).randbytes(16), 1, now_ms)
        assert kept in ids


def test_a_full_table_says_so_and_recovers() -> None:
    ids = PutIds(salt=1, ids_max=10)
    source = random.Random(0)
    assert all(ids.remember(source.randbytes(16), 100, now_ms=0) for _ in range(10))
    assert not ids.remember(source.randbytes(16), 100, now_ms=1)
    assert ids.remember(source.randbytes(16), 100, now_ms=1000)


def test_many_ids_are_all_found_and_no_stranger_is() -> None:
    ids = PutIds(salt=12345, ids_max=100_000)
    source = random.Random(7)
    known = [source.randbytes(16) for _ in range(50_000)]
    for put_id in known:
        ids.remember(put_id, 1000, now_ms=1)
    assert len(ids) == 50_000
    assert all(put_id in ids for put_id in known)
    assert not any(source.randbytes(16) in ids for _ in range(10_000))


def test_the_id_of_zeros_is_nobodys_and_other_lengths_are_refused() -> None:
    ids = PutIds(salt=1, ids_max=10)
    assert ids.remember(bytes(16), 1000, now_ms=0)
    assert bytes(16) not in ids
    with pytest.raises(ValueError, match="16 bytes"):
        ids.remember(b"short", 1000, now_ms=0)
