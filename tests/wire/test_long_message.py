"""Messages in pieces: whole again however they are cut, one after the other, with others between them, and bounded by what came."""

from __future__ import annotations

import re

import pytest

from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler
from dynamo_fast.wire.errors import MessageTooLong, OutgoingFull, ProtocolError
from dynamo_fast.wire.frame import HEADER_BYTES, MORE, PIECE, SAME, Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.wire.dialogue import Answer, End, talk

PING, READ_REPLY, REPLICATE = MessageType.PING, MessageType.READ_REPLY, MessageType.REPLICATE
WHOLE_BYTES_MAX, PIECE_BYTES = 100, 40
SLACK = 65536
BODY = bytes(range(131))


def peer(answer: Answer | None = None, *, message_bytes_max: int = 1 << 20, outgoing_bytes_max: int = 1 << 20) -> End:
    """An end whose other side is a peer that takes pieces; they are short here."""
    end = End(answer)
    made = Connection(end.handler, end.outbox, frame_bytes_max=500, message_bytes_max=message_bytes_max,
                      outgoing_bytes_max=outgoing_bytes_max, label="test")  # fmt: skip
    made.hello_done, made.peer = True, b"peer"
    made.takes_bytes_max, made.whole_bytes_max, made.piece_bytes = 1 << 20, WHOLE_BYTES_MAX, PIECE_BYTES
    end.connection = made
    return end


def in_pieces(body: bytes, type: int = REPLICATE, request_id: int = 7, *, flags: int = 0) -> bytes:
    """The frames of a message, written from docs/protocol.md."""
    parts = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
    return b"".join(
        encode_frame(type, part, request_id, 0, flags | PIECE | (0 if number == len(parts) - 1 else MORE))
        for number, part in enumerate(parts)
    )


@pytest.mark.parametrize("body_bytes", [101, 119, 120, 121, 131])
def test_a_long_body_goes_in_pieces_and_comes_out_as_one_frame(body_bytes: int) -> None:
    one, two = peer(), peer()
    one.connection.send(READ_REPLY, BODY[:body_bytes], request_id=7, status=Status.OK, flags=SAME)
    sent = one.connection.take()
    assert sent == in_pieces(BODY[:body_bytes], READ_REPLY, flags=SAME)
    two.connection.feed(sent)
    assert two.frames == [Frame(READ_REPLY, SAME, Status.OK, 7, BODY[:body_bytes])]
    assert two.connection.held_bytes == 0


def test_a_body_that_is_not_too_long_for_a_frame_goes_in_one() -> None:
    one = peer()
    one.connection.send(REPLICATE, BODY[:WHOLE_BYTES_MAX], request_id=7)
    assert one.connection.take() == encode_frame(REPLICATE, BODY[:WHOLE_BYTES_MAX], 7)


TWO_PIECES = 2 * (HEADER_BYTES + PIECE_BYTES)
STREAM = b"".join([
    in_pieces(BODY)[:TWO_PIECES], encode_frame(PING, b"", 1), in_pieces(BODY)[TWO_PIECES:],
    in_pieces(BODY[:90], request_id=0), encode_frame(PING, b"", 2),
])  # fmt: skip
SAID = [Frame(PING, 0, 0, 1), Frame(REPLICATE, 0, 0, 7, BODY), Frame(REPLICATE, 0, 0, 0, BODY[:90]), Frame(PING, 0, 0, 2)]


def test_pieces_are_put_together_wherever_the_stream_is_cut() -> None:
    """In two at every byte, and into single ones; by a node's connection and by a client's cutter alike."""
    for at in range(len(STREAM) + 1):
        end, cutter = peer(), FrameCutter(1000)
        for part in (STREAM[:at], STREAM[at:]):
            end.connection.feed(part)
        assert end.frames == SAID
        assert cutter.feed(STREAM[:at]) + cutter.feed(STREAM[at:]) == SAID
        assert end.connection.held_bytes == cutter.pending_bytes == 0
    end, cutter, cut = peer(), FrameCutter(1000), []
    for byte in STREAM:
        end.connection.feed(bytes([byte]))
        cut += cutter.feed(bytes([byte]))
    assert end.frames == cut == SAID


