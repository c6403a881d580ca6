"""What the client does when nodes refuse, fall silent, break or lie: every answer is ok, certainly not applied, or unknown."""

from __future__ import annotations

import struct

import msgspec
import pytest
import trio

import dynamo_fast
from dynamo_fast.client import errors
from dynamo_fast.client.connection import Answers, Connection
from dynamo_fast.client.settings import Settings
from dynamo_fast.wire import control_messages as control
from dynamo_fast.wire.data_messages import decode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.client.fake_node import FakeCluster, FakeNode, fake_cluster, in_virtual_time

PERMANENT = [
    Status.BAD_REQUEST,
    Status.TOO_LARGE,
    Status.BAD_CONTEXT,
    Status.TOO_MANY_SIBLINGS,
    Status.NO_SUCH_BUCKET,
    Status.CLOCK_FULL,
    Status.KEY_COLLISION,
]


def put_ids(cluster: FakeCluster) -> list[bytes]:
    return [decode_put(frame.body).put_id for frame in cluster.served(MessageType.PUT)]


def test_every_status_of_the_protocol_has_an_error_of_the_right_kind() -> None:
    for status in Status:
        if status > Status.NOT_FOUND:
            error = errors.error_of(status, b"because")
            assert isinstance(error, errors.Unknown if status >= 64 else errors.NotApplied)
            assert type(error) not in (errors.Unknown, errors.NotApplied)
            assert str(error) == "because"
    assert type(errors.error_of(63, b"")) is errors.NotApplied
    assert type(errors.error_of(999, b"\xff")) is errors.Unknown


@in_virtual_time
async def test_a_success_of_a_newer_protocol_is_a_success() -> None:
    async with fake_cluster() as (cluster, db):
        good = FakeNode._put
        for node in cluster.nodes:
            node._put = lambda frame, node=node: (15, good(node, frame)[1])  # type: ignore[method-assign, misc]
        context = await db.put("k", b"v")
        assert (await db.get("k")).context == context
        assert len(put_ids(cluster)) == 1


@pytest.mark.parametrize("status", PERMANENT)
@in_virtual_time
async def test_a_refusal_that_would_come_again_is_not_retried(status: Status) -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.script.append(status)
        with pytest.raises(errors.OF_STATUS[status], match=f"told to answer {status.name}"):
            await db.put("k", b"v")
        assert len(put_ids(cluster)) == 1


@in_virtual_time
async def test_overload_is_retried_elsewhere_after_a_pause_until_it_succeeds_or_the_deadline() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.script.append(Status.OVERLOAD)
        await db.put("k", b"v")
        assert len(put_ids(cluster)) == 4
        assert len(set(put_ids(cluster))) == 1
        for node in cluster.nodes:
            node.script.extend([Status.OVERLOAD] * 50)
        started_s = trio.current_time()
        with pytest.raises(dynamo_fast.Overload, match="attempts"):
            await db.get("k", deadline_s=0.5)
        assert trio.current_time() - started_s < 0.6


@in_virtual_time
async def test_a_put_of_unknown_fate_goes_back_to_the_same_coordinator_with_the_same_id() -> None:
    async with fake_cluster() as (cluster, db):
        for order in (("apply", Status.QUORUM_FAILED), ("apply", Status.DEADLINE), ("apply", "break")):
            for node in cluster.nodes:
                node.received.clear()
                node.script.clear()
                node.script.append(order)
            await db.put("k", b"v")
            (coordinator,) = [node for node in cluster.nodes if node.received]
            assert [frame.type for frame in coordinator.received] == [MessageType.PUT] * 2
            assert len(set(put_ids(cluster))) == 1
        assert len((await db.get("k")).siblings) == 3


@in_virtual_time
async def test_after_an_unknown_attempt_a_refusal_is_still_unknown() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.script.extend([("apply", Status.QUORUM_FAILED), Status.BAD_CONTEXT])
        with pytest.raises(dynamo_fast.QuorumFailed, match="told to answer QUORUM_FAILED; tried again: told to answer BAD_CONTEXT"):
            await db.put("k", b"v")
        assert (await db.get("k")).value == b"v"


@in_virtual_time
async def test_a_silent_home_costs_a_part_of_the_deadline_and_then_is_avoided() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put("k", b"v")
        first = next(node for node in cluster.nodes if node.received)
        first.silent = True
        for index in range(20):
            assert (await db.get("k")).value == b"v", index
        arrived = len(first.received)
        for _ in range(20):
            await db.get("k")
        assert len(first.received) == arrived
        first.silent = False
        await trio.sleep(30)
        await db.put_many({f"k{i}": b"v" for i in range(100)})
        assert len(first.received) > arrived


