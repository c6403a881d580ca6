"""The context that a put returns covers nothing that its writer has not seen (paper 4.4): through three node cores in one process."""

import itertools

from bench.gate.node_core import Nodes
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import Planes, frames

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


def lagging() -> tuple[Planes, bytes]:
    """Node 1 lacks a version that stands beside another on the other two; and the context that its writer was given."""
    cluster = Planes()
    cluster.put(0, KEY, b"other", w=3)
    cluster.drop(frames(MessageType.REPLICATE, target=1))
    mine = cluster.put(0, KEY, b"mine", w=2).context
    cluster.run()
    cluster.release()
    assert cluster.copy(1, KEY).values == (b"other",)
    return cluster, mine


def converge(cluster: Planes) -> None:
    for number in (0, 1, 2):
        cluster.get(number, KEY, r=3)
    assert len({cluster.packed(number, KEY) for number in (0, 1, 2)}) == 1


def test_a_version_is_deleted_through_a_node_that_lacks_it() -> None:
    cluster, mine = lagging()
    deleted = cluster.put(1, KEY, tombstone=True, context=mine, w=3)
    assert deleted.status == Status.OK
    assert cluster.get(0, KEY, r=3).values == [b"other"]
    converge(cluster)
    assert cluster.copy(2, KEY).cloud == ()


def test_it_stays_deleted_wherever_the_delete_comes_first() -> None:
    """The delete is on one node alone when a read meets the version, and then its copies are brought to the others by repair."""
    cluster, mine = lagging()
    cluster.drop(frames(MessageType.REPLICATE, origin=1))
    cluster.put(1, KEY, tombstone=True, context=mine, w=1)
    version = next(one for one in cluster.copy(0, KEY).siblings if one.value == b"mine")
    assert cluster.copy(1, KEY).cloud == (version.dot,)
    cluster.release()
    assert cluster.get(0, KEY, r=3).values == [b"other"]
    converge(cluster)
    assert cluster.copy(1, KEY).values == (b"other",)
    assert [node.count("epoch_alarms") for node in cluster.nodes] == [0, 0, 0]


def test_writing_on_through_a_node_that_lacks_the_version_replaces_it() -> None:
    """So it is when the next put's context, too, has a dot only, and its coordinator lacks both."""
    cluster, mine = lagging()
    cluster.drop(frames(MessageType.REPLICATE, target=2))
    edited = cluster.put(1, KEY, b"mine, edited", context=mine, w=2).context
    cluster.release()
    cluster.put(2, KEY, b"mine, edited again", context=edited)
    assert cluster.get(0, KEY, r=3).values == [b"mine, edited again", b"other"]
    converge(cluster)


def test_a_session_is_shown_what_superseded_the_version_that_it_saw() -> None:
    cluster, mine = lagging()
    cluster.drop(frames(MessageType.REPLICATE, origin=1))
    cluster.put(1, KEY, b"mine, edited", context=mine, w=1)
    held = cluster.hold(frames(MessageType.READ_REPLY))
    answer = cluster.get(1, KEY, r=1, session_context=mine)
    assert answer.values == [b"mine, edited", b"other"], "node 1 alone knows all that the session does"
    assert all(sent.target == 1 for sent in held)


def test_a_new_version_is_not_behind_the_one_it_replaces_unseen() -> None:
    """The wall clock goes back between the two; a bucket that became last-write-wins since must not be left with neither."""
    cluster = Planes()
    cluster.put(0, KEY, b"other", w=3)
    cluster.drop(frames(MessageType.REPLICATE, target=1))
    cluster.wall_ms += 10_000
    mine = cluster.put(0, KEY, b"mine", w=2).context
    cluster.wall_ms -= 10_000
    cluster.release()
    cluster.put(1, KEY, b"mine, edited", context=mine, w=3)
    times = {one.value: one.timestamp_ms for one in cluster.copy(1, KEY).siblings}
    assert times[b"mine, edited"] == times[b"other"] + 10_000
