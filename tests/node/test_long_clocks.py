"""Clocks that many writers have made long on nodes that could not hear each other: they are merged whatever comes out, told and continued
where there is room, and short again once the key is settled."""

import struct

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import VectorClock
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.status import Outcome, Status
from tests.core.test_siblings_hostile import pack
from tests.node.planes import Planes

PUT_CLOCK_MAX = 1024  # entries that a put may leave
CONTEXT_ENTRIES_MAX = 1637  # entries that a context has room for
OLD_MS = 1000


def written_apart(side: int, entries: int) -> Siblings:
    """What one side of a cut holds after so many writers, each of which had seen the last."""
    seen = VectorClock((bytes([side]) * 16, epoch, 1, OLD_MS) for epoch in range(entries - 1))
    return Siblings().put(b"side %d" % side, node=bytes([side]) * 16, epoch=entries, context=seen)


def merge(cluster: Planes, node: int, key: bytes, copy: Siblings) -> int:
    """As another replica would hand it over; the status."""
    ((status, _),) = cluster.nodes[node].plane.merge_entries([(b"", key, copy.packed)])
    return status


def longer(cluster: Planes, node: int, key: bytes, entries: int) -> None:
    """The node's copy gets a clock of so many entries, as by merging versions that were all superseded."""
    copy = cluster.copy(node, key)
    clock = copy.clock.merge(VectorClock((b"\xff" * 16, epoch, 1, OLD_MS) for epoch in range(len(copy.clock), entries)))
    assert merge(cluster, node, key, Siblings(pack(clock, copy.siblings))) == Status.OK
    assert len(cluster.copy(node, key).clock) == entries


def test_both_sides_of_a_cut_went_to_the_limit_and_their_copies_become_one() -> None:
    cluster = Planes()
    sides = [written_apart(side, PUT_CLOCK_MAX) for side in (1, 2)]
    for node in range(3):
        for copy in sides:
            assert merge(cluster, node, b"k", copy) == Status.OK
    copies = [cluster.copy(node, b"k") for node in range(3)]
    assert copies[0] == copies[1] == copies[2]
    assert len(copies[0].clock) == 2 * PUT_CLOCK_MAX
    assert sorted(copies[0].values) == [b"side 1", b"side 2"]


def test_what_is_too_long_for_a_client_is_refused_for_certain_until_it_is_settled() -> None:
    cluster = Planes()
    for node in range(3):
        for side in (1, 2):
            merge(cluster, node, b"k", written_apart(side, PUT_CLOCK_MAX))
    whole = cluster.copy(0, b"k")
    got = cluster.get(0, b"k", r=3)
    assert (got.status, got.status.outcome) == (Status.CLOCK_FULL, Outcome.NOT_APPLIED)
    assert "settled" in got.text
    assert cluster.put(0, b"k", b"v").status == Status.CLOCK_FULL
    assert cluster.copy(0, b"k") == whole
    settled = whole.settle(10, OLD_MS + 1)
    assert len(settled.clock) == 10
    for node in range(3):
        version = cluster.store_key(b"k") + struct.pack("<Q", decoded_hash(cluster, node, b"k"))
        assert cluster.nodes[node].plane.forget(version, OLD_MS + 1, 10) == (0, 1)
    got = cluster.get(0, b"k", r=3)
    assert sorted(got.values) == [b"side 1", b"side 2"]
    assert cluster.put(0, b"k", b"both", context=got.context).status == Status.OK
    assert cluster.get(1, b"k", r=3).values == [b"both"]


def decoded_hash(cluster: Planes, node: int, key: bytes) -> int:
    record = cluster.record(node, key)
    assert record is not None
    return decode_record(record).hash


def test_a_clock_is_told_up_to_what_a_context_has_room_for() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"v", w=3)
    for node in range(3):
        longer(cluster, node, b"k", CONTEXT_ENTRIES_MAX)
    got = cluster.get(0, b"k", r=3)
    assert got.values == [b"v"]
    assert len(got.context) == 48 + 40 * CONTEXT_ENTRIES_MAX
    for node in range(3):
        longer(cluster, node, b"k", CONTEXT_ENTRIES_MAX + 1)
    assert cluster.get(0, b"k", r=3).status == Status.CLOCK_FULL


def test_a_put_that_is_retried_when_its_clock_has_become_too_long_gets_what_its_context_has_room_for() -> None:
    cluster = Planes()
    put_id = b"i" * 16
    first = cluster.put(0, b"k", b"v", w=3, put_id=put_id)
    for node in range(3):
        longer(cluster, node, b"k", CONTEXT_ENTRIES_MAX)
    longest = cluster.get(0, b"k", r=3).context
    for node in range(3):
        longer(cluster, node, b"k", CONTEXT_ENTRIES_MAX + 1)
    again = cluster.put(0, b"k", b"v", w=3, put_id=put_id)
    assert again.status == Status.OK
    assert len(again.context) == 48 + 40, "its own version alone"
    assert len(first.context) == 48 + 40
    again = cluster.put(0, b"k", b"v", w=3, put_id=put_id, context=longest)
    assert again.status == Status.OK
    assert again.context == longest