@in_virtual_time
async def test_puts_under_way_at_a_node_that_fell_silent_are_taken_elsewhere() -> None:
    """Also those that were sent a little later than the one by which its silence was noticed: it is the node that is gone, not its
    connection alone, and each that waited for another one would take from the time of all others in its batch."""
    async with fake_cluster() as (cluster, db):
        await db.put("k", b"v")
        first = next(node for node in cluster.nodes if node.received)
        first.silent = True
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(db.get, "k")
            await trio.sleep(0.3)
            items = {f"k{i}": b"v" for i in range(200)}
            await db.put_many(items, overwrite=True)
        assert len(set(put_ids(cluster))) == 201


@in_virtual_time
async def test_when_every_node_is_silent_the_answer_is_unknown_in_time_and_memory_is_given_back() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.silent = True
        started_s = trio.current_time()
        with pytest.raises(dynamo_fast.Unknown):
            await db.put("k", b"v", deadline_s=2.0)
        assert trio.current_time() - started_s < 2.5
        await trio.sleep(5)
        assert all(not node.get("requests_in_flight") for node in db.statistics()["nodes"].values())


@in_virtual_time
async def test_a_dead_node_is_survived_and_taken_back() -> None:
    async with fake_cluster(nodes=5) as (cluster, db):
        items = {f"k{i}": b"%d" % i for i in range(200)}
        await db.put_many(items)
        await cluster.nodes[2].kill()
        assert [result.value for result in await db.get_many(items)] == list(items.values())
        await db.put_many(items, overwrite=True)
        cluster.nodes[2].away = False
        received = len(cluster.nodes[2].received)
        await trio.sleep(20)
        await db.get_many(items)
        assert len(cluster.nodes[2].received) > received


@in_virtual_time
async def test_with_all_nodes_gone_a_request_was_certainly_not_applied() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            await node.kill()
        await trio.sleep(1)
        with pytest.raises(dynamo_fast.Unreachable, match="nobody at"):
            await db.put("k", b"v")


@in_virtual_time
async def test_a_connection_that_breaks_after_the_request_went_out_leaves_it_unknown() -> None:
    async with fake_cluster(attempts_max=1) as (cluster, db):
        for node in cluster.nodes:
            node.script.append("break")
        with pytest.raises(dynamo_fast.ConnectionLost, match="closed the connection"):
            await db.put("k", b"v")


