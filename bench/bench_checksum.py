"""CRC-32C of a small message and of a large value, by instruction and by table; SipHash of a context."""

from typing import Any

import pytest

from dynamo_fast.core.checksum import crc32c, crc32c_portable
from dynamo_fast.core.context import open_context, seal_context, siphash
from dynamo_fast.core.vector_clock import VectorClock

KEY = bytes(range(16))


@pytest.mark.parametrize("size", [200, 1 << 20])
def test_crc32c(benchmark: Any, size: int) -> None:
    benchmark.group = f"CRC-32C of {size} bytes"
    assert benchmark(crc32c, bytes(size)) == crc32c_portable(bytes(size))


@pytest.mark.parametrize("size", [200, 1 << 20])
def test_crc32c_by_table(benchmark: Any, size: int) -> None:
    benchmark.group = f"CRC-32C of {size} bytes"
    assert benchmark(crc32c_portable, bytes(size)) == crc32c(bytes(size))


def test_siphash_of_a_key(benchmark: Any) -> None:
    assert benchmark(siphash, KEY, b"user:1000017") >= 0


def test_seal_and_open_a_context(benchmark: Any) -> None:
    clock = VectorClock((bytes([number]) * 16, 1, 1, 0) for number in range(5))
    assert benchmark(lambda: open_context(KEY, KEY, KEY, seal_context(KEY, KEY, KEY, clock))) == (clock, None)
