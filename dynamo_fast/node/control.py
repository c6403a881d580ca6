"""Control requests: a bounded queue from the data plane's loop to handlers that are trio tasks.

A handler takes a session and a request and returns the reply, or raises Refusal. One wrapper stands around all of them: whatever a
handler raises becomes an answer and a line in the log, and never takes the node down. What does not fit the queue is answered
`overload` at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from dynamo_fast.node.sessions import Session
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

QUEUE_MAX = 1024  # control requests waiting on the whole node
QUEUED_PER_CONNECTION_MAX = 64  # of one connection, waiting or being answered
LONG_BYTES = 1 << 20  # requests longer than this are counted by their bytes as well
LONG_BYTES_MAX = 64 << 20  # of those, waiting or being answered; one is taken in any case, whatever its length
WORKERS = 4  # control requests answered at once

Handler = Callable[[Session, Any], Awaitable[messages.Reply]]


class Refusal(Exception):
    """A request that is not done: the status and the sentence for whoever asked."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class Control:
    """The queue, the table of handlers by request type, and the workers between."""

    def __init__(self) -> None:
        self._handlers: dict[type, tuple[Handler, bool]] = {}
        self._send: trio.MemorySendChannel[tuple[Session, int, bytes]]
        self._send, self._receive = trio.open_memory_channel[tuple[Session, int, bytes]](QUEUE_MAX)
        self.answered = self.refused = self.overloaded = self.failed = self.long_bytes = 0

    def on(self, request: type, handler: Handler, *, nodes_only: bool = False) -> None:
        """Requests of that type go to that handler; `nodes_only`: what it tells is not for clients."""
        self._handlers[request] = (handler, nodes_only)

    def submit(self, session: Session, request_id: int, body: bytes) -> None:
        """Queues a request, or answers at once that there are too many. Never waits: the data plane's loop calls it."""
        long_bytes = len(body) if len(body) > LONG_BYTES else 0
        crowded = long_bytes and self.long_bytes and self.long_bytes + long_bytes > LONG_BYTES_MAX
        try:
            if crowded or session.queued >= QUEUED_PER_CONNECTION_MAX:
                raise trio.WouldBlock
            self._send.send_nowait((session, request_id, body))
        except trio.WouldBlock:
            self.overloaded += 1
            session.reply(request_id, Status.OVERLOAD, b"too many control requests are waiting; try again later")
        else:
            session.queued += 1
            self.long_bytes += long_bytes

    async def run(self) -> None:
        """Answers requests until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    def statistics(self) -> dict[str, int]:
        return {
            "waiting": self._receive.statistics().current_buffer_used,
            "answered": self.answered,
            "refused": self.refused,
            "overloaded": self.overloaded,
            "failed": self.failed,
        }

    async def _work(self) -> None:
        while True:
            session, request_id, body = await self._receive.receive()
            try:
                status, answer = await self._answer(session, body)
            finally:
                session.queued -= 1
                self.long_bytes -= len(body) if len(body) > LONG_BYTES else 0
            session.reply(request_id, status, answer)
            del body, answer  # which may be long, and the next may be long in coming

    async def _answer(self, session: Session, body: bytes) -> tuple[Status, bytes]:
        """The one wrapper around all handlers: an answer, whatever happens."""
        try:
            request = messages.decode_request(body)
            handler, nodes_only = self._handlers[type(request)]
            if nodes_only and session.role != "node":
                raise Refusal(Status.BAD_REQUEST, "only nodes may ask this")
            reply = messages.encode(await handler(session, request))
        except Refusal as refusal:
            self.refused += 1
            return refusal.status, str(refusal).encode()
        except messages.ControlMessageError as error:
            self.refused += 1
            return Status.BAD_REQUEST, str(error).encode()
        except OSError as error:
            self.refused += 1
            log.error("the disk refuses what a control request needs", extra={"reason": str(error)})
            return Status.READ_ONLY, f"the disk of this node refuses: {error.strerror or error}".encode()
        except Exception as error:
            self.failed += 1
            log.exception("a control request failed", extra={"connection": str(session.connection.label)})
            return Status.NOT_READY, f"the node failed at this request: {type(error).__name__}: {error}".encode()
        self.answered += 1
        return Status.OK, reply
