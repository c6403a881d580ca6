"""Connections as dialogues: two ends in memory, every rule of the connection seen from outside."""

import struct

import pytest

from dynamo_fast.wire.connection import Connection, FrameHandler, Outbox, PyFrameHandler
from dynamo_fast.wire.errors import OutgoingFull, ProtocolError
from dynamo_fast.wire.frame import HEADER_BYTES, Frame, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.models import wire as model
from tests.wire.dialogue import End, talk

HELLO, HELLO_REPLY, PUT, PUT_REPLY = MessageType.HELLO, MessageType.HELLO_REPLY, MessageType.PUT, MessageType.PUT_REPLY


def echo(connection: Connection, frame: Frame) -> None:
    if frame.type == HELLO:
        connection.hello_done = True
    if frame.type in (HELLO, PUT):
        connection.send(frame.type + 1, frame.body, request_id=frame.request_id)


def welcomed(connection: Connection, frame: Frame) -> None:
    connection.hello_done = True


@pytest.mark.parametrize("step_bytes", [1, 2, 3, 7, 23, 24, 25, 1000])
def test_a_dialogue_however_it_is_cut(step_bytes: int) -> None:
    client, node = End(welcomed, known=False), End(echo, known=False)
    client.connection.send(HELLO, b"who", request_id=1)
    talk(client, node, step_bytes)
    for i in range(5):
        client.connection.send(PUT, b"v" * i * 100, request_id=10 + i, flags=1)
    talk(client, node, step_bytes)
    assert node.frames == [Frame(HELLO, 0, 0, 1, b"who"), *(Frame(PUT, 1, 0, 10 + i, b"v" * i * 100) for i in range(5))]
    assert client.frames == [Frame(HELLO_REPLY, 0, 0, 1, b"who"), *(Frame(PUT_REPLY, 0, 0, 10 + i, b"v" * i * 100) for i in range(5))]


def test_one_call_hands_over_all_whole_frames_and_keeps_the_rest() -> None:
    node = End()
    frames = [encode_frame(PUT, b"x" * n, n) for n in range(20)]
    node.connection.feed(b"".join(frames) + frames[19][:30])
    assert [frame.request_id for frame in node.frames] == list(range(20))
    assert len(node.connection.incoming) == 30
    node.connection.feed(frames[19][30:])
    assert len(node.frames) == 21
    assert len(node.connection.incoming) == 0


@pytest.mark.parametrize("first_bytes", [1, 23, 24, 25, 123])
def test_only_the_unfinished_frame_is_copied_and_those_behind_it_are_handled_where_they_stand(first_bytes: int) -> None:
    held = []
    node = End(lambda connection, frame: held.append(len(connection.incoming)))
    frame = encode_frame(PUT, b"x" * 100, 1)
    node.connection.feed(frame[:first_bytes])
    node.connection.feed(frame[first_bytes:] + frame * 3 + frame[:50])
    assert held == [len(frame), 0, 0, 0]
    assert len(node.connection.incoming) == 50


# Strangers


def test_before_the_hello_only_hellos_are_let_through() -> None:
    node = End(known=False)
    with pytest.raises(ProtocolError, match="type 16 before the hello"):
        node.connection.feed(encode_frame(PUT, b"", 1))
    assert node.frames == []


def test_before_the_hello_bodies_are_small() -> None:
    node = End(echo, known=False)
    with pytest.raises(ProtocolError, match="longer than this connection allows"):
        node.connection.feed(encode_frame(HELLO, b"x" * 4097, 1)[:HEADER_BYTES])
    node = End(echo, known=False)
    node.connection.feed(encode_frame(HELLO, b"x" * 4096, 1) + encode_frame(PUT, b"y" * 100_000, 2))
    assert [len(frame.body) for frame in node.frames] == [4096, 100_000]


def test_a_smaller_limit_holds_before_the_hello_too() -> None:
    node = End(known=False, frame_bytes_max=100)
    with pytest.raises(ProtocolError):
        node.connection.feed(encode_frame(HELLO, b"x" * 101, 1))


def test_a_length_bomb_allocates_nothing() -> None:
    """A header that announces 16 MiB, allowed, and then a trickle: memory follows what came."""
    node = End(frame_bytes_max=1 << 24)
    header = struct.pack("<IBBHQI", 1 << 24, PUT, 0, 0, 1, 0)
    node.connection.feed(header + struct.pack("<I", model.crc32c(header)))
    assert node.connection.incoming.capacity <= 512
    for _ in range(1000):
        node.connection.feed(b"x" * 1000)
        assert node.connection.incoming.capacity <= len(node.connection.incoming) + 65536


