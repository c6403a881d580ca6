"""Puts that are refused for certain: nothing of them is written anywhere, and the sentence says what to do."""

from dynamo_fast.core.options import BucketSettings
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.wire.data_messages import encode_put
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.planes import Planes, frames

REPLICATED = frames(MessageType.REPLICATE_REPLY)


# What is refused, certainly ----------------------------------------------------------------------------------------------------


def refused(cluster: Planes, status: Status, words: str, key: bytes = b"k", value: bytes = b"v", **options: object) -> None:
    before = [cluster.record(node, key) for node in range(len(cluster.nodes))]
    answer = cluster.put(0, key, value, **options)
    assert answer.status == status
    assert answer.status.outcome is Outcome.NOT_APPLIED
    assert words in answer.text
    assert [cluster.record(node, key) for node in range(len(cluster.nodes))] == before


def test_contexts_of_another_key_cluster_or_bucket_and_damaged_ones_are_refused() -> None:
    cluster = Planes(buckets={b"b": BucketSettings()})
    good = cluster.put(0, b"k", b"1").context
    refused(cluster, Status.BAD_CONTEXT, "not of this key", key=b"other", context=good)
    refused(cluster, Status.BAD_CONTEXT, "not of this key", bucket=b"b", context=good)
    for bit in range(0, 8 * len(good), 7):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        refused(cluster, Status.BAD_CONTEXT, "damaged", context=bytes(bad))
    for end in (1, 39, len(good) - 1):
        refused(cluster, Status.BAD_CONTEXT, "damaged", context=good[:end])
    foreign = Planes(cluster_id=b"F" * 16).put(0, b"k", b"1").context
    refused(cluster, Status.BAD_CONTEXT, "cluster", context=foreign)
    assert cluster.put(0, b"k", b"2", context=good).status == Status.OK


def test_sizes_over_the_limits_are_refused() -> None:
    cluster = Planes(limits=LimitsSection(key_bytes_max=10, value_bytes_max=100))
    refused(cluster, Status.TOO_LARGE, "a key of 11 bytes: at most 10", key=b"k" * 11)
    refused(cluster, Status.TOO_LARGE, "a value of 101 bytes: at most 100", value=bytes(101))
    assert cluster.put(0, b"k" * 10, bytes(100)).status == Status.OK


def test_siblings_have_a_limit_for_puts_and_none_for_merges() -> None:
    cluster = Planes(limits=LimitsSection(siblings_max=3))
    for number in range(3):
        assert cluster.put(number % 2, b"k", b"%d" % number).status == Status.OK
    refused(cluster, Status.TOO_MANY_SIBLINGS, "resolve them", value=b"one too many")
    apart = Planes(limits=LimitsSection(siblings_max=3))
    apart.isolate(0)
    for number in range(3):
        assert apart.put(0, b"k", b"a%d" % number, w=1).status == Status.OK
        assert apart.put(1, b"k", b"b%d" % number).status == Status.OK
    apart.link(0, 1)
    apart.link(0, 2)
    merged = apart.get(0, b"k", r=3)
    assert len(merged.values) == 6
    assert apart.put(0, b"k", b"resolved", context=merged.context).status == Status.OK
    assert apart.get(1, b"k", r=3).values == [b"resolved"]


def test_siblings_together_have_a_limit_of_bytes() -> None:
    cluster = Planes(limits=LimitsSection(frame_bytes_max=4 << 20, value_bytes_max=1 << 20))
    first = cluster.put(0, b"k", bytes(900_000))
    refused(cluster, Status.TOO_LARGE, "together are too large", value=bytes(900_000))
    assert cluster.put(0, b"k", bytes(900_000), context=first.context).status == Status.OK


