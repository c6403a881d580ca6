"""One connection to one node: many requests in flight, one reader, one writer.

Requests of all tasks are queued as whole frames and written by one task, so that a caller cancelled at any moment leaves the stream
intact, and everything queued within one turn of the loop goes out in one send. Answers are handed out by request id; the answer to a
request nobody waits for any more is counted and dropped, and holds its place in flight until it comes or expires.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from dynamo_fast.client.errors import ConnectionLost, DeadlineExceeded, DynamoError, Unreachable
from dynamo_fast.client.settings import Settings
from dynamo_fast.wire.errors import ProtocolError
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame

RECEIVE_BYTES = 256 << 10


class Answers:
    """The answers to a group of requests, for which one task waits: a Frame each, or the error that stands for it."""

    __slots__ = ("_missing", "_task", "replies")

    def __init__(self) -> None:
        self.replies: list[Frame | DynamoError | None] = []  # in the order of `expect`; None only while missing
        self._missing = 0
        self._task: trio.lowlevel.Task | None = None

    def expect(self) -> int:
        """A place for one more answer."""
        self.replies.append(None)
        self._missing += 1
        return len(self.replies) - 1

    def give(self, index: int, reply: Frame | DynamoError) -> None:
        """Fills a place, once; the last one wakes the waiting task."""
        self.replies[index] = reply
        self._missing -= 1
        if not self._missing and self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Returns when every place is filled, which deadlines make certain."""
        if not self._missing:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None  # the answers still come, to nobody
        return trio.lowlevel.Abort.SUCCEEDED


class Connection:
    """A stream on which frames are multiplexed. `run` must be a task for as long as the connection is used."""

    def __init__(self, stream: trio.abc.Stream, settings: Settings, observe: Callable[[float], None], name: str) -> None:
        """observe: called with the seconds that each answered request took; name: of the node, for error texts."""
        self.closed: str | None = None  # why, once it is
        self._stream = stream
        self._settings = settings
        self._observe = observe
        self._name = name
        self.in_flight: dict[int, tuple[Answers, int, float, float, float]] = {}  # request id -> place, sent at, patience, deadline
        self._next_id = 1
        self._written_id = 0  # requests up to this one may have reached the node
        self._queue: list[bytes] = []
        self._queued_bytes = 0  # of the queue and of the send under way
        self._writer: trio.lowlevel.Task | None = None  # set while the writer sleeps
        self._room = trio.lowlevel.ParkingLot()
        self._received_s = trio.current_time()
        self._late = 0
        self._scope = trio.CancelScope()

    def has_room(self) -> bool:
        """Whether one more request may be sent now."""
        return len(self.in_flight) < self._settings.requests_in_flight_max and self._queued_bytes < self._settings.outgoing_bytes_max

    async def wait_room(self) -> None:
        """Returns when there may be room, or the connection is closed."""
        await self._room.park()

    def send(self, kind: int, body: bytes, answers: Answers, now_s: float, deadline_s: float, patience_s: float = math.inf) -> None:
        """Queues one request; its answer, or DeadlineExceeded at deadline_s, goes to `answers`. Times are of the loop's clock.

        At patience_s it is given up if the node has said nothing at all since it was sent: a node that is merely slow is not left, since
        asking another one too would make everything slower still.
        """
        index = answers.expect()
        if self.closed is not None:
            answers.give(index, Unreachable(f"{self._name}: {self.closed}"))
            return
        request_id = self._next_id
        self._next_id = request_id + 1
        frame = encode_frame(kind, body, request_id)
        self.in_flight[request_id] = (answers, index, now_s, patience_s, deadline_s)
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            trio.lowlevel.reschedule(writer)

    async def run(self) -> None:
        """Reads and writes until the stream breaks or `close` is called. Owns the stream and closes it; raises nothing but Cancelled."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guarded, self._write)
                    nursery.start_soon(self._guarded, self._read)
        finally:
            self.close("the client was closed")
            await trio.aclose_forcefully(self._stream)

    def close(self, reason: str) -> None:
        """Ends the connection; every request in flight gets its error now. Closing twice is harmless."""
        if self.closed is not None:
            return
        self.closed = reason
        self._scope.cancel()
        self._queue.clear()
        self._queued_bytes = 0  # so that whoever waits for room finds out that there is no connection any more
        in_flight, self.in_flight = self.in_flight, {}
        for request_id, (answers, index, _, _, _) in in_flight.items():
            sent = request_id <= self._written_id
            answers.give(index, (ConnectionLost if sent else Unreachable)(f"{self._name}: {reason}"))
        self._room.unpark_all()

    def expire(self, now_s: float) -> None:
        """Answers the requests whose deadline has passed; closes a connection that said nothing since such a request was sent.

        Whatever else is in flight there is told the same: a lost connection would send puts back to a node that has fallen silent.
        """
        silent = False
        for request_id, (answers, index, sent_s, patience_s, deadline_s) in list(self.in_flight.items()):
            if deadline_s <= now_s or (patience_s <= now_s and self._received_s <= sent_s):
                del self.in_flight[request_id]
                self._observe(now_s - sent_s)
                answers.give(index, DeadlineExceeded(f"{self._name} gave no answer within {now_s - sent_s:.3f} s"))
                silent = silent or self._received_s <= sent_s
        if silent:
            in_flight, self.in_flight = self.in_flight, {}
            for answers, index, *_ in in_flight.values():
                answers.give(index, DeadlineExceeded(f"{self._name} answers nothing"))
            self.close("it answers nothing")
        self._let_in()

    def statistics(self) -> dict[str, int]:
        """Counts: requests in flight, bytes queued, answers that came after their request was given up."""
        return {"requests_in_flight": len(self.in_flight), "queued_bytes": self._queued_bytes, "late_answers": self._late}

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.close(f"connection broken: {error.__cause__ or error or type(error).__name__}")
        except ProtocolError as error:
            self.close(f"it does not speak the protocol: {error}")

    async def _write(self) -> None:
        while True:
            while not self._queue:
                self._writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_write)
            chunk = self._queue[0] if len(self._queue) == 1 else b"".join(self._queue)
            self._queue.clear()
            self._written_id = self._next_id - 1
            await self._stream.send_all(chunk)
            self._queued_bytes -= len(chunk)
            self._let_in()

    def _let_in(self) -> None:
        """Wakes as many of those who wait for room as there is room for."""
        if self._room:
            self._room.unpark(count=max(0, self._settings.requests_in_flight_max - len(self.in_flight)))

    def _abort_write(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _read(self) -> None:
        cutter = FrameCutter(self._settings.answer_bytes_max)
        while True:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                self.close("the node closed the connection")
                return
            now_s = self._received_s = trio.current_time()
            for frame in cutter.feed(bytes(data)):
                waiting = self.in_flight.pop(frame.request_id, None)  # `close` answers all and leaves nobody here to answer twice
                if waiting is None:
                    self._late += 1
                    continue
                answers, index, sent_s, _, _ = waiting
                self._observe(now_s - sent_s)
                answers.give(index, frame)
            self._let_in()
