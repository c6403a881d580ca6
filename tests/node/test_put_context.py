"""The context that a put returns covers nothing that its writer has not seen (paper 4.4): through three node cores in one process."""

import itertools

from bench.gate.node_core import Nodes
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType
from tests.node.planes import Planes

KEY = b"cart"


class Store:
    """One client's puts and gets, each answered before the next is sent."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.ids = itertools.count(1)

    def put(self, value: bytes, context: bytes = b"", put_id: int | None = None) -> bytes:
        """The new context."""
        number = put_id or next(self.ids)
        body = encode_put(KEY, value, put_id=number.to_bytes(16, "little"), context=context)
        self.nodes.run(encode_frame(MessageType.PUT, body, request_id=1))
        return self.nodes.taken(1)[0].body

    def get(self) -> tuple[bytes, list[bytes]]:
        self.nodes.run(encode_frame(MessageType.GET, encode_get(KEY), request_id=1))
        context, siblings = decode_get_reply(self.nodes.taken(1)[0].body)
        return context, sorted(value for value, _, _ in siblings)


def test_writing_on_without_reading() -> None:
    store = Store()
    context = store.put(b"1")
    context = store.put(b"2", context)
    store.put(b"3", context)
    assert store.get()[1] == [b"3"]


def test_a_blind_put_does_not_replace_an_earlier_one_later() -> None:
    store = Store()
    store.put(b"a1")
    theirs = store.put(b"b1")
    store.put(b"b2", theirs)
    context, values = store.get()
    assert values == [b"a1", b"b2"], "a1 was replaced by nobody who had seen it; b1 by its own writer"
    store.put(b"settled", context)
    assert store.get()[1] == [b"settled"]


def test_two_writers_from_one_reading() -> None:
    store = Store()
    store.put(b"0")
    read, _ = store.get()
    store.put(b"a1", read)
    theirs = store.put(b"b1", read)
    store.put(b"b2", theirs)
    assert store.get()[1] == [b"a1", b"b2"]


def test_a_retry_after_somebody_replaced_the_value() -> None:
    """The retry is answered without a new version, and its context does not cover the version that came in between."""
    store = Store()
    first = store.put(b"mine", put_id=77)
    store.put(b"theirs", first)
    again = store.put(b"mine", put_id=77)
    assert store.get()[1] == [b"theirs"]
    store.put(b"mine, edited", again)
    assert store.get()[1] == [b"mine, edited", b"theirs"]


def test_an_id_of_zeros_shows_nobody_elses_version_as_seen() -> None:
    """Blind writers without ids: whoever goes on from an answer may not replace another's version by it."""
    cluster = Planes()
    for value in (b"c1", b"d1", b"e1"):
        answer = cluster.put(0, KEY, value, put_id=bytes(16))
        cluster.put(0, KEY, value + b" edited", put_id=bytes(16), context=answer.context)
    assert {b"c1 edited", b"d1 edited", b"e1 edited"} <= set(cluster.get(0, KEY).values)
