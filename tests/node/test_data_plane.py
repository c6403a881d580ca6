"""From frame to handler and the end of a pass: who may say what, the replica's side, waiting for the disk, placements that differ."""

import sys

import pytest

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.wire.connection import Connection, Outbox
from dynamo_fast.wire.data_messages import encode_get, encode_put, encode_read, encode_replicate
from dynamo_fast.wire.errors import ProtocolError
from dynamo_fast.wire.frame import FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import MAC_KEY, Planes, frames

PUT = encode_put(b"k", b"v", put_id=b"i" * 16)


def replicate(cluster: Planes, key: bytes = b"k", value: bytes = b"v", **options: bool) -> bytes:
    packed = Siblings().put(value, node=b"n" * 16, epoch=1, request_id=b"i" * 16).packed
    return encode_replicate(cluster.placement.name, key, packed, **options)


def reply_to(cluster: Planes, type: MessageType, body: bytes, *, target: int = 0, origin: int = 1) -> list[tuple[int, int, bytes]]:
    """What node `target` answers when node `origin` sends this: type, status and body."""
    replies = cluster.hold(frames(MessageType(type + 1), origin=target))
    cluster.inject(target, origin, type, body, request_id=7)
    cluster.run()
    cluster.held.pop()
    assert all(sent.frame.request_id == 7 for sent in replies)
    return [(sent.frame.type, sent.frame.status, sent.frame.body) for sent in replies]


# Who may say what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", [32, 33, 34, 35, 17, 19])
def test_frames_of_nodes_from_a_client_end_its_connection_alone(type: int) -> None:
    cluster = Planes()
    stranger, client = cluster.client(0), cluster.client(0)
    stranger.send(MessageType(type), replicate(cluster))
    assert stranger.connection.closing
    assert [str(error) for error in cluster.nodes[0].errors] == ["only nodes of the cluster send this kind of frame"]
    assert cluster.nodes[0].count("strangers") == 1
    assert cluster.ask(client, MessageType.PUT, b"k").status == Status.OK


@pytest.mark.parametrize("type", [MessageType.REPLICATE, MessageType.READ])
def test_a_peer_that_sends_what_cannot_be_read_loses_its_connection_alone(type: MessageType) -> None:
    cluster = Planes()
    cluster.inject(0, 1, type, b"garbage", request_id=1)
    cluster.run()
    assert isinstance(cluster.nodes[0].errors[0], ProtocolError)
    assert set(cluster.nodes[0].plane.peers_up()) == {cluster.node_ids[2]}
    assert cluster.put(0, b"k", w=2).status == Status.OK


def test_before_the_hello_nothing_is_answered() -> None:
    cluster = Planes()
    stranger = Connection(cluster.nodes[0].plane, Outbox())
    for type in (MessageType.PUT, MessageType.GET, MessageType.REPLICATE, MessageType.READ):
        with pytest.raises(ProtocolError, match="before the hello"):
            stranger.feed(encode_frame(type, PUT, request_id=1))


def test_other_frames_are_the_control_planes() -> None:
    cluster = Planes()
    client = cluster.client(0)
    for type in (MessageType.HELLO, MessageType.CONTROL, MessageType.CONTROL_REPLY):
        client.send(type, b"body")
    client.connection.feed(encode_frame(99, b"of another version", request_id=1))
    assert cluster.nodes[0].strange == [MessageType.HELLO, MessageType.CONTROL, MessageType.CONTROL_REPLY, 99]
    client.connection.notify_closed()
    assert cluster.nodes[0].closed == [client.connection]


def test_without_a_placement_everything_is_not_ready() -> None:
    cluster = Planes()
    node = cluster.nodes[0]
    node.plane = DataPlane(
        node_id=node.node_id, nonce=9, engine=node.engine, limits=cluster.limits, requests=cluster.requests,
        cluster_defaults=cluster.defaults, random_bytes=cluster.chance.randbytes, now_ms=1, control=print, storage_failed=print,
    )  # fmt: skip
    assert cluster.put(0, b"k").status == Status.NOT_READY
    assert cluster.get(0, b"k").status == Status.NOT_READY
    peer = node.connection(cluster.node_ids[1], 1 << 20)
    peer.feed(encode_frame(MessageType.REPLICATE, replicate(cluster), request_id=1))
    peer.feed(encode_frame(MessageType.READ, encode_read(cluster.placement.name, b"k"), request_id=2))
    assert [frame.status for frame in FrameCutter().feed(peer.take())] == [Status.STALE_PLACEMENT] * 2
    node.plane.set_cluster(cluster.cluster_id, MAC_KEY)
    node.plane.peer_up(cluster.node_ids[1], peer)
    cluster.introduce(node)
    assert node.plane.peers_up() == [cluster.node_ids[1]], "it was up before the placement was known"
    with pytest.raises(ValueError, match="one cluster all its life"):
        node.plane.set_cluster(cluster.cluster_id, MAC_KEY)


# The replica's side ----------------------------------------------------------------------------------------------------


