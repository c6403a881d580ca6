"""Data planes and objects that are long: what is told to whom, what may pass what, and where growth ends."""

from __future__ import annotations

import trio

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.config import LimitsSection
from dynamo_fast.node.control import LONG_BYTES, LONG_BYTES_MAX, Control
from dynamo_fast.node.sessions import Session
from dynamo_fast.wire.data_messages import encode_read
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import Planes
from tests.wire.dialogue import End

MIB = 1 << 20


def siblings_of(node: int, value_bytes: int) -> Siblings:
    return Siblings().put(bytes(value_bytes), node=bytes([node]) * 16, epoch=1, timestamp_ms=1000, request_id=bytes([node]) * 16)


def merged(cluster: Planes, number: int, key: bytes, siblings: Siblings) -> int:
    ((status, _),) = cluster.nodes[number].plane.merge_entries([(b"", key, siblings.packed)])
    return status


def test_merges_end_where_no_message_could_carry_what_comes_out() -> None:
    """Both sides keep what they have, and it goes on once there is less."""
    cluster = Planes(limits=LimitsSection(message_bytes_max=3 * MIB))
    key = cluster.key_of(0)
    for node in (1, 2):
        assert merged(cluster, 0, key, siblings_of(node, MIB)) == Status.OK
    assert merged(cluster, 0, key, siblings_of(3, MIB)) == Status.TOO_LARGE
    assert len(cluster.copy(0, key).siblings) == 2
    assert merged(cluster, 0, key, siblings_of(3, MIB - 20_000)) == Status.OK
    assert merged(cluster, 0, key, cluster.copy(0, key)) == Status.OK, "what adds nothing is no merge"
    resolved = cluster.copy(0, key).put(b"one", node=b"r" * 16, epoch=1, timestamp_ms=2000, context=cluster.copy(0, key).clock)
    assert merged(cluster, 0, key, resolved) == Status.OK
    assert merged(cluster, 0, key, siblings_of(4, MIB)) == Status.OK


def test_a_message_that_proves_that_all_before_it_was_read_passes_nothing_by() -> None:
    """Else a delete could be forgotten while an older write of the key is still on its way in pieces."""
    cluster = Planes()
    end = cluster.end_of(0, 1)
    end.takes_bytes_max = 1 << 30

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            end.send(MessageType.REPLICATE, bytes(3 * MIB), request_id=1)
            nursery.start_soon(cluster.nodes[0].plane.flush, cluster.node_ids[1])
            await trio.testing.wait_all_tasks_blocked()
            end.send(MessageType.PING, b"", request_id=99)
            frames = FrameCutter(1 << 30).feed(end.take())
            assert [(frame.type, frame.request_id) for frame in frames] == [
                (MessageType.PING, 99), (MessageType.REPLICATE, 1), (MessageType.PING, 1)]  # fmt: skip
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_peer_that_takes_less_is_told_so_and_a_busy_one_to_wait() -> None:
    cluster = Planes(limits=LimitsSection(), peer_outgoing_bytes_max=5 * MIB)
    key = cluster.key_of(0)
    for node in (1, 2, 3):
        merged(cluster, 0, key, siblings_of(node, MIB))
    end, seen = cluster.end_of(0, 1), list[Frame]()

    def read(request_id: int) -> None:
        body = encode_read(cluster.placement.name, key)
        cluster.make_pass(cluster.nodes[0], [(end, encode_frame(MessageType.READ, body, request_id))])

    cutter = FrameCutter(1 << 30)
    end.frame_bytes_max, end.takes_bytes_max = 2 * MIB, 3 * MIB - 1
    read(1)
    end.takes_bytes_max = 4 * MIB
    read(2)
    read(3)
    seen += cutter.feed(end.take())
    assert [(frame.request_id, frame.status, len(frame.body) > 3 * MIB) for frame in seen] == [
        (1, Status.TOO_LARGE, False), (3, Status.OVERLOAD, False), (2, Status.OK, True)]  # fmt: skip
    assert not end.closing


def test_long_control_requests_wait_in_line_by_their_bytes() -> None:
    control, end = Control(), End()
    asking = Session(end.connection, dialled=False, passing=False, since_s=0.0)
    control.submit(asking, 1, bytes(LONG_BYTES_MAX))
    control.submit(asking, 2, bytes(LONG_BYTES))
    control.submit(asking, 3, bytes(LONG_BYTES + 1))
    frames = FrameCutter().feed(end.connection.take())
    assert [(frame.request_id, frame.status) for frame in frames] == [(3, Status.OVERLOAD)]
    assert control.long_bytes == LONG_BYTES_MAX

    async def main() -> None:
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control.run)
                await trio.testing.wait_all_tasks_blocked()
                assert control.long_bytes == asking.queued == 0
                control.submit(asking, 4, bytes(2 * LONG_BYTES_MAX))
                assert control.long_bytes == 2 * LONG_BYTES_MAX
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_an_answer_to_a_control_request_that_the_other_side_does_not_take_is_a_refusal() -> None:
    end = End(frame_bytes_max=2 * MIB)
    asking = Session(end.connection, dialled=False, passing=False, since_s=0.0)
    asking.reply(1, Status.OK, bytes(2 * MIB + 1))
    (frame,) = FrameCutter().feed(end.connection.take())
    assert (frame.request_id, frame.status) == (1, Status.TOO_LARGE)
    assert b"takes at most 2097152" in frame.body
    assert not end.connection.closing
