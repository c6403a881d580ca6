"""One request until it has an answer: send, judge the answer, and try again where that helps, within one deadline.

A put keeps its 16-byte id over all its attempts and goes back to the same coordinator first, where the id makes a retry one version
(paper 4.5; docs/protocol.md). When an attempt's fate is unknown, no later refusal may be reported as "certainly not applied".
Many requests go through together: one round sends all that are still open and waits for all their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import trio

from dynamo_fast.client.connection import Answers
from dynamo_fast.client.context import Session
from dynamo_fast.client.errors import (
    RETRYABLE,
    ConnectionLost,
    DeadlineExceeded,
    DynamoError,
    NotApplied,
    Overload,
    Unknown,
    Unreachable,
    error_of,
    no_such_bucket,
)
from dynamo_fast.client.pool import Node
from dynamo_fast.client.results import Result, Sibling
from dynamo_fast.client.routing import Router
from dynamo_fast.client.settings import Settings
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.errors import WireError
from dynamo_fast.wire.frame import STALE_PLACEMENT, Frame
from dynamo_fast.wire.status import MessageType, Outcome, Status, outcome_of

GRACE_S = 0.05  # a node's own words about a deadline are waited for so long
ATTEMPT_S_MIN = 0.002  # no further attempt is made with less time left
MISSED_TURN = "the client has as many requests in flight as it may, and none ended within the deadline: slow down"


class Call:
    """One request and what became of it. `result` or `error` is set when it is over."""

    __slots__ = ("attempts", "bucket", "doubt", "error", "homes", "key", "node", "session", "stale_by", "tried")
    kind: ClassVar[int]  # message type
    sticky: ClassVar[bool] = False  # whether a retry goes back to the node that may have applied it

    def __init__(self, bucket: bytes, key: bytes, session: Session | None) -> None:
        self.bucket = bucket
        self.key = key
        self.session = session
        self.homes: Sequence[Node] = ()
        self.node: Node | None = None  # where the next attempt has to go, or the last one went
        self.tried: set[Node] | tuple[()] = ()  # nodes that an attempt should avoid
        self.stale_by: Node | None = None  # who answered that it was sent by a placement that is not in force
        self.attempts = 0
        self.doubt: Unknown | None = None  # the first attempt whose fate is unknown
        self.error: DynamoError | None = None

    def body(self, deadline_ms: int) -> bytes:
        """The request's body for an attempt that may take so long."""
        raise NotImplementedError

    def accept(self, frame: Frame) -> bool:
        """Takes an answer whose outcome is OK; False when it will not do yet (a session saw more), and is to be asked again."""
        raise NotImplementedError


class Get(Call):
    """A get; `result` is its Result."""

    __slots__ = ("r", "result", "strict")
    kind = int(MessageType.GET)

    def __init__(self, bucket: bytes, key: bytes, session: Session | None, r: int, strict: bool | None) -> None:
        super().__init__(bucket, key, session)
        self.r = r
        self.strict = strict
        self.result: Result | None = None

    def body(self, deadline_ms: int) -> bytes:
        seen = b"" if self.session is None else self.session.context(self.bucket, self.key)
        return encode_get(self.key, bucket=self.bucket, session_context=seen, r=self.r, strict=self.strict, deadline_ms=deadline_ms)

    def accept(self, frame: Frame) -> bool:
        context, siblings = decode_get_reply(frame.body)
        if self.session is not None:
            if not self.session.satisfied_by(self.bucket, self.key, context):
                return False
            self.session.saw(self.bucket, self.key, context)
        self.result = Result(self.key, context, [Sibling(*sibling) for sibling in siblings])
        return True


class Put(Call):
    """A put, or a delete (`tombstone`); `result` is the new context."""

    __slots__ = ("context", "dw", "overwrite", "put_id", "result", "strict", "tombstone", "value", "w")
    kind = int(MessageType.PUT)
    sticky = True

    def __init__(self, bucket: bytes, key: bytes, session: Session | None, value: bytes, context: bytes, put_id: bytes, *, w: int,
                 dw: int | None, strict: bool | None, overwrite: bool, tombstone: bool) -> None:  # fmt: skip
        super().__init__(bucket, key, session)
        self.value = value
        self.context = context
        self.put_id = put_id
        self.w = w
        self.dw = dw
        self.strict = strict
        self.overwrite = overwrite
        self.tombstone = tombstone
        self.result: bytes | None = None

    def body(self, deadline_ms: int) -> bytes:
        return encode_put(self.key, self.value, put_id=self.put_id, bucket=self.bucket, context=self.context, w=self.w, dw=self.dw,
                          strict=self.strict, overwrite=self.overwrite, tombstone=self.tombstone, deadline_ms=deadline_ms)  # fmt: skip

    def accept(self, frame: Frame) -> bool:
        self.result = frame.body
        if self.session is not None:
            self.session.saw(self.bucket, self.key, frame.body)
        return True


