"""Control requests: whatever a handler does there is an answer, and the node lives; too many are refused at once."""

import logging

import pytest
import trio
import trio.testing

from dynamo_fast.node.control import QUEUE_MAX, QUEUED_PER_CONNECTION_MAX, Control, Refusal
from dynamo_fast.node.sessions import Session
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler
from dynamo_fast.wire.frame import Frame, FrameCutter
from dynamo_fast.wire.status import Status

LIST = messages.encode(messages.BucketListRequest())
SET = messages.encode(messages.BucketSetRequest(name=b"", settings=messages.BucketSettings()))


def session(role: str = "client") -> Session:
    made = Session(Connection(PyFrameHandler(), Outbox()), dialled=False, passing=False, since_s=0.0)
    made.role = role
    return made


def answers(one: Session) -> list[Frame]:
    return FrameCutter().feed(one.connection.take())


async def settle(control: Control) -> None:
    """Runs the workers until nothing is left to do."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def fine(one: Session, request: object) -> messages.Reply:
    return messages.BucketSetReply()


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (Refusal(Status.NOT_READY, "not yet"), Status.NOT_READY, "not yet"),
        (OSError(28, "No space left on device"), Status.READ_ONLY, "No space left"),
        (ZeroDivisionError("a bug"), Status.NOT_READY, "ZeroDivisionError: a bug"),
        (trio.BrokenResourceError("gone"), Status.NOT_READY, "BrokenResourceError"),
        (KeyError("x"), Status.NOT_READY, "KeyError"),
    ],
)
def test_whatever_a_handler_raises_is_an_answer(raised: Exception, status: Status, said: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(one: Session, request: object) -> messages.Reply:
        raise raised

    async def main() -> None:
        control, asking = Control(), session()
        control.on(messages.BucketListRequest, handler)
        control.on(messages.BucketSetRequest, fine)
        for request_id in range(10):
            control.submit(asking, request_id, LIST)
        control.submit(asking, 10, SET)
        await settle(control)
        found = sorted(answers(asking), key=lambda frame: frame.request_id)
        assert [frame.request_id for frame in found] == list(range(11))
        for frame in found[:10]:
            assert frame.status == status
            assert said in frame.body.decode()
        assert (found[10].status, asking.queued) == (Status.OK, 0)

    with caplog.at_level(logging.CRITICAL, "dynamo_fast.node"):
        trio.run(main)


def test_bytes_that_are_no_request_are_answered_with_what_is_wrong() -> None:
    async def main() -> None:
        control, asking = Control(), session()
        for body in (b"", b"\xc1", b"\x80", b"\x81\xa2op\xa5never", LIST[:-1]):
            control.submit(asking, 1, body)
        await settle(control)
        found = answers(asking)
        assert [frame.status for frame in found] == [Status.BAD_REQUEST] * 5
        assert all(frame.body for frame in found)

    trio.run(main)


def test_what_is_for_nodes_is_not_told_to_clients() -> None:
    async def main() -> None:
        control, client, node = Control(), session(), session("node")
        control.on(messages.BucketSetRequest, fine, nodes_only=True)
        control.submit(client, 1, SET)
        control.submit(node, 1, SET)
        await settle(control)
        assert answers(client)[0].status == Status.BAD_REQUEST
        assert answers(node)[0].status == Status.OK

    trio.run(main)


def test_too_many_requests_of_one_connection_leave_room_for_others() -> None:
    async def main() -> None:
        control, greedy, modest = Control(), session(), session()
        control.on(messages.BucketSetRequest, fine)
        for request_id in range(QUEUED_PER_CONNECTION_MAX + 5):
            control.submit(greedy, request_id, SET)
        refused = answers(greedy)
        assert [frame.status for frame in refused] == [Status.OVERLOAD] * 5
        control.submit(modest, 1, SET)
        await settle(control)
        assert answers(modest)[0].status == Status.OK
        assert len(answers(greedy)) == QUEUED_PER_CONNECTION_MAX
        assert control.statistics()["overloaded"] == 5

    trio.run(main)


def test_the_queue_has_an_end() -> None:
    async def main() -> None:
        control = Control()
        control.on(messages.BucketSetRequest, fine)
        asking = [session() for _ in range(QUEUE_MAX // QUEUED_PER_CONNECTION_MAX + 1)]
        for one in asking:
            for request_id in range(QUEUED_PER_CONNECTION_MAX):
                control.submit(one, request_id, SET)
        assert len(answers(asking[-1])) == QUEUED_PER_CONNECTION_MAX
        assert control.statistics()["waiting"] == QUEUE_MAX

    trio.run(main)


def test_an_answer_to_a_closed_connection_is_dropped() -> None:
    async def main() -> None:
        control, gone = Control(), session()
        control.on(messages.BucketSetRequest, fine)
        control.submit(gone, 1, SET)
        gone.ended("closed by the other side")
        await settle(control)
        assert answers(gone) == []

    trio.run(main)
