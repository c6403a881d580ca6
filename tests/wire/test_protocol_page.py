"""docs/protocol.md against the code, both ways: the page is what other people's clients are written from."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dynamo_fast.core.context import open_context, siphash
from dynamo_fast.core.digest import key_position
from dynamo_fast.core.membership import Leave, read_change, record_id
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.wire import control_messages, data_messages
from dynamo_fast.wire.errors import ProtocolError
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.wire.dialogue import End
from tests.wire.golden import PAGE, VECTORS, Vector, as_bytes, rewritten, unhexed

TEXT = PAGE.read_text(encoding="utf-8")
CLUSTER_SECRET = bytes(range(16))
CLUSTER_ID = bytes(range(0xC0, 0xD0))

EACH = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
ENCODERS: dict[int, Callable[..., bytes]] = {
    MessageType.PUT: data_messages.encode_put, MessageType.GET: data_messages.encode_get,
    MessageType.REPLICATE: data_messages.encode_replicate, MessageType.READ: data_messages.encode_read,
}
DECODERS: dict[int, Callable[[bytes], Any]] = {
    MessageType.PUT: data_messages.decode_put, MessageType.GET: data_messages.decode_get,
    MessageType.REPLICATE: data_messages.decode_replicate, MessageType.READ: data_messages.decode_read,
}
CONTROL_DECODERS: dict[int, Callable[[bytes], Any]] = {
    MessageType.HELLO: control_messages.decode_hello, MessageType.HELLO_REPLY: control_messages.decode_hello_reply,
    MessageType.CONTROL: control_messages.decode_request, MessageType.CONTROL_REPLY: control_messages.decode_reply,
}


def header(vector: Vector) -> tuple[int, int, int, int]:
    return vector.type, vector.request_id, vector.status, vector.flags


def trusted() -> End:
    """An end that takes pieces."""
    end = End()
    end.connection.peer = b"peer"
    return end


def test_every_type_has_a_golden_message() -> None:
    assert {vector.type for vector in VECTORS} == set(MessageType)
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)


def test_the_plain_python_model_writes_the_same_page() -> None:
    """An encoder that shares no line with the code, written from the page's tables."""
    assert rewritten(TEXT) == TEXT


@EACH
def test_frames(vector: Vector) -> None:
    frames = FrameCutter().feed(vector.frame)
    assert frames == [Frame(vector.type, vector.flags, vector.status, vector.request_id, vector.body_bytes)]
    type, request_id, status, flags = header(vector)
    if vector.piece_bytes:
        end = trusted()
        end.connection.takes_bytes_max = 1000
        end.connection.whole_bytes_max = end.connection.piece_bytes = vector.piece_bytes
        end.connection.send(type, vector.body_bytes, request_id=request_id, status=status, flags=flags)
        assert end.connection.take() == vector.frame
    else:
        assert encode_frame(type, vector.body_bytes, request_id, status, flags) == vector.frame


@EACH
def test_bodies(vector: Vector) -> None:
    """The fields make these bytes, and these bytes the fields."""
    body = vector.body_bytes
    if vector.type in ENCODERS:
        fields = as_bytes(vector.body)
        assert ENCODERS[vector.type](**fields) == body
        assert DECODERS[vector.type](body)._asdict() == fields
    elif vector.type == MessageType.GET_REPLY and vector.status in (Status.OK, Status.NOT_FOUND):
        context = as_bytes(vector.body["context"])
        siblings = [(as_bytes(value), tombstone, timestamp_ms) for value, tombstone, timestamp_ms in vector.body["siblings"]]
        assert data_messages.encode_get_reply(context, siblings) == body
        assert data_messages.decode_get_reply(body) == (context, siblings)
    elif vector.type in CONTROL_DECODERS:
        decode = control_messages.decode_departure if vector.status == Status.DEPARTED else CONTROL_DECODERS[vector.type]
        assert msgspec.msgpack.decode(body) == unhexed(vector.body)
        assert control_messages.encode(decode(body)) == body
    else:
        assert as_bytes(vector.body) == body


@EACH
def test_every_golden_message_cut_at_every_byte(vector: Vector) -> None:
    """Two pieces with the cut anywhere, then byte by byte: the frame comes out once, whole, and not a byte earlier."""
    expected = Frame(vector.type, vector.flags, vector.status, vector.request_id, vector.body_bytes)
    for cut in range(len(vector.frame)):
        end = trusted()
        end.connection.feed(vector.frame[:cut])
        assert end.frames == []
        end.connection.feed(vector.frame[cut:])
        assert end.frames == [expected]
    end, cutter = trusted(), FrameCutter()
    for i in range(len(vector.frame)):
        byte = vector.frame[i : i + 1]
        end.connection.feed(byte)
        assert cutter.feed(byte) == end.frames == ([expected] if i + 1 == len(vector.frame) else [])


@EACH
def test_every_golden_message_with_every_bit_flipped(vector: Vector) -> None:
    for bit in range(len(vector.frame) * 8):
        damaged = bytearray(vector.frame)
        damaged[bit // 8] ^= 1 << bit % 8
        end = trusted()
        with pytest.raises(ProtocolError):
            end.connection.feed(bytes(damaged))
        assert end.frames == []


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]


def test_the_table_of_status_codes() -> None:
    named, outcome = {}, None
    outcomes = {"0-15": Outcome.OK, "16-63": Outcome.NOT_APPLIED, "64 and up": Outcome.UNKNOWN}
    for code, name, *_ in rows("Status codes")[2:]:
        if not code:
            outcome = outcomes[name.strip("*").split(":")[0]]
        else:
            named[name] = int(code)
            assert Status(int(code)).outcome is outcome
    assert named == {status.name: status.value for status in Status}


def test_the_table_of_types() -> None:
    table = {name: int(number) for row in rows("Types")[2:] for number, name in (row[0:2], row[2:4])}
    assert table == {type.name: type.value for type in MessageType}


def test_where_the_keys_of_the_page_live() -> None:
    for bucket, key, position, partition in rows("Where a key lives")[2:]:
        assert key_position(key.encode(), bucket.encode()).hex() == position
        assert int.from_bytes(bytes.fromhex(position), "big") >> 118 == int(partition)


def test_the_objects_and_contexts_of_the_page_are_real() -> None:
    """Objects are canonical, and contexts open for their key under the secret that the page names."""
    opened = 0
    for vector in VECTORS:
        if vector.type == MessageType.REPLICATE:
            assert Siblings(data_messages.decode_replicate(vector.body_bytes).object).values == (b"milk", b"bread")
        if vector.type == MessageType.PUT and vector.body["context"]:
            put = data_messages.decode_put(vector.body_bytes)
            clock, dot = open_context(CLUSTER_SECRET, CLUSTER_ID, key_position(put.key, put.bucket), put.context)
            assert len(clock) == 1
            assert dot is None
            opened += 1
    assert opened == 2


def test_the_departure_of_the_page_is_real() -> None:
    """Its records are what their ids say, tell of that node, and stand under a MAC with the secret that the page names."""
    (vector,) = [vector for vector in VECTORS if vector.status == Status.DEPARTED]
    departure = control_messages.decode_departure(vector.body_bytes)
    (record,) = departure.records
    assert record_id(record.time, record.author, record.change) == record.id
    change = read_change(record)
    assert isinstance(change, Leave)
    assert change.dead
    assert change.node_id.hex() in departure.text
    assert siphash(CLUSTER_SECRET, b"departed" + CLUSTER_ID + change.node_id + record.id) == departure.mac


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