@pytest.mark.parametrize("step_bytes", [1, 7, 63, 64, 65, 1000])
def test_a_dialogue_of_long_messages_however_it_is_carried(step_bytes: int) -> None:
    def echo(connection: Connection, frame: Frame) -> None:
        if frame.type == REPLICATE:
            connection.send(READ_REPLY, frame.body[::-1], request_id=frame.request_id)

    one, two = peer(), peer(echo)
    bodies = [BODY[:n] for n in (131, 5, 120, 101, 0)]
    for number, body in enumerate(bodies):
        one.connection.send(REPLICATE, body, request_id=number)
    talk(one, two, step_bytes)
    assert sorted((frame.request_id, frame.body) for frame in one.frames) == [(n, body[::-1]) for n, body in enumerate(bodies)]
    assert one.connection.held_bytes == two.connection.held_bytes == 0


def test_small_messages_go_between_pieces_and_those_in_order_behind_them() -> None:
    one, two = peer(), peer()
    one.connection.send(REPLICATE, BODY, request_id=1)
    one.connection.send(REPLICATE, BODY[:110], request_id=2)
    one.connection.send(PING, b"", request_id=3, in_order=True)
    one.connection.send(PING, b"", request_id=4)
    two.connection.feed(one.connection.take(2 * HEADER_BYTES + PIECE_BYTES))
    one.connection.send(PING, b"", request_id=5)
    talk(one, two)
    assert [frame.request_id for frame in two.frames] == [4, 5, 1, 2, 3]
    one.connection.send(PING, b"", request_id=6, in_order=True)
    assert one.connection.take() == encode_frame(PING, b"", 6), "nothing is before it"


def test_what_waits_to_be_sent_is_a_piece_and_not_the_message() -> None:
    one = peer()
    one.connection.send(REPLICATE, bytes(10_000), request_id=1)
    assert len(one.connection.outgoing) == 0
    assert one.connection.waiting_bytes == HEADER_BYTES + 10_000
    one.connection.take(1)
    assert len(one.connection.outgoing) < 2 * (HEADER_BYTES + PIECE_BYTES)
    assert one.connection.pieces == 1


# Who may


def test_of_whoever_is_no_peer_nothing_is_put_together() -> None:
    end = peer()
    end.connection.peer = None
    with pytest.raises(ProtocolError, match="pieces from somebody who may not send one"):
        end.connection.feed(in_pieces(BODY)[: HEADER_BYTES + PIECE_BYTES])
    assert end.connection.held_bytes == 0
    assert end.frames == []


def test_whoever_takes_no_pieces_is_sent_none() -> None:
    end = End(frame_bytes_max=3 << 20)
    end.connection.send(READ_REPLY, bytes(3 << 20), request_id=1)
    assert end.connection.take() == encode_frame(READ_REPLY, bytes(3 << 20), 1)
    with pytest.raises(MessageTooLong, match=r"a message of 3145729 bytes, and the other side takes at most 3145728"):
        end.connection.send(READ_REPLY, bytes((3 << 20) + 1), request_id=2)
    end.connection.takes_bytes_max = 4 << 20
    end.connection.send(READ_REPLY, bytes(4 << 20), request_id=3)
    with pytest.raises(MessageTooLong, match="4194304"):
        end.connection.send(READ_REPLY, bytes((4 << 20) + 1), request_id=4)
    frames = FrameCutter(4 << 20).feed(end.connection.take())
    assert [(frame.request_id, len(frame.body)) for frame in frames] == [(3, 4 << 20)], "the connection is sound"


# What is wrong


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (encode_frame(REPLICATE, b"x", 8, 0, PIECE), "another message"),
        (encode_frame(READ_REPLY, b"x", 7, 0, PIECE), "another message"),
        (encode_frame(REPLICATE, b"x", 7, 1, PIECE), "another message"),
        (encode_frame(REPLICATE, b"x", 7, 0, PIECE | SAME), "another message"),
        (encode_frame(REPLICATE, b"", 7, 0, PIECE | MORE), "piece of nothing"),
        (encode_frame(REPLICATE, b"", 7, 0, PIECE), "piece of nothing"),
    ],
)
def test_pieces_that_do_not_belong_together(second: bytes, message: str) -> None:
    first = in_pieces(BODY)[: HEADER_BYTES + PIECE_BYTES]
    end, cutter = peer(), FrameCutter(1000)
    for feed in (end.connection.feed, cutter.feed):
        feed(first)
        with pytest.raises(ProtocolError, match=message):
            feed(second)
    assert end.frames == []


