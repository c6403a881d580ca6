"""MD5 against RFC 1321's own vectors and against hashlib; the position of a key against the model."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.digest import key_position, md5, md5_many
from tests.models import ring as model

# RFC 1321, appendix A.5.
RFC_1321 = {
    b"": "d41d8cd98f00b204e9800998ecf8427e",
    b"a": "0cc175b9c0f1b6a831c399e269772661",
    b"abc": "900150983cd24fb0d6963f7d28e17f72",
    b"message digest": "f96b697d7cb7938d525a2f31aaf161d0",
    b"abcdefghijklmnopqrstuvwxyz": "c3fcd3d76192e4007dfb496cca67e13b",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": "d174ab98d277d9f5a5611c2c9f419d9f",
    b"12345678901234567890123456789012345678901234567890123456789012345678901234567890": "57edf4a22be3c955ac49da2e2107b67a",
}

messages = st.one_of(st.binary(max_size=300), st.integers(0, 5000).map(lambda n: bytes(i * 7 & 255 for i in range(n))))


@pytest.mark.parametrize(("message", "digest"), RFC_1321.items())
def test_vectors_of_rfc_1321(message: bytes, digest: str) -> None:
    assert md5(message).hex() == digest


def test_vectors_of_rfc_1321_side_by_side() -> None:
    assert [digest.hex() for digest in md5_many(list(RFC_1321) * 5)] == list(RFC_1321.values()) * 5


def test_every_length_around_the_blocks() -> None:
    for length in range(300):
        message = bytes(range(256)) * 2
        assert md5(message[:length]) == hashlib.md5(message[:length]).digest()


@given(st.lists(messages, max_size=70))
def test_many_messages_of_different_lengths(some: list[bytes]) -> None:
    assert md5_many(some) == [hashlib.md5(message).digest() for message in some]


@given(messages, st.binary(max_size=255))
def test_position(key: bytes, bucket: bytes) -> None:
    assert key_position(key, bucket) == model.key_position(key, bucket)


def test_every_length_of_bucket_and_key() -> None:
    for bucket_bytes in range(256):
        for key_bytes in (0, 1, 7, 54, 55, 56, 62, 63, 64, 65, 128, 200):
            key, bucket = b"k" * key_bytes, b"b" * bucket_bytes
            assert key_position(key, bucket) == model.key_position(key, bucket)


def test_pairs_that_join_to_the_same_bytes_stand_apart() -> None:
    assert key_position(b"bc", b"a") != key_position(b"c", b"ab") != key_position(b"\x01abc")


def test_any_contiguous_buffer_has_a_digest() -> None:
    assert md5(bytearray(b"abc")) == md5(memoryview(b"xabcx")[1:4]) == md5(b"abc")


def test_a_bucket_name_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most 255 bytes, not 256"):
        key_position(b"key", b"b" * 256)


@pytest.mark.parametrize("wrong", ["text", None, 7])
def test_only_bytes_are_hashed(wrong: object) -> None:
    for hashes in (md5, key_position, lambda value: md5_many([value])):
        with pytest.raises(TypeError):
            hashes(wrong)  # type: ignore[operator]
