"""The generator over our own protocol: contexts travel, siblings and lies are found, replies may come in any order."""

from dataclasses import replace

import pytest

from dynamo_fast.core.ring import Ring
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import LoadError
from dynamo_fast.load.target import DynamoTarget
from dynamo_fast.load.workload import Workload, fill, run, verify
from dynamo_fast.wire.frame import Frame, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.load.fake_node import FakeNode
from tests.load.fake_server import FakeServer

SMALL = Workload(connections=4, depth=4, operations=400, seconds=0, warmup_s=0, silence_s=5)


@pytest.mark.parametrize("fragment_bytes", [None, 1, 7])
@pytest.mark.parametrize("value_bytes", [(0, 0), (1, 300)])
def test_what_is_written_is_read_back(value_bytes: tuple[int, int], fragment_bytes: int | None) -> None:
    node, keys = FakeNode(), KeySpace(100, *value_bytes)
    node.backwards = fragment_bytes is None
    with FakeServer(node, fragment_bytes) as server:
        target = DynamoTarget([server.address])
        for report in (
            fill(target, keys, SMALL), run(target, keys, replace(SMALL, gets=0.5, order="zipf")), verify(target, keys, SMALL),
        ):
            assert report.problems == []
    assert all(len(versions) == 1 for versions in node.versions.values())
    assert keys.statistics()["contexts"] == keys.statistics()["known"] == 100
    # Only the first put of a key overwrites; every later one carries the context of the one before.
    assert sum(put.overwrite for put in node.puts) == 100
    assert all(bool(put.context) != put.overwrite for put in node.puts)
    assert len({put.put_id for put in node.puts}) == len(node.puts)


def test_two_runs_share_no_put_id() -> None:
    node = FakeNode()
    with FakeServer(node) as server:
        for _ in range(2):
            assert fill(DynamoTarget([server.address]), KeySpace(100, 8, 8), SMALL).problems == []
    assert len({put.put_id for put in node.puts}) == 200


def test_options_travel_in_every_request() -> None:
    node = FakeNode()
    with FakeServer(node) as server:
        target = DynamoTarget([server.address], w=3, dw=0, r=1, strict=True, bucket=b"carts", deadline_ms=77)
        assert run(target, KeySpace(100, 8, 8), replace(SMALL, gets=0.5)).problems == []
    assert {(put.w, put.dw, put.strict, put.bucket, put.deadline_ms) for put in node.puts} == {(3, 0, True, b"carts", 77)}


def test_siblings_fail_the_run() -> None:
    node, keys = FakeNode(), KeySpace(100, 8, 8)
    with FakeServer(node) as server:
        target = DynamoTarget([server.address])
        fill(target, keys, SMALL)
        for number in (1, 2, 3):
            node.versions[keys.name(number)].append((node.events, b"another"))
        report = verify(target, keys, SMALL)
    assert report.problems == ["3 gets showed siblings, though every put carried its key's context"]


def test_a_lost_key_and_a_wrong_value_are_found() -> None:
    node, keys = FakeNode(), KeySpace(100, 8, 8)
    with FakeServer(node) as server:
        target = DynamoTarget([server.address])
        fill(target, keys, SMALL)
        node.versions[keys.name(1)] = []
        node.versions[keys.name(2)] = [(1, b"another!")]
        assert verify(target, keys, SMALL).values_wrong == 2


def test_failed_replies_are_counted_by_status_and_quoted() -> None:
    node = FakeNode()
    original = node.reply

    def reply(frame: Frame) -> bytes:
        if frame.type == MessageType.HELLO:
            return original(frame)
        return encode_frame(frame.type + 1, b"zu viel", request_id=frame.request_id, status=Status.OVERLOAD)

    node.reply = reply  # type: ignore[method-assign]
    with FakeServer(node) as server:
        report = run(DynamoTarget([server.address]), KeySpace(100, 8, 8), SMALL)
    assert report.problems == ["400 requests failed (OVERLOAD): zu viel"]


@pytest.mark.parametrize("answer", [
    lambda frame: encode_frame(frame.type + 1, request_id=frame.request_id + 1),
    lambda frame: encode_frame(frame.type + 1, request_id=frame.request_id) * 2,
])
def test_a_reply_to_nothing_ends_the_run(answer: object) -> None:
    expect_failure(answer, "was not sent")


@pytest.mark.parametrize("answer", [
    lambda frame: bytes(24),
    lambda frame: encode_frame(MessageType.READ_REPLY, request_id=frame.request_id),
    lambda frame: encode_frame(MessageType.GET_REPLY, b"short", request_id=frame.request_id),
])
def test_bytes_that_are_no_reply_end_the_run(answer: object) -> None:
    expect_failure(answer, "no reply of this protocol")


def expect_failure(answer: object, message: str) -> None:
    node = FakeNode()
    original = node.reply
    assert callable(answer)
    node.reply = lambda frame: original(frame) if frame.type == MessageType.HELLO else answer(frame)  # type: ignore[method-assign]
    with FakeServer(node) as server, pytest.raises(LoadError, match=message):
        run(DynamoTarget([server.address]), KeySpace(100, 8, 8), SMALL)


def test_a_refused_greeting_is_said() -> None:
    node = FakeNode()
    node.reply = lambda frame: encode_frame(MessageType.HELLO_REPLY, b"go away", status=Status.UNSUPPORTED_VERSION)  # type: ignore[method-assign]
    with FakeServer(node) as server, pytest.raises(OSError, match="refused the greeting: go away"):
        run(DynamoTarget([server.address]), KeySpace(100, 8, 8), SMALL)


def test_each_key_goes_through_its_first_home() -> None:
    nodes = [FakeNode(number) for number in range(3)]
    keys = KeySpace(300, 8, 8)
    with FakeServer(nodes[0]) as one, FakeServer(nodes[1]) as two, FakeServer(nodes[2]) as three:
        servers = [one.address, two.address, three.address]
        for node in nodes:
            node.members = servers
        assert fill(DynamoTarget(servers), keys, SMALL).problems == []
    ring = Ring(8, 3, [[(first + step) % 3 for step in range(3)] for first in range(8)])
    for node in nodes:
        assert node.versions
        assert {ring.preference_list(key)[0] for key in node.versions} == {node.number}
    assert sum(len(node.versions) for node in nodes) == 300


def test_servers_that_are_no_members_cannot_be_loaded_by_home() -> None:
    nodes = [FakeNode(), FakeNode()]
    with FakeServer(nodes[0]) as one, FakeServer(nodes[1]) as two:
        nodes[0].members = [("127.0.0.9", 1)]
        servers = [one.address, two.address]
        with pytest.raises(ConnectionError, match="--route any"):
            fill(DynamoTarget(servers), KeySpace(100, 8, 8), SMALL)
        assert fill(DynamoTarget(servers, by_home=False), KeySpace(100, 8, 8), SMALL).problems == []
