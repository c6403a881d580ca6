"""CRC-32C from Python: RFC 3720's vectors, and that chunks, the instruction and the table agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.checksum import crc32c, crc32c_portable, has_instruction

VECTORS = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (bytes.fromhex("01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"),
     0xD9963A56),
]


@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_vectors_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == crc32c_portable(data) == expected


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_chunks_and_both_implementations_agree(head: bytes, tail: bytes) -> None:
    assert crc32c(head + tail) == crc32c(tail, crc32c(head)) == crc32c_portable(tail, crc32c_portable(head))
    assert crc32c(memoryview(head)) == crc32c(bytearray(head))


@given(st.binary(min_size=1, max_size=64), st.data())
def test_every_changed_bit_shows(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    assert crc32c(changed) != crc32c(data)


def test_what_is_no_buffer_is_refused() -> None:
    with pytest.raises(TypeError):
        crc32c("text")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        crc32c(b"", 2**32)
    assert has_instruction() in (True, False)