def test_a_replica_merges_and_says_so() -> None:
    cluster = Planes()
    assert reply_to(cluster, MessageType.REPLICATE, replicate(cluster)) == [(33, Status.OK, b"")]
    assert reply_to(cluster, MessageType.REPLICATE, replicate(cluster, no_reply=True)) == []
    assert cluster.copy(0, b"k").values == (b"v",)


def test_what_is_no_object_is_refused_and_changes_nothing() -> None:
    cluster = Planes()
    good = Siblings().put(b"v", node=b"n" * 16).packed
    for end in range(len(good)):
        body = encode_replicate(cluster.placement.name, b"k", good[:end])
        assert reply_to(cluster, MessageType.REPLICATE, body) == [(33, Status.BAD_REQUEST, b"")]
    for at in range(8):
        bad = bytearray(good)
        bad[at] ^= 0x80
        body = encode_replicate(cluster.placement.name, b"k", bytes(bad))
        assert reply_to(cluster, MessageType.REPLICATE, body) == [(33, Status.BAD_REQUEST, b"")]
    assert cluster.record(0, b"k") is None


def test_another_placement_is_refused_for_writes_and_reads() -> None:
    cluster = Planes()
    cluster.introduce_as(cluster.nodes[1], name=1234)
    assert reply_to(cluster, MessageType.REPLICATE, replicate(cluster), target=1, origin=0) == [(33, Status.STALE_PLACEMENT, b"")]
    body = encode_read(cluster.placement.name, b"k")
    assert reply_to(cluster, MessageType.READ, body, target=1, origin=0) == [(35, Status.STALE_PLACEMENT, b"")]
    answer = cluster.put(0, b"k", w=3)
    assert answer.status == Status.QUORUM_FAILED
    assert f"node 1 refused with status {int(Status.STALE_PLACEMENT)}" in answer.text
    assert cluster.record(1, b"k") is None
    assert cluster.put(0, b"k").status == Status.OK, "the other two are enough"


def test_a_copy_is_shown_unless_the_asker_has_it() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"v")
    shown = reply_to(cluster, MessageType.READ, encode_read(cluster.placement.name, b"k"))
    assert shown == [(35, Status.OK, cluster.packed(0, b"k"))]
    assert reply_to(cluster, MessageType.READ, encode_read(cluster.placement.name, b"none")) == [(35, Status.NOT_FOUND, b"")]
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert reply_to(cluster, MessageType.READ, encode_read(cluster.placement.name, b"k")) == [(35, Status.READ_ONLY, b"")]


def test_a_copy_that_finds_no_room_on_the_way_is_overload() -> None:
    cluster = Planes(peer_outgoing_bytes_max=10_000)
    cluster.nodes[0].engine.hold_syncs = True
    client = cluster.client(0)
    client.put(b"k", bytes(11_000), w=1)
    assert client.answers[1].status == Status.OK
    assert reply_to(cluster, MessageType.READ, encode_read(cluster.placement.name, b"k")) == [(35, Status.OVERLOAD, b"")]
    assert "node 0 is overloaded" in cluster.get(1, b"k", r=3).text
    assert cluster.nodes[0].errors == []


# Waiting for the disk ----------------------------------------------------------------------------------------------------


def test_durable_acknowledgements_come_in_the_order_of_the_log_and_after_the_sync() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.hold_syncs = True
    replies = cluster.hold(frames(MessageType.REPLICATE_REPLY, origin=0))
    for number in range(5):
        cluster.inject(0, 1, MessageType.REPLICATE, replicate(cluster, b"k%d" % number, ack_durable=True), request_id=number)
    cluster.run()
    assert replies == []
    assert cluster.nodes[0].count("sync_queue") == 5
    cluster.nodes[0].plane.disk_synced()
    cluster.collect(cluster.nodes[0])
    assert replies == [], "the disk had not got that far"
    cluster.finish_syncs(0)
    assert [sent.frame.request_id for sent in replies] == list(range(5))


def test_a_peer_that_left_before_the_sync_needs_no_acknowledgement() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.hold_syncs = True
    cluster.inject(0, 1, MessageType.REPLICATE, replicate(cluster, ack_durable=True), request_id=1)
    cluster.run()
    cluster.cut(0, 1)
    cluster.link(0, 1)
    replies = cluster.hold(frames(MessageType.REPLICATE_REPLY))
    cluster.finish_syncs(0)
    assert replies == [], "its new connection did not ask"
    assert cluster.nodes[0].count("sync_queue") == 0


def test_a_peer_that_does_not_read_when_the_disk_is_done_loses_its_connection_alone() -> None:
    """The end of a sync is nobody's frame: what it raised would end the node."""
    cluster = Planes(peer_outgoing_bytes_max=4096)
    cluster.nodes[0].engine.hold_syncs = True
    for origin in (1, 2):
        body = replicate(cluster, b"of %d" % origin, ack_durable=True)
        cluster.inject(0, origin, MessageType.REPLICATE, body, request_id=origin)
    cluster.run()
    end = cluster.end_of(0, 1)
    end.send(MessageType.CONTROL, bytes(end.outgoing.limit - len(end.outgoing) - 24), request_id=1)
    replies = cluster.hold(frames(MessageType.REPLICATE_REPLY, origin=0))
    cluster.finish_syncs(0)
    assert end.closing
    assert [sent.target for sent in replies] == [2]
    assert cluster.put(0, b"k").status == Status.OK