def test_pieces_without_end_meet_the_limit() -> None:
    """And until then memory follows what came, a length bomb in the middle included."""
    end, cutter, fed = peer(message_bytes_max=1_000_000), FrameCutter(1_000_000), 0
    piece = encode_frame(REPLICATE, bytes(400), 7, 0, PIECE | MORE)
    while fed + 400 <= 1_000_000:
        end.connection.feed(piece)
        cutter.feed(piece)
        fed += 400
        assert end.connection.held_bytes == cutter.pending_bytes == fed
    for feed in (end.connection.feed, cutter.feed):
        with pytest.raises(ProtocolError, match="message is longer than this connection allows"):
            feed(encode_frame(REPLICATE, bytes(1_000_000 - fed + 1), 7, 0, PIECE | MORE))
    assert end.frames == []


def test_a_piece_is_no_longer_than_any_frame() -> None:
    end = peer()
    with pytest.raises(ProtocolError, match="frame is longer"):
        end.connection.feed(encode_frame(REPLICATE, bytes(501), 7, 0, PIECE | MORE)[:HEADER_BYTES])


def test_what_a_handler_raises_for_a_long_message_reaches_who_received() -> None:
    def fail(connection: Connection, frame: Frame) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        peer(fail).connection.feed(in_pieces(BODY))


def test_a_handler_may_close_and_answer_at_length() -> None:
    def refuse(connection: Connection, frame: Frame) -> None:
        connection.send(READ_REPLY, BODY, request_id=frame.request_id)
        connection.close("had enough")
        connection.send(READ_REPLY, BODY, request_id=99)

    one, two = peer(refuse), peer()
    one.connection.feed(in_pieces(BODY) + in_pieces(BODY))
    assert len(one.frames) == 1
    talk(one, two)
    assert two.frames == [Frame(READ_REPLY, 0, 0, 7, BODY)]


def test_each_piece_is_a_sign_of_life_and_a_message_is_owed_one_answer() -> None:
    end = peer()
    pieces = len(in_pieces(BODY)) // (HEADER_BYTES + PIECE_BYTES)
    end.connection.feed(in_pieces(BODY)[: pieces * (HEADER_BYTES + PIECE_BYTES)])
    assert (end.connection.frames, end.connection.owed) == (pieces, 0)
    end.connection.feed(in_pieces(BODY)[pieces * (HEADER_BYTES + PIECE_BYTES) :])
    assert (end.connection.frames, end.connection.owed) == (pieces + 1, 1)
    end.connection.send(READ_REPLY, BODY, request_id=7)
    assert end.connection.owed == 0


# What may wait


def test_one_long_message_may_wait_whatever_its_length_and_small_ones_beside_it() -> None:
    one, two = peer(outgoing_bytes_max=1000), peer()
    one.connection.send(REPLICATE, bytes(5000), request_id=1)
    one.connection.send(PING, b"x" * 90, request_id=2)
    with pytest.raises(OutgoingFull, match=re.escape("5138 bytes wait to be sent, long messages among them, 1000 may")):
        one.connection.send(REPLICATE, bytes(101), request_id=3)
    talk(one, two)
    one.connection.send(REPLICATE, bytes(600), request_id=4)
    one.connection.send(REPLICATE, bytes(300), request_id=5)
    with pytest.raises(OutgoingFull):
        one.connection.send(REPLICATE, bytes(101), request_id=6)
    talk(one, two)
    assert [frame.request_id for frame in two.frames] == [2, 1, 4, 5]


def test_no_limit_is_so_small_that_a_piece_does_not_fit() -> None:
    connection = Connection(PyFrameHandler(), Outbox(), outgoing_bytes_max=65536)
    assert 2 * (HEADER_BYTES + connection.piece_bytes) < 65536


def test_a_failed_pass_takes_long_answers_back_and_leaves_what_was_on_its_way() -> None:
    one, two = peer(), peer()
    one.connection.send(REPLICATE, BODY, request_id=1)
    two.connection.feed(one.connection.take(50))
    one.outbox.start_pass()
    one.connection.send(READ_REPLY, BODY, request_id=2)
    one.connection.send(PING, b"gone", request_id=3)
    one.connection.send(READ_REPLY, BODY, request_id=4)
    one.outbox.drop_pass()
    one.connection.send(PING, b"refused", request_id=5)
    talk(one, two)
    assert [frame.request_id for frame in two.frames] == [5, 1]
    assert one.connection.waiting_bytes == 0


def test_what_has_pieces_behind_it_cannot_be_taken_back() -> None:
    one = peer()
    mark = one.connection.outgoing_mark()
    one.connection.send(REPLICATE, BODY, request_id=1)
    one.connection.take(1)
    with pytest.raises(AssertionError, match="some have been sent, or pieces stand behind them"):
        one.connection.roll_back(mark)