@pytest.mark.parametrize("first_bytes", [0, 5000])
def test_a_bomb_over_the_limit_is_refused(first_bytes: int) -> None:
    node = End(frame_bytes_max=4096)
    good = encode_frame(PUT, b"x" * min(first_bytes, 4096), 1) if first_bytes else b""
    with pytest.raises(ProtocolError, match="longer"):
        node.connection.feed(good + encode_frame(PUT, b"x" * 4097, 2))
    assert len(node.frames) == bool(first_bytes)


def test_frames_before_a_damaged_one_are_handled() -> None:
    node = End(echo)
    damaged = bytearray(encode_frame(PUT, b"two", 2))
    damaged[-1] ^= 1
    with pytest.raises(ProtocolError, match="body fails its checksum"):
        node.connection.feed(encode_frame(PUT, b"one", 1) + damaged)
    assert [frame.body for frame in node.frames] == [b"one"]


def test_an_unknown_type_reaches_the_handler() -> None:
    """Which answers it: the stream is sound."""
    node = End()
    node.connection.feed(encode_frame(250, b"?", 9))
    assert node.frames == [Frame(250, 0, 0, 9, b"?")]


# Handlers that do things


def test_a_handler_may_append_to_the_connection_that_it_is_called_for() -> None:
    """Even megabytes, while more frames wait behind this one in the same buffer."""

    def shout(connection: Connection, frame: Frame) -> None:
        for _ in range(3):
            connection.send(PUT_REPLY, frame.body * 1000, request_id=frame.request_id)

    node, client = End(shout), End()
    client_frames = [encode_frame(PUT, bytes([i]) * 300, i) for i in range(10)]
    node.connection.feed(b"".join(client_frames))
    assert [frame.body for frame in node.frames] == [bytes([i]) * 300 for i in range(10)]
    talk(client, node)
    assert [frame.body[:300] for frame in client.frames] == [bytes([i // 3]) * 300 for i in range(30)]


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_handler_may_close_the_connection_in_the_middle(in_pieces: bool) -> None:
    def refuse(connection: Connection, frame: Frame) -> None:
        if frame.request_id == 2:
            connection.send(PUT_REPLY, b"go away", request_id=2, status=Status.OVERLOAD)
            connection.close("had enough")
            connection.send(PUT_REPLY, b"never sent", request_id=3)

    node, client = End(refuse), End()
    data = b"".join(encode_frame(PUT, b"x" * 50, i) for i in range(6))
    if in_pieces:
        node.connection.feed(data[:10])
        data = data[10:]
    node.connection.feed(data)
    assert [frame.request_id for frame in node.frames] == [0, 1, 2]
    assert len(node.connection.incoming) == 0
    node.connection.feed(encode_frame(PUT, b"late", 7))
    assert len(node.frames) == 3
    assert node.connection.closing
    assert node.connection.close_reason == "had enough"
    assert node.outbox.take() == [node.connection]
    talk(client, node)
    assert client.frames == [Frame(PUT_REPLY, 0, Status.OVERLOAD, 2, b"go away")]


def test_the_first_reason_to_close_is_kept() -> None:
    node = End()
    node.connection.close("first")
    node.connection.close("second")
    assert node.connection.close_reason == "first"
    assert len(node.outbox) == 1


def test_what_a_handler_raises_reaches_who_received() -> None:
    def fail(connection: Connection, frame: Frame) -> None:
        raise LookupError("a bug")

    node = End(fail)
    with pytest.raises(LookupError, match="a bug"):
        node.connection.feed(encode_frame(PUT, b"", 1))


def test_bytes_may_not_arrive_while_a_frame_is_handled() -> None:
    """It would move the body under the handler's hands: our own bug, and said so."""
    node = End(lambda connection, frame: connection.feed(encode_frame(PUT, b"", 2)))
    with pytest.raises(AssertionError, match="while a frame of it was being handled"):
        node.connection.feed(encode_frame(PUT, b"", 1))


def test_handlers_must_say_what_to_do() -> None:
    for handler in (FrameHandler(), PyFrameHandler()):
        connection = Connection(handler, Outbox())
        with pytest.raises(NotImplementedError):
            connection.feed(encode_frame(HELLO, b"", 1))
    with pytest.raises(NotImplementedError):
        Connection(FrameHandler(), Outbox()).notify_closed()


def test_the_handler_learns_that_the_connection_is_gone() -> None:
    node = End()
    node.connection.notify_closed()
    assert node.handler.gone == [node.connection]


# Outgoing


def test_a_connection_is_in_the_outbox_once() -> None:
    outbox = Outbox()
    handler = PyFrameHandler()
    a, b = Connection(handler, outbox), Connection(handler, outbox)
    for connection in (b, a, b, b):
        connection.send(PUT, b"x", request_id=1)
    assert len(outbox) == 2
    assert outbox.take() == [b, a]
    assert outbox.take() == []
    a.send(PUT, b"x", request_id=1)
    assert outbox.take() == [a]


def test_a_reader_that_does_not_read_meets_the_limit() -> None:
    node = End(outgoing_bytes_max=1000)
    sent = 1000 // (HEADER_BYTES + 100)
    for i in range(sent):
        node.connection.send(PUT_REPLY, b"x" * 100, request_id=i)
    with pytest.raises(OutgoingFull, match="bytes wait to be sent, 1000 may"):
        node.connection.send(PUT_REPLY, b"x" * 100, request_id=sent)
    assert node.connection.outgoing.capacity <= 1000
    client = End()
    talk(client, node)
    assert len(client.frames) == sent
    node.connection.send(PUT_REPLY, b"x" * 100, request_id=sent)


def test_what_was_appended_since_a_mark_can_be_taken_back() -> None:
    node, client = End(), End()
    node.connection.send(PUT_REPLY, b"kept", request_id=1)
    mark = node.connection.outgoing_mark()
    node.connection.send(PUT_REPLY, b"dropped", request_id=2)
    node.connection.send(PUT_REPLY, b"dropped", request_id=3)
    node.connection.roll_back(mark)
    node.connection.roll_back(mark)
    node.connection.send(PUT_REPLY, b"after", request_id=4)
    talk(client, node)
    assert [frame.body for frame in client.frames] == [b"kept", b"after"]
    assert node.connection.outgoing_mark() > mark


def test_what_was_sent_cannot_be_taken_back() -> None:
    node = End()
    mark = node.connection.outgoing_mark()
    node.connection.send(PUT_REPLY, b"sent", request_id=1)
    node.connection.take(1)
    with pytest.raises(AssertionError, match="cannot take back 28 bytes: 27 are still here"):
        node.connection.roll_back(mark)
    with pytest.raises(AssertionError):
        node.connection.roll_back(mark + 1000)


def test_a_failed_pass_answers_nothing_to_anybody() -> None:
    """What tasks said before the pass stays; what the pass said goes, on every connection."""
    outbox, handler = Outbox(), PyFrameHandler()
    a, b, c = (Connection(handler, outbox) for _ in range(3))
    a.send(PUT_REPLY, b"before", request_id=1)
    outbox.start_pass()
    for connection in (a, b, a):
        connection.send(PUT_REPLY, b"in the pass", request_id=2)
    outbox.drop_pass()
    b.send(PUT_REPLY, b"refused", request_id=2)
    assert a.take() == encode_frame(PUT_REPLY, b"before", 1)
    assert b.take() == encode_frame(PUT_REPLY, b"refused", 2)
    assert c.take() == b""
    outbox.take()
    outbox.start_pass()
    outbox.drop_pass()


def test_a_pass_that_succeeds_keeps_its_answers() -> None:
    outbox = Outbox()
    connection = Connection(PyFrameHandler(), outbox)
    for i in range(3):
        outbox.start_pass()
        connection.send(PUT_REPLY, b"x", request_id=i)
    outbox.drop_pass()
    assert connection.take() == encode_frame(PUT_REPLY, b"x", 0) + encode_frame(PUT_REPLY, b"x", 1)


def test_it_shows_itself() -> None:
    node = End()
    assert repr(node.connection) == "<Connection test open, 0 in, 0 out>"
    node.connection.close("tired")
    assert repr(node.connection) == "<Connection test closing: tired, 0 in, 0 out>"
    assert repr(Connection(node.handler, node.outbox)) == "<Connection -1 before hello, 0 in, 0 out>"
