"""Frames: what goes in comes out however it is cut, and what is damaged or too long never gets through."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.wire.errors import ProtocolError
from dynamo_fast.wire.frame import FRAME_BYTES_MAX, HEADER_BYTES, MORE, PIECE, Frame, FrameCutter, encode_frame
from tests.models import wire as model

U8, U16, U64 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1)
WHOLE = U8.map(lambda flags: flags & ~(PIECE | MORE))
FRAMES = st.builds(Frame, type=U8, flags=WHOLE, status=U16, request_id=U64, body=st.binary(max_size=300))


def encoded(frame: Frame) -> bytes:
    return encode_frame(frame.type, frame.body, frame.request_id, frame.status, frame.flags)


@given(FRAMES)
def test_the_bytes_are_those_of_the_model(frame: Frame) -> None:
    parts = model.frame(frame.type, frame.body, frame.request_id, frame.status, frame.flags)
    assert encoded(frame) == model.joined(parts) + frame.body
    assert len(model.joined(parts)) == HEADER_BYTES


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 400), min_size=1))
def test_frames_survive_any_cutting(frames: list[Frame], lengths: list[int]) -> None:
    stream, cutter, got, i = b"".join(map(encoded, frames)), FrameCutter(), [], 0
    while stream:
        n = lengths[i % len(lengths)]
        got += cutter.feed(stream[:n])
        stream, i = stream[n:], i + 1
    assert got == frames
    assert cutter.pending_bytes == 0


@given(FRAMES)
def test_every_single_flipped_bit_is_caught(frame: Frame) -> None:
    """One bit flipped anywhere: an error, never a frame and never a wait for bytes that do not come."""
    data = encoded(frame)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            FrameCutter().feed(bytes(damaged))


@given(FRAMES, st.data())
def test_a_burst_of_up_to_32_bits_is_caught(frame: Frame, data: st.DataObject) -> None:
    """What a CRC of 32 bits promises. Header and body each have their own, so a burst over both is two shorter ones."""
    good = encoded(frame)
    at = data.draw(st.integers(0, len(good) - 4))
    burst = data.draw(st.integers(1, 2**32 - 1))
    damaged = bytearray(good)
    for i, byte in enumerate(struct.pack("<I", burst)):
        damaged[at + i] ^= byte
    with pytest.raises(ProtocolError):
        FrameCutter().feed(bytes(damaged))


def test_a_length_is_believed_only_after_the_header_checksum() -> None:
    damaged = bytearray(encode_frame(16, b"hello", 1))
    damaged[3] = 0xFF
    with pytest.raises(ProtocolError, match="header fails its checksum"):
        FrameCutter().feed(bytes(damaged[:HEADER_BYTES]))


def test_a_length_bomb_is_refused_at_its_header() -> None:
    header = model.joined(model.frame(16, b""))[:20]
    header = struct.pack("<I", 0xFFFFFFFF) + header[4:]
    bomb = header + struct.pack("<I", model.crc32c(header))
    with pytest.raises(ProtocolError, match="longer than this connection allows"):
        FrameCutter().feed(bomb)


@pytest.mark.parametrize("excess", [0, 1])
def test_the_longest_frame(excess: int) -> None:
    cutter = FrameCutter(100)
    data = encode_frame(16, b"x" * (100 + excess))
    if excess:
        with pytest.raises(ProtocolError):
            cutter.feed(data)
    else:
        assert [len(frame.body) for frame in cutter.feed(data)] == [100]
    assert FrameCutter().body_bytes_max == FRAME_BYTES_MAX


@pytest.mark.parametrize(
    "data", [bytes(24), b"\xff" * 24, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"]
)
def test_other_protocols_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="header fails its checksum"):
        FrameCutter().feed(data)


def test_pending_bytes_tell_a_stream_that_ended_in_a_frame() -> None:
    cutter = FrameCutter()
    assert cutter.feed(encode_frame(16, b"abc")[:-1]) == []
    assert cutter.pending_bytes == HEADER_BYTES + 2


@pytest.mark.parametrize("wrong", [{"type": 256}, {"flags": -1}, {"status": 65536}, {"request_id": 2**64}])
def test_a_field_that_does_not_fit_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OverflowError):
        encode_frame(**({"type": 1} | wrong))


def test_frames_show_themselves() -> None:
    frame = Frame(16, 1, 2, 3, b"x" * 50)
    assert repr(frame) == f"Frame(type=16, flags=1, status=2, request_id=3, body={b'x' * 40!r}...)"
    assert frame == Frame(16, 1, 2, 3, b"x" * 50) != Frame(16, 1, 2, 4, b"x" * 50)
    assert frame != (16, 1, 2, 3, b"x" * 50)
