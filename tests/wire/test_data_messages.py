"""Data messages: the C codec against the plain-Python model, and every way in which a body can be wrong."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.wire import data_messages as wire
from dynamo_fast.wire.errors import ProtocolError
from tests.models import wire as model

U8, U32, U64 = st.integers(0, 0xFF), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
KEYS = st.binary(min_size=1, max_size=200)
BUCKETS = st.binary(max_size=64)
CONTEXTS = st.binary(max_size=200)
VALUES = st.binary(max_size=300)
STRICT = st.sampled_from([None, True, False])

PUTS = st.fixed_dictionaries(
    {
        "key": KEYS, "value": VALUES, "bucket": BUCKETS, "context": CONTEXTS, "put_id": st.binary(min_size=16, max_size=16), "w": U8,
        "dw": st.one_of(st.none(), st.integers(0, 254)), "strict": STRICT, "overwrite": st.booleans(), "tombstone": st.booleans(),
        "deadline_ms": U32,
    }
).map(lambda fields: fields | ({"value": b""} if fields["tombstone"] else {}))
GETS = st.fixed_dictionaries(
    {"key": KEYS, "bucket": BUCKETS, "session_context": CONTEXTS, "r": U8, "strict": STRICT, "deadline_ms": U32}
)
REPLICATES = st.fixed_dictionaries(
    {
        "placement": U64, "key": KEYS, "bucket": BUCKETS, "object": VALUES, "ack_durable": st.booleans(), "no_reply": st.booleans(),
        "hint_slot": st.one_of(st.none(), st.integers(0, 15)), "hint_for_all": st.booleans(),
    }
).map(lambda fields: fields | ({"hint_slot": None} if fields["hint_for_all"] else {}))
READS = st.fixed_dictionaries({"placement": U64, "key": KEYS, "bucket": BUCKETS, "known_hash": U64})
SIBLINGS = st.lists(st.tuples(VALUES, st.booleans(), U64), max_size=5)
GET_REPLIES = st.fixed_dictionaries({"context": CONTEXTS, "siblings": SIBLINGS})

PUT_ID = bytes(range(16))
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "put": wire.decode_put, "get": wire.decode_get, "get_reply": wire.decode_get_reply,
    "replicate": wire.decode_replicate, "read": wire.decode_read,
}
SAMPLES: dict[str, bytes] = {
    "put": wire.encode_put(b"key", b"value", put_id=PUT_ID, bucket=b"bucket", context=b"context"),
    "get": wire.encode_get(b"key", bucket=b"bucket", session_context=b"context"),
    "get_reply": wire.encode_get_reply(b"context", [(b"one", False, 1), (b"", True, 2)]),
    "replicate": wire.encode_replicate(1, b"key", b"object", bucket=b"bucket"),
    "read": wire.encode_read(1, b"key", bucket=b"bucket", known_hash=7),
}


@given(PUTS)
def test_put(fields: dict[str, Any]) -> None:
    body = wire.encode_put(**fields)
    assert body == model.joined(model.put(**fields))
    assert wire.decode_put(body)._asdict() == fields


@given(GETS)
def test_get(fields: dict[str, Any]) -> None:
    body = wire.encode_get(**fields)
    assert body == model.joined(model.get(**fields))
    assert wire.decode_get(body)._asdict() == fields


@given(GET_REPLIES)
def test_get_reply(fields: dict[str, Any]) -> None:
    body = wire.encode_get_reply(**fields)
    assert body == model.joined(model.get_reply(**fields))
    assert wire.decode_get_reply(body) == (fields["context"], fields["siblings"])


@given(REPLICATES)
def test_replicate(fields: dict[str, Any]) -> None:
    body = wire.encode_replicate(**fields)
    assert body == model.joined(model.replicate(**fields))
    assert wire.decode_replicate(body)._asdict() == fields


@given(READS)
def test_read(fields: dict[str, Any]) -> None:
    body = wire.encode_read(**fields)
    assert body == model.joined(model.read(**fields))
    assert wire.decode_read(body)._asdict() == fields


@pytest.mark.parametrize("name", DECODERS)
def test_every_prefix_and_every_extension_is_refused(name: str) -> None:
    """The parts must add up to the body exactly: nothing is left over, nothing is missing."""
    decode, body = DECODERS[name], SAMPLES[name]
    decode(body)
    for n in range(len(body)):
        with pytest.raises(ProtocolError):
            decode(body[:n])
    for extra in (1, 100):
        with pytest.raises(ProtocolError, match="do not add up"):
            decode(body + bytes(extra))


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_mutated_bodies_are_refused_or_mean_what_they_say(name: str, data: st.DataObject) -> None:
    """Bytes replaced, inserted and cut out at random: a ProtocolError, or a message that encodes to the same bytes."""
    body = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    check_decoder(name, bytes(body))


@pytest.mark.parametrize("name", DECODERS)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused_or_mean_what_they_say(name: str, body: bytes) -> None:
    check_decoder(name, body)


def check_decoder(name: str, body: bytes) -> None:
    try:
        message = DECODERS[name](body)
    except ProtocolError:
        return
    if name == "get_reply":
        assert wire.encode_get_reply(*message) == body
    else:
        fields = message._asdict()
        again = getattr(wire, f"encode_{name}")(**fields)
        if name in ("put", "get") and fields["strict"] is None:
            at = 2 if name == "put" else 1
            assert body[at] & 2 == 0
            again = again[:at] + body[at : at + 1] + again[at + 1 :]  # the strict bit means nothing unless it is given
        assert again == body


# One wrong byte and its sentence. Offsets are those of docs/protocol.md.
@pytest.mark.parametrize(
    ("name", "at", "byte", "problem"),
    [
        ("put", 2, 16, "unknown flag"),
        ("put", 2, 8, "a tombstone carries a value"),
        ("put", 8, 6, "do not add up"),
        ("put", 11, 255, "do not add up"),
        ("get", 3, 1, "reserved byte"),
        ("get", 1, 4, "unknown flag"),
        ("replicate", 8, 8, "unknown flag"),
        ("replicate", 8, 16, "unknown flag"),
        ("replicate", 8, 28, "unknown flag"),
        ("replicate", 15, 255, "do not add up"),
        ("read", 16, 1, "unknown flag"),
        ("get_reply", 4, 1, "reserved byte"),
        ("get_reply", 0, 255, "do not add up"),
        ("get_reply", 2, 3, "do not add up"),
        ("get_reply", 2, 1, "do not add up"),
        ("get_reply", 19, 2, "unknown flag"),
        ("get_reply", 20, 1, "reserved byte"),
    ],
)
def test_wrong_bytes(name: str, at: int, byte: int, problem: str) -> None:
    body = bytearray(SAMPLES[name])
    body[at] = byte
    with pytest.raises(ProtocolError, match=problem):
        DECODERS[name](bytes(body))


@pytest.mark.parametrize(("name", "at"), [("put", 4), ("get", 4), ("replicate", 10), ("read", 18)])
def test_keys_have_1_to_4096_bytes(name: str, at: int) -> None:
    """A reader holds to it, whatever the writer did: the key is cut out of the body, or put in over its bound."""
    encode, decode = getattr(model, name), DECODERS[name]
    required: dict[str, dict[str, Any]] = {
        "put": {"put_id": PUT_ID}, "get": {}, "replicate": {"placement": 1, "object": b""}, "read": {"placement": 1},
    }
    fields = required[name]
    assert decode(model.joined(encode(key=b"k" * 4096, bucket=b"b" * 64, **fields))).key == b"k" * 4096
    for wrong, problem in ((b"", "key is empty"), (b"k" * 4097, "over 4096 bytes")):
        body = model.joined(encode(key=wrong, **fields))
        assert struct.unpack_from("<H", body, at) == (len(wrong),)
        with pytest.raises(ProtocolError, match=problem):
            decode(body)
    with pytest.raises(ProtocolError, match="bucket name over 64"):
        decode(model.joined(encode(key=b"k", bucket=b"b" * 65, **fields)))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"key": b""}, "1 to 4096"),
        ({"key": b"k" * 4097}, "not 4097"),
        ({"bucket": b"b" * 65}, "at most 64"),
        ({"context": bytes(65536)}, "context"),
        ({"put_id": b"short"}, "16 bytes, not 5"),
        ({"tombstone": True}, "no value"),
    ],
)
def test_what_cannot_be_said_is_not_encoded(wrong: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        wire.encode_put(**({"key": b"k", "value": b"v", "put_id": PUT_ID} | wrong))


@pytest.mark.parametrize("wrong", [{"w": 256}, {"w": -1}, {"deadline_ms": 2**32}, {"dw": 256}])
def test_numbers_that_do_not_fit_are_not_encoded(wrong: dict[str, Any]) -> None:
    with pytest.raises(OverflowError):
        wire.encode_put(b"k", put_id=PUT_ID, **wrong)


def test_a_reply_says_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="65535 siblings"):
        wire.encode_get_reply(b"", [(b"", False, 0)] * 65536)
    with pytest.raises(ValueError, match="context"):
        wire.encode_get_reply(bytes(65536), [])


def test_a_dw_of_255_stands_for_the_default() -> None:
    assert wire.encode_put(b"k", put_id=PUT_ID)[1] == 255
    assert wire.decode_put(wire.encode_put(b"k", put_id=PUT_ID)).dw is None
    assert wire.decode_put(wire.encode_put(b"k", put_id=PUT_ID, dw=0)).dw == 0