def test_what_waits_for_the_disk_is_bounded() -> None:
    cluster = Planes(requests=RequestsSection(dw=0, requests_in_flight_max=2))
    cluster.nodes[0].engine.hold_syncs = True
    replies = cluster.hold(frames(MessageType.REPLICATE_REPLY, origin=0))
    for number in range(12):
        cluster.inject(0, 1, MessageType.REPLICATE, replicate(cluster, b"k%d" % number, ack_durable=True), request_id=number)
    cluster.run()
    assert [sent.frame.status for sent in replies] == [Status.OVERLOAD] * 4
    assert cluster.nodes[0].count("sync_queue") == 8
    assert cluster.copy(0, b"k11").values == (b"v",), "merged all the same"
    client = cluster.client(0)
    asked = client.put(b"k", dw=1, deadline_ms=100)
    cluster.pass_time(110)
    assert client.answers[asked].status == Status.DEADLINE
    assert cluster.nodes[0].count("sync_queue") == 8


def test_a_failed_pass_forgets_who_waited_for_it() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.failure = "no space left"
    replies = cluster.hold(frames(MessageType.REPLICATE_REPLY, origin=0))
    cluster.inject(0, 1, MessageType.REPLICATE, replicate(cluster, ack_durable=True), request_id=1)
    cluster.run()
    cluster.nodes[0].engine.heal()
    cluster.finish_syncs(0)
    assert replies == []
    cluster.release()
    assert reply_to(cluster, MessageType.REPLICATE, replicate(cluster, ack_durable=True)) == [(33, Status.OK, b"")]


def test_a_failed_pass_takes_back_only_its_own_answers() -> None:
    """What another pass, or a task in between, had said is true and stays."""
    cluster = Planes()
    node, client = cluster.nodes[0], cluster.client(0)
    client.reads = False
    asked = client.get(b"k")
    cluster.run()
    said = len(client.connection.outgoing)
    client.connection.send(MessageType.CONTROL_REPLY, b"said by a task", request_id=99)
    node.engine.failure = "no space left"
    client.put(b"k", w=1)
    assert said < len(client.connection.outgoing)
    assert [(frame.type, frame.request_id) for frame in FrameCutter().feed(client.connection.take())] == [
        (MessageType.GET_REPLY, asked),
        (MessageType.CONTROL_REPLY, 99),
    ]


# Coming and going ----------------------------------------------------------------------------------------------------


def test_a_node_that_drains_refuses_clients_and_finishes_what_it_has() -> None:
    cluster = Planes()
    client = cluster.client(0)
    cluster.hold(frames(MessageType.REPLICATE))
    asked = client.put(b"k", b"v")
    plane = cluster.nodes[0].plane
    plane.drain()
    for type, body in ((MessageType.PUT, PUT), (MessageType.GET, encode_get(b"k"))):
        refused = client.send(type, body)
        assert client.answers[refused].status == Status.NOT_READY
    assert plane.requests_in_flight == 1
    cluster.release()
    cluster.run()
    assert client.answers[asked].status == Status.OK
    assert plane.requests_in_flight == 0
    assert cluster.get(1, b"k", r=3).values == [b"v"]


def test_counters_say_what_was_done() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"1", put_id=b"a" * 16)
    cluster.put(0, b"k", b"1", put_id=b"a" * 16)
    cluster.get(1, b"k")
    cluster.put(0, b"k", bucket=b"unknown")
    said = cluster.nodes[0].plane.statistics()
    assert (said["puts"], said["retries"], said["refused"], said["reads"], said["stored"]) == (2, 1, 1, 1, 1)
    assert cluster.nodes[1].plane.statistics()["gets"] == 1
    assert cluster.nodes[1].plane.statistics()["merges"] == 2
    assert said["put_us"].count == 2


def test_nothing_is_kept_of_requests_that_are_over() -> None:
    """Every request holds its client's connection: afterwards nobody does."""
    cluster = Planes()
    cluster.nodes[0].engine.hold_syncs = True
    client = cluster.client(0)
    before = sys.getrefcount(client.connection)
    cluster.drop(frames(MessageType.READ, target=2))
    for number in range(50):
        client.put(b"%d" % number, dw=number % 2, w=3)
        client.get(b"%d" % number, r=2)
        cluster.run()
    cluster.finish_syncs(0)
    waiting = sys.getrefcount(client.connection)
    assert waiting > before, "gets that wait for the third home"
    cluster.pass_time(5000)
    assert len(client.answers) == 100
    after = sys.getrefcount(client.connection)
    assert after == before
