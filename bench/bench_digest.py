"""What MD5 costs: one message, sixteen side by side, and hashlib's beside them."""

import hashlib

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dynamo_fast.core.digest import key_position, md5, md5_many


@pytest.mark.parametrize("message_bytes", [16, 250, 4096])
def test_md5(benchmark: BenchmarkFixture, message_bytes: int) -> None:
    benchmark.group = f"MD5 of {message_bytes} bytes"
    assert len(benchmark(md5, bytes(message_bytes))) == 16


@pytest.mark.parametrize("message_bytes", [16, 250, 4096])
def test_md5_of_hashlib(benchmark: BenchmarkFixture, message_bytes: int) -> None:
    benchmark.group = f"MD5 of {message_bytes} bytes"
    message = bytes(message_bytes)
    assert len(benchmark(lambda: hashlib.md5(message).digest())) == 16


@pytest.mark.parametrize("message_bytes", [16, 250, 4096])
def test_md5_of_a_thousand(benchmark: BenchmarkFixture, message_bytes: int) -> None:
    messages = [b"%0*d" % (message_bytes, number) for number in range(1000)]
    assert len(benchmark(md5_many, messages)) == 1000


def test_key_position_in_a_bucket(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(key_position, b"customer-0000001", b"carts")) == 16