@in_virtual_time
async def test_bytes_that_are_not_the_protocol_end_the_connection_and_nothing_else() -> None:
    async with fake_cluster() as (cluster, db):
        await db.put("k", b"v")
        for node in cluster.nodes:
            await node.say(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await trio.sleep(1)
        assert (await db.get("k")).value == b"v"


@in_virtual_time
async def test_answers_in_pieces_of_one_byte_are_put_together() -> None:
    async with fake_cluster() as (cluster, db):
        for node in cluster.nodes:
            node.fragment_bytes = 1
        items = {f"k{i}": bytes([i]) * i for i in range(50)}
        await db.put_many(items)
        assert [result.value for result in await db.get_many(items)] == list(items.values())


@in_virtual_time
async def test_a_cancelled_request_leaves_the_connection_whole() -> None:
    async with fake_cluster(nodes=1, replicas=1) as (cluster, db):
        cluster.nodes[0].script.extend([5.0] * 10)
        for index in range(10):
            with trio.move_on_after(0.001 * index):
                await db.put("k", b"v" * 10_000, deadline_s=10.0)
        for index in range(50):
            await db.put(f"k{index}", b"%d" % index)
        assert [result.value for result in await db.get_many([f"k{index}" for index in range(50)])] == [b"%d" % i for i in range(50)]
        await trio.sleep(20)
        statistics = db.statistics()["nodes"]["10.0.0.1:7400"]
        assert (statistics["requests_in_flight"], statistics["late_answers"]) == (0, 0)
        assert cluster.nodes[0].connections == 1


@in_virtual_time
async def test_requests_beyond_the_limit_wait_their_turn_or_are_refused_at_their_deadline() -> None:
    async with fake_cluster(nodes=1, replicas=1, requests_in_flight_max=4) as (cluster, db):
        await db.put_many({f"k{i}": b"v" for i in range(100)})
        assert cluster.nodes[0].most_at_once <= 4
        cluster.nodes[0].script.extend([2.0] * 4)
        outcomes: list[str] = []

        async def put(index: int) -> None:
            try:
                await db.put(f"k{index}", b"v", deadline_s=5.0 if index < 4 else 1.0)
                outcomes.append("ok")
            except dynamo_fast.NotApplied as error:
                outcomes.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(put, index)
                await trio.testing.wait_all_tasks_blocked()
        assert sorted(outcomes) == ["Overload"] * 4 + ["ok"] * 4


@in_virtual_time
async def test_a_session_waits_for_an_answer_that_covers_what_it_saw() -> None:
    async with fake_cluster() as (cluster, db):
        session = dynamo_fast.Session()
        await db.put("k", b"1", session=session)
        context = (await db.get("k", session=session)).context
        await db.put("k", b"2", context=context, session=session)
        behind = cluster.nodes[:2]
        for node in behind:
            cluster.forgetful[node.address] = {}
        for _ in range(10):
            assert (await db.get("k", session=session)).value == b"2"
        cluster.forgetful[cluster.nodes[2].address] = {}
        with pytest.raises(dynamo_fast.DeadlineExceeded, match="what the session has seen"):
            await db.get("k", session=session)
        await db.get("k")  # without the session nothing is asked of the answer


@in_virtual_time
async def test_one_bad_item_of_many_hides_nothing_of_what_became_of_the_others() -> None:
    async with fake_cluster(batch_requests_max=2) as (_, db):
        items = {"a": b"1", "b": b"2", "c": bytes((1 << 20) + 1), "d": b"4"}
        with pytest.raises(dynamo_fast.BatchFailed, match="1 of 4 requests failed") as raised:
            await db.put_many(items)
        assert [type(outcome) for outcome in raised.value.outcomes] == [bytes, bytes, dynamo_fast.TooLarge, bytes]
        assert [(await db.get(key)).found for key in items] == [True, True, False, True]
        with pytest.raises(dynamo_fast.BatchFailed) as raised:
            await db.get_many(["a", "", "d"])
        assert [type(outcome) for outcome in raised.value.outcomes] == [dynamo_fast.Result, dynamo_fast.BadRequest, dynamo_fast.Result]


@in_virtual_time
async def test_control_answers_that_make_no_sense_are_errors_of_the_store_and_end_no_client() -> None:
    async with fake_cluster(refresh_s=1.0) as (cluster, db):
        good = cluster.answer_control
        placement = cluster.placement()
        repeated = struct.pack("<H", 0) * (len(placement.table) // 2)
        for told in (b"\xc1 no msgpack", control.encode(msgspec.structs.replace(placement, table=repeated, number=2)),
                     control.encode(msgspec.structs.replace(placement, table=b"short", number=2))):  # fmt: skip
            cluster.answer_control = lambda node, frame, told=told: (Status.OK, told)  # type: ignore[method-assign]
            with pytest.raises(dynamo_fast.DynamoError):
                await db.cluster.ring()
            with pytest.raises(dynamo_fast.DynamoError):
                await db.keys().take(10)
            await trio.sleep(5)
            await db.put("k", b"v", overwrite=True)
        assert db.statistics()["failed_refreshes"] >= 3
        cluster.answer_control = good  # type: ignore[method-assign]
        assert await db.keys().take(10) == [b"k"]


class AnswersWhileClosing(trio.abc.Stream):
    """What came in the same turn of the loop in which somebody closed the connection: it is still handed to the reader."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.sent = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self.sent.wait()
        assert self.connection is not None
        self.connection.close("for the test")
        return encode_frame(MessageType.GET_REPLY, b"", request_id=1)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.set()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@in_virtual_time
async def test_an_answer_that_comes_while_the_connection_closes_is_given_to_nobody_twice() -> None:
    stream, answers = AnswersWhileClosing(), Answers()
    connection = stream.connection = Connection(stream, Settings(), lambda seconds: None, "node")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        connection.send(MessageType.GET, b"", answers, 0.0, 1.0)
        elsewhere = answers.expect()  # a place that another connection is to fill
        await stream.sent.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert connection.statistics() == {"requests_in_flight": 0, "queued_bytes": 0, "late_answers": 1}
        answers.give(elsewhere, errors.Unreachable("the last one"))
        await answers.wait()
    assert [type(reply) for reply in answers.replies] == [errors.ConnectionLost, errors.Unreachable]