class Caller:
    """Runs calls over the nodes that a router chooses."""

    def __init__(self, router: Router, settings: Settings) -> None:
        self._router = router
        self._settings = settings
        self.retries = 0  # attempts beyond the first

    async def run(self, calls: Sequence[Call], deadline_s: float) -> None:
        """Returns when every call has its result or its error, at the latest shortly after deadline_s seconds. Raises nothing of its own.

        Cancelled: puts already sent may be applied.
        """
        router = self._router
        now_s = trio.current_time()
        end_s = now_s + deadline_s
        number = router.number
        for call in calls:
            call.homes = router.homes(call.bucket, call.key)
        while True:
            answers = Answers()
            for call in calls:
                if not self._send_nowait(call, answers, now_s, end_s):
                    await self._send(call, answers, end_s)
            await answers.wait()
            now_s = trio.current_time()
            calls = [call for call, reply in zip(calls, answers.replies, strict=True) if not self._settle(call, reply, now_s, end_s)]
            if not calls:
                return
            self.retries += len(calls)
            if stale_by := next((call.stale_by for call in calls if call.stale_by is not None), None):
                await router.renewed(number, stale_by, now_s + (end_s - now_s) / 3)
            pause_s = self._settings.retry_pause_s_min * 2 ** (calls[0].attempts - 1) * (0.5 + self._settings.random_bytes(1)[0] / 256)
            await trio.sleep(min(pause_s, max(0.0, end_s - now_s) / 3))
            now_s = trio.current_time()
            if router.number != number:
                number = router.number
                self._place_again(calls)

    def _place_again(self, calls: Sequence[Call]) -> None:
        """There is another placement: what was tried by the old one says little about the homes in the new. A put whose fate is unknown
        still goes back to where it was."""
        for call in calls:
            call.homes = self._router.homes(call.bucket, call.key)
            call.tried = ()

    def _send_nowait(self, call: Call, answers: Answers, now_s: float, end_s: float) -> bool:
        """Sends the call if its node is connected and has room."""
        node = call.node
        if node is None:
            node = call.node = self._router.choose(call.bucket, call.key, call.homes, call.tried, now_s)
        connection = node.connection
        if connection is None or not connection.has_room():
            return False
        left_s = end_s - now_s
        patience_s = now_s + left_s / 2 if self._router.alternatives else end_s  # a silent node must leave time for another
        call.attempts += 1
        connection.send(call.kind, call.body(max(1, int(left_s * 1000))), answers, now_s, end_s + GRACE_S, patience_s)
        return True

    async def _send(self, call: Call, answers: Answers, end_s: float) -> None:
        """Sends the call when its node is connected and has room, or gives the answer that says why it could not be sent."""
        error: DynamoError = Overload(MISSED_TURN)
        while (now_s := trio.current_time()) < end_s:
            if self._send_nowait(call, answers, now_s, end_s):
                return
            assert call.node is not None
            if call.node.connection is not None:
                with trio.move_on_at(end_s):
                    await call.node.connection.wait_room()
                continue
            try:
                await call.node.connected(now_s + (end_s - now_s) / 4)
            except DynamoError as refused:
                error = refused
                break
        call.attempts += 1
        answers.give(answers.expect(), error)

    def _settle(self, call: Call, reply: Frame | DynamoError | None, now_s: float, end_s: float) -> bool:
        """Judges one answer. True when the call is over; else `node` and `tried` say where the next attempt goes."""
        assert reply is not None
        if isinstance(reply, DynamoError):
            error, by_node, call.stale_by = reply, False, None
        else:
            if reply.status in (Status.STALE_PLACEMENT, Status.NOT_READY) or (
                reply.flags & STALE_PLACEMENT and call.node in call.homes  # a fallback says so of every key that it is asked for
            ):
                self._router.refresh_soon(call.node)
            call.stale_by = call.node if reply.status == Status.STALE_PLACEMENT else None
            if outcome_of(reply.status) is Outcome.OK:
                if self._accepted(call, reply):
                    return True
                error = DeadlineExceeded("no answer covered what the session has seen of this key: its replicas may be unreachable")
            else:
                unnamed = reply.status == Status.NO_SUCH_BUCKET and call.bucket
                error = no_such_bucket(call.bucket) if unnamed else error_of(reply.status, reply.body)
            by_node = True
        if isinstance(error, Unknown) and call.doubt is None:
            call.doubt = error
        if not isinstance(error, RETRYABLE) or call.attempts >= self._settings.attempts_max or now_s >= end_s - ATTEMPT_S_MIN:
            self._fail(call, error)
            return True
        # A put whose fate is unknown goes back to the node that knows its id, unless that node fell silent.
        again_here = call.sticky and isinstance(error, Unknown) and (by_node or isinstance(error, ConnectionLost))
        if call.node is not None and (not again_here or call.attempts > 2):
            call.tried = {*call.tried, call.node}
            call.node = None
        return False

    @staticmethod
    def _accepted(call: Call, reply: Frame) -> bool:
        try:
            return call.accept(reply)
        except (ValueError, WireError) as malformed:
            call.error = Unknown(f"the answer could not be read: {malformed}")
            return True

    def _fail(self, call: Call, error: DynamoError) -> None:
        """Ends the call with an error that is honest about all its attempts."""
        if call.doubt is not None and isinstance(error, NotApplied):
            error = type(call.doubt)(f"{call.doubt}; tried again: {error}")
        if call.attempts > 1:
            error = type(error)(f"{error} ({call.attempts} attempts)")
        if isinstance(error, Unreachable):
            self._router.refresh_soon()
        call.error = error
