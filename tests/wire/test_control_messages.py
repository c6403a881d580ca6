"""HELLO and CONTROL bodies: round trips, bounds, and bytes that mean nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.membership import Leave, NodeEntry, make_record
from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.wire import control_messages as control
from dynamo_fast.wire import membership_messages as membership
from dynamo_fast.wire import replica_messages as replica

ID = bytes(range(16))
NODE = NodeEntry(id=ID, address="127.0.0.1:7400", host="a", zone="z", weight=7)
RECORD = make_record(Leave(node_id=ID), author=ID, time=1)
DECODERS = (control.decode_request, control.decode_reply, control.decode_hello, control.decode_hello_reply, control.decode_departure)
LIMITS = control.ClientLimits(key_bytes_max=4096, value_bytes_max=1 << 20, frame_bytes_max=1 << 24)
BUCKET = control.BucketEntry(name=b"cart", settings=BucketSettings(w=3, reconcile="last-write-wins"))

REQUESTS: list[control.Request] = [
    control.PlacementRequest(),
    control.StatusRequest(),
    control.RingInfoRequest(),
    membership.GossipRequest(digest=ID, records=[RECORD], wanted=[ID]),
    membership.BirthRequest(member=NODE, bootstrap=["a:1", "b:2"]),
    control.BucketSetRequest(name=b"cart", settings=BucketSettings(strict=True)),
    control.BucketListRequest(),
    control.KeysPageRequest(partitions=[0, 5, 65535], bucket=b"cart", after=b"x" * 24, limit=10),
    replica.MergeRequest(placement=(1 << 64) - 1, entries=[(b"cart", b"key", b"object"), (b"", b"k" * 4096, b"")]),
    replica.CompareRequest(placement=1, roots=bytes(16)),
    replica.CompareRequest(placement=1, partitions=[0, 65535], roots=bytes(16), finished=True),
    replica.TreeRequest(placement=1, level=4, nodes=[0, 15], depth=4),
    replica.EntriesRequest(placement=1, leaves=[255], after=bytes(24)),
    replica.OutlinesRequest(placement=1, keys=[bytes(24)]),
    replica.PullRequest(placement=1, keys=[bytes(24)], bytes_max=1),
    control.RepairRequest(run=7),
]
REPLIES: list[control.Reply] = [
    control.PlacementReply(number=1, name=1 << 33, digest=ID, cluster_id=ID, partitions=2, replicas=1, nodes=[NODE],
                           table=bytes(4), buckets=[BUCKET], defaults=ClusterDefaults(), limits=LIMITS),
    control.StatusReply(node_id=ID, address="a:1", host="a", zone="", state="ready", member=True, software="0", uptime_s=1.5,
                        cluster_id=ID, placement_number=1, placement_name=1, members=1, peers_up=[ID], history_digest=ID,
                        statistics={"engine": {"keys": 3}}),
    control.StatusReply(node_id=ID, address="a:1", host="a", zone="", weight=7, state="leaving", member=False, software="0", uptime_s=1.5,
                        cluster_id=ID, placement_number=2, placement_name=1, members=1, peers_up=[], history_digest=ID, statistics={},
                        change=control.ChangeStatus(from_number=2, to_number=3, step="synced", waiting_for=["a:1"], waiting_changes=4),
                        beside=[NODE]),
    control.RingInfoReply(number=1, name=1, digest=ID, partitions=2, replicas=1,
                          members=[control.MemberShare(node=NODE, partitions_first=2, partitions_owned=2, share=1.0, up=True)]),
    membership.GossipReply(digest=ID, ids=[ID], records=[RECORD]),
    membership.BirthReply(waiting_for=["b:2"], records=[RECORD]),
    control.BucketSetReply(),
    control.BucketListReply(buckets=[BUCKET], defaults=ClusterDefaults()),
    control.KeysPageReply(entries=b"s" * 24 + b"\x03\0key", next=b"s" * 24, done=True, suspects=[5]),
    replica.MergeReply(results=[(0, (1 << 64) - 1), (24, 0)], stalled_us=120, pause_us=350),
    replica.CompareReply(differing=[0, 65535], busy=[7]),
    replica.TreeReply(hashes=bytes(128)),
    replica.EntriesReply(entries=bytes(64), done=False),
    replica.OutlinesReply(outlines=[b"", b"outline"]),
    replica.PullReply(entries=[(b"cart", b"key", b"object")], answered=2),
    control.RepairReply(run=7, done=True, peers=2, partitions=2048, compared=2047, differing=3, keys_pulled=4, keys_pushed=5,
                        failed={"a:1": "no"}),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_requests_come_back_as_they_went(request_: control.Request) -> None:
    assert control.decode_request(control.encode(request_)) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda one: type(one).__name__)
def test_replies_come_back_as_they_went(reply: control.Reply) -> None:
    assert control.decode_reply(control.encode(reply)) == reply


def test_hello_comes_back_as_it_went_and_ignores_what_it_does_not_know() -> None:
    hello = control.Hello(versions=[1], role="node", cluster_id=ID, node_id=ID, address="a:1", software="x")
    assert control.decode_hello(control.encode(hello)) == hello
    newer = msgspec.msgpack.encode({"magic": "dynamo-fast", "versions": [1, 2], "role": "client", "compression": ["zstd"]})
    assert control.decode_hello(newer) == control.Hello(versions=[1, 2], role="client")
    reply = control.HelloReply(version=1, node_id=ID)
    assert control.decode_hello_reply(control.encode(reply)) == reply


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"op": "placement2"}, "placement2"),
        ({}, "op"),
        ({"op": "keys_page", "partitions": [-1]}, "partitions"),
        ({"op": "keys_page", "partitions": []}, "partitions"),
        ({"op": "keys_page", "partitions": [0] * 4097}, "partitions"),
        ({"op": "keys_page", "partitions": [0], "limit": 0}, "limit"),
        ({"op": "bucket_set", "name": b"x" * 65, "settings": {}}, "name"),
        ({"op": "gossip", "digest": b"short"}, "digest"),
    ],
)
def test_a_request_out_of_bounds_is_refused_and_the_field_named(fields: dict, said: str) -> None:
    with pytest.raises(control.ControlMessageError, match=said):
        control.decode_request(msgspec.msgpack.encode(fields))


def test_a_foreign_magic_is_refused() -> None:
    with pytest.raises(control.ControlMessageError, match="magic"):
        control.decode_hello(msgspec.msgpack.encode({"magic": "redis", "versions": [1], "role": "client"}))


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES], ids=lambda one: type(one).__name__)
def test_a_message_cut_at_any_byte_is_refused(message: control.Request | control.Reply) -> None:
    body = control.encode(message)
    for cut in range(len(body)):
        for decode in DECODERS:
            with pytest.raises(control.ControlMessageError):
                decode(body[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_typed_error(body: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(body)
        except control.ControlMessageError:
            continue


def test_a_nesting_bomb_is_refused() -> None:
    bomb = b"\x82\xa2op\xa6status\xaastatistics" + b"\x91" * 1_000_000
    for decode in (control.decode_request, control.decode_reply):
        with pytest.raises(control.ControlMessageError):
            decode(bomb)
