"""Store keys and records: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.storage.schema import decode_record, encode_record, encode_store_key

U16 = st.integers(0, 2**16 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=100), st.binary(max_size=64), U64, U64, U64, U16, U16)
def test_records_are_read_back(
    key: bytes, packed: bytes, bucket: bytes, nonce: int, epoch: int, entry: int, owed: int, placement: int
) -> None:
    written = encode_record(key, packed, bucket, mark_nonce=nonce, mark_epoch=epoch, hash=entry, owed=owed, placement_number=placement)
    assert len(written) == 40 + len(bucket) + len(key) + len(packed)
    assert decode_record(written) == (bucket, key, packed, nonce, epoch, entry, owed, placement)


def test_what_a_hint_owes_is_no_part_of_its_object() -> None:
    plain = encode_record(b"key", b"object", hash=3)
    hint = encode_record(b"key", b"object", hash=3, owed=0b101, placement_number=9)
    assert plain[4:12] + plain[16:] == hint[4:12] + hint[16:]
    for wide in ({"owed": 1 << 16}, {"placement_number": 1 << 16}, {"owed": -1}):
        with pytest.raises(OverflowError):
            encode_record(b"key", b"object", **wide)


def test_every_bit_counts_and_every_cut_is_seen() -> None:
    written = encode_record(b"key", b"object", b"bucket", mark_nonce=1, mark_epoch=2, hash=3)
    for bit in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="not a record"):
            decode_record(bytes(damaged))
    for n in range(len(written)):
        with pytest.raises(ValueError, match="not a record"):
            decode_record(written[:n])
    with pytest.raises(ValueError, match="lengths"):
        decode_record(written + b"\0")


def test_golden_bytes() -> None:
    """The page docs/storage.md shows these bytes."""
    written = encode_record(b"k", b"obj", b"bk", mark_nonce=0x11, mark_epoch=0x22, hash=0x33, owed=5, placement_number=0x77)
    assert written.hex() == (
        "e3b9de62" "01020100" "03000000" "05007700" "1100000000000000" "2200000000000000" "3300000000000000" "626b6b6f626a"
    )  # fmt: skip
    assert encode_store_key(bytes(range(16)), bytes(range(100, 116)), b"k", b"bk").hex() == (
        "6465666768696a6b6c6d6e6f70717273" "dc4e6320160b9643"
    )  # fmt: skip


def test_buckets_and_keys_do_not_run_together() -> None:
    position = bytes(16)
    assert encode_store_key(position, position, b"bc", b"a") != encode_store_key(position, position, b"c", b"ab")
    assert encode_store_key(position, position, b"a") != encode_store_key(b"\1" * 16, position, b"a")


@pytest.mark.parametrize(("key", "bucket"), [(b"", b""), (b"k" * 4097, b""), (b"k", b"b" * 65)])
def test_names_have_bounds(key: bytes, bucket: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode_record(key, b"", bucket)
    with pytest.raises(ValueError, match="bytes"):
        encode_store_key(bytes(16), bytes(16), key, bucket)
