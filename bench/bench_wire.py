"""Frames and data messages from Python, of the size that the performance targets speak of: 16-byte keys, 100-byte values.

The node itself calls the same C without Python objects in between; what is seen here is what a client pays, and the
cost of checksums and copying on large values.
"""

from typing import Any

import pytest

from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler
from dynamo_fast.wire.data_messages import decode_get_reply, decode_put, encode_get, encode_get_reply, encode_put
from dynamo_fast.wire.frame import FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType

KEY, VALUE, CONTEXT, PUT_ID = b"k" * 16, b"v" * 100, b"c" * 88, b"i" * 16
PUT_BODY = encode_put(KEY, VALUE, put_id=PUT_ID, context=CONTEXT)
FRAMES = 100
STREAM = encode_frame(MessageType.PUT, PUT_BODY, 1) * FRAMES
PIECE_BYTES = 65536


class Ignore(PyFrameHandler):
    def on_frame(self, *_: Any) -> None:
        pass


def test_encode_put(benchmark: Any) -> None:
    benchmark(encode_put, KEY, VALUE, put_id=PUT_ID, context=CONTEXT)


def test_decode_put(benchmark: Any) -> None:
    benchmark(decode_put, PUT_BODY)


def test_encode_get(benchmark: Any) -> None:
    benchmark(encode_get, KEY)


def test_decode_get_reply(benchmark: Any) -> None:
    benchmark(decode_get_reply, encode_get_reply(CONTEXT, [(VALUE, False, 1_700_000_000_000)]))


def test_encode_frame(benchmark: Any) -> None:
    benchmark(encode_frame, MessageType.PUT, PUT_BODY, 1)


def test_cut_100_frames(benchmark: Any) -> None:
    benchmark(lambda: FrameCutter().feed(STREAM))


def test_hand_100_frames_to_a_handler(benchmark: Any) -> None:
    connection = Connection(Ignore(), Outbox())
    connection.hello_done = True
    benchmark(connection.feed, STREAM)


def test_send_100_frames(benchmark: Any) -> None:
    connection = Connection(Ignore(), Outbox())

    def send() -> None:
        for i in range(FRAMES):
            connection.send(MessageType.PUT_REPLY, CONTEXT, request_id=i)
        connection.take()

    benchmark(send)


@pytest.mark.parametrize("value_bytes", [1 << 20, 1 << 24], ids=["1MiB", "16MiB"])
def test_receive_a_large_frame_in_pieces(benchmark: Any, value_bytes: int) -> None:
    """64 KiB at a time, as a socket gives them: growth must not cost more than the checksum does."""
    frame = encode_frame(MessageType.PUT, bytes(value_bytes), 1)
    pieces = [frame[at : at + PIECE_BYTES] for at in range(0, len(frame), PIECE_BYTES)]

    def receive() -> None:
        cutter = FrameCutter()
        for piece in pieces:
            frames = cutter.feed(piece)
        assert len(frames) == 1

    benchmark(receive)