def test_unknown_buckets_and_impossible_numbers_are_refused() -> None:
    cluster = Planes(buckets={b"known": BucketSettings(w=3)})
    refused(cluster, Status.NO_SUCH_BUCKET, "bucket set", bucket=b"unknown")
    refused(cluster, Status.BAD_REQUEST, "w=4 is out of range", w=4)
    refused(cluster, Status.BAD_REQUEST, "dw=4 is out of range", dw=4)
    refused(cluster, Status.BAD_REQUEST, "deadline_ms=60001 is out of range", deadline_ms=60_001)
    cluster.drop(REPLICATED)
    client = cluster.client(0)
    asked = client.put(b"k", bucket=b"known")
    cluster.pass_time(1100)
    assert "wanted 3, got 1" in client.answers[asked].text, "the bucket's W"


def test_a_body_that_is_no_put_is_refused_and_the_connection_stays() -> None:
    cluster = Planes()
    client = cluster.client(0)
    whole = encode_put(b"k", b"v", put_id=b"i" * 16)
    for end in range(len(whole)):
        asked = client.send(MessageType.PUT, whole[:end])
        assert client.answers[asked].status == Status.BAD_REQUEST
    asked = client.send(MessageType.PUT, whole + b"?")
    assert client.answers[asked].status == Status.BAD_REQUEST
    client.put(b"k")
    cluster.run()
    assert client.answers[client.sent].status == Status.OK


def test_a_node_that_knows_no_cluster_or_is_stopping_says_so() -> None:
    cluster = Planes()
    cluster.nodes[0].plane.drain()
    refused(cluster, Status.NOT_READY, "stopping")
    assert cluster.put(1, b"k", b"v", w=3).status == Status.OK, "a node that stops still serves as a replica"


# Overload ----------------------------------------------------------------------------------------------------


def test_requests_in_flight_are_bounded_and_room_comes_back() -> None:
    cluster = Planes(requests=RequestsSection(dw=0, requests_in_flight_max=3))
    cluster.hold(frames(MessageType.REPLICATE))
    client = cluster.client(0)
    first = [client.put(b"k%d" % number) for number in range(3)]
    refused(cluster, Status.OVERLOAD, "slow down", key=b"one more")
    cluster.release()
    cluster.run()
    assert all(client.answers[asked].status == Status.OK for asked in first)
    assert cluster.put(0, b"one more").status == Status.OK


def test_put_ids_are_bounded_retries_are_still_known_and_room_comes_back() -> None:
    cluster = Planes(requests=RequestsSection(dw=0, put_ids_max=3))
    for number in range(3):
        assert cluster.put(0, b"k%d" % number, put_id=bytes([number + 1]) * 16).status == Status.OK
    refused(cluster, Status.OVERLOAD, "too many puts", key=b"one more")
    assert cluster.put(0, b"k0", put_id=b"\1" * 16).status == Status.OK
    cluster.pass_time(2100)
    assert cluster.put(0, b"one more").status == Status.OK


def test_clients_with_long_deadlines_use_up_ids_for_themselves_alone() -> None:
    cluster = Planes(requests=RequestsSection(dw=0, put_ids_max=3))
    for number in range(3):
        assert cluster.put(0, b"k%d" % number, put_id=bytes([number + 1]) * 16, deadline_ms=60_000).status == Status.OK
    refused(cluster, Status.OVERLOAD, "too many puts", key=b"patient", deadline_ms=60_000)
    assert cluster.put(0, b"hasty").status == Status.OK
    cluster.pass_time(100_000)
    assert cluster.put(0, b"k0", b"again", put_id=b"\1" * 16).status == Status.OK
    assert cluster.get(0, b"k0").values == [b""], "the id is known for twice the deadline that came with it"


def test_a_full_disk_and_a_full_log_are_told_apart() -> None:
    cluster = Planes()
    cluster.nodes[0].engine.full = True
    refused(cluster, Status.OVERLOAD, "its disk is behind")
    assert cluster.put(1, b"k", w=3).status == Status.OK, "merges are never refused for lack of room"
    cluster.nodes[0].engine.full = False
    cluster.fill_disk(0, "no space left")
    refused(cluster, Status.READ_ONLY, "no space left", key=b"k3")
