"""Any bytes at all at the Cython and Python decoders: an error of the documented kind, or a message; and bounded memory.

Mutations of golden messages, with checksums mended so that what lies behind them is reached. The C below has its own
fuzzers (tests/fuzz); these come at it through the doors that the network and the client use.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_fast.wire import control_messages, data_messages
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.errors import ProtocolError, WireError
from dynamo_fast.wire.frame import MORE, PIECE, Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType
from tests.wire.dialogue import End
from tests.wire.golden import VECTORS

FRAME_BYTES_MAX = 1 << 16
SLACK = 1 << 16


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with a few pieces replaced, cut out, put in, repeated or swapped."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(changed)))
        end = min(len(changed), at + draw(st.integers(0, 8)))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(bytes(changed[at:end]) * 2), st.sampled_from([b"\xff" * 4, bytes(4)])))
        changed[at:end] = piece
    return bytes(changed)


BODIES = st.sampled_from(VECTORS).flatmap(lambda vector: st.tuples(st.just(vector.type), mutated(vector.body_bytes)))
MENDED = st.builds(
    lambda kind, flags, status, id: encode_frame(kind[0], kind[1], id, status, flags),
    BODIES, st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**64 - 1),
)
IN_PIECES = st.builds(
    lambda vector, length: b"".join(
        encode_frame(vector.type, vector.body_bytes[at : at + length], vector.request_id, vector.status,
                     PIECE | (MORE if at + length < len(vector.body_bytes) else 0))
        for at in range(0, len(vector.body_bytes), length)
    ),
    st.sampled_from(VECTORS), st.integers(1, 200),
)  # fmt: skip
STREAMS = st.lists(
    st.one_of(
        IN_PIECES,
        st.sampled_from(VECTORS).map(lambda vector: vector.frame),
        MENDED,
        st.sampled_from(VECTORS).flatmap(lambda vector: mutated(vector.frame)),
        st.binary(max_size=60),
    ),
    max_size=8,
).map(b"".join)
CUTS = st.lists(st.integers(1, 500), min_size=1, max_size=8)

DECODERS: dict[int, Callable[[bytes], Any]] = {
    MessageType.PUT: data_messages.decode_put,
    MessageType.GET: data_messages.decode_get,
    MessageType.GET_REPLY: data_messages.decode_get_reply,
    MessageType.REPLICATE: data_messages.decode_replicate,
    MessageType.READ: data_messages.decode_read,
}
CONTROL_DECODERS: dict[int, Callable[[bytes], Any]] = {
    MessageType.HELLO: control_messages.decode_hello,
    MessageType.HELLO_REPLY: control_messages.decode_hello_reply,
    MessageType.CONTROL: control_messages.decode_request,
    MessageType.CONTROL_REPLY: control_messages.decode_reply,
}


def pieces(stream: bytes, lengths: list[int]) -> list[bytes]:
    cut, at = [], 0
    while at < len(stream):
        n = lengths[len(cut) % len(lengths)]
        cut.append(stream[at : at + n])
        at += n
    return cut


def parse_and_answer(connection: Connection, frame: Frame) -> None:
    """What a node does with a stranger's frame, as far as this floor goes."""
    connection.hello_done = True
    try:
        if frame.type in DECODERS:
            DECODERS[frame.type](frame.body)
        elif frame.type in CONTROL_DECODERS:
            CONTROL_DECODERS[frame.type](frame.body)
    except (ProtocolError, control_messages.ControlMessageError) as problem:
        connection.send(frame.type % 255 + 1, str(problem).encode(), request_id=frame.request_id, status=16)
    if frame.request_id % 7 == 3:
        connection.close("a whim")


@settings(max_examples=400, deadline=None)
@given(STREAMS, CUTS, st.booleans(), st.booleans())
def test_a_connection_takes_any_stream(stream: bytes, lengths: list[int], known: bool, trusted: bool) -> None:
    """Nothing but a WireError comes out, memory follows what was received, and the cutter agrees frame by frame."""
    end = End(parse_and_answer, known=known, frame_bytes_max=FRAME_BYTES_MAX)
    end.connection.peer = b"peer" if trusted else None
    cutter, cut, failed = FrameCutter(FRAME_BYTES_MAX), [], False
    for piece in pieces(stream, lengths):
        try:
            end.connection.feed(piece)
        except WireError:
            failed = True
        incoming = end.connection.incoming
        assert incoming.capacity <= len(incoming) + SLACK
        try:
            cut += cutter.feed(piece)
        except ProtocolError:
            break
        if failed or end.connection.closing:
            break
    assert end.frames[: len(cut)] == cut[: len(end.frames)]
    FrameCutter().feed(end.connection.take())


@pytest.mark.parametrize("type", CONTROL_DECODERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_control_messages_take_any_bytes(type: int, data: st.DataObject) -> None:
    """A ControlMessageError, or a message that encodes and decodes to itself."""
    samples = [vector.body_bytes for vector in VECTORS if vector.type == type]
    body = data.draw(st.one_of(st.binary(max_size=100), st.sampled_from(samples).flatmap(mutated)))
    decode = CONTROL_DECODERS[type]
    try:
        message = decode(body)
    except control_messages.ControlMessageError:
        return
    assert decode(control_messages.encode(message)) == message


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa2op", b"\x81"], ids=["arrays", "op in op", "maps"])
@pytest.mark.parametrize("type", CONTROL_DECODERS)
def test_control_messages_nested_without_end(type: int, opening: bytes, depth: int) -> None:
    with pytest.raises(control_messages.ControlMessageError):
        CONTROL_DECODERS[type](opening * depth)


@pytest.mark.parametrize("announced", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
@pytest.mark.parametrize("type", CONTROL_DECODERS)
def test_control_messages_that_announce_more_than_they_hold(type: int, announced: bytes) -> None:
    """Arrays, maps, texts and bytes of four billion, in a body of a few bytes."""
    for body in (announced, b"\x81\xa2op" + announced, b"\x82\xa2op\xa6gossip\xa7records" + announced, b"\x81\xa8versions" + announced):
        with pytest.raises(control_messages.ControlMessageError):
            CONTROL_DECODERS[type](body)
