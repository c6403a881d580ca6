"""Who is at the other end of each connection: the handshake both ways, and requests that await their replies.

The data plane hands over every HELLO, HELLO_REPLY, CONTROL and CONTROL_REPLY frame through `frame`, at once and in order, and tells of
every closed connection. Handshakes are answered here and now; CONTROL requests go to the control plane's queue. A connection counts as
a node's only when both ends named the same cluster: then `connection.peer` is that node's id, and the data plane believes it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import trio

from dynamo_fast import __version__
from dynamo_fast.core.departure import Departure
from dynamo_fast.env import Env, Socket, parse_address
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.errors import MessageTooLong, OutgoingFull
from dynamo_fast.wire.status import MessageType, Status

log = logging.getLogger("dynamo_fast.node")

DIAL_TIMEOUT_S = 2.0  # to be connected and greeted
CALL_TIMEOUT_S = 5.0  # for the reply to a control request
CALL_TIMEOUT_S_MAX = 600.0  # the same while long messages pass over the connection: each piece is a sign that something is on its way
SOFTWARE = f"dynamo-fast {__version__}"


class CallFailed(Exception):
    """No useful reply came: the connection is gone, time ran out, or the other node refused (then `status` is set)."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Self(Protocol):
    """What this node says about itself in a handshake; the cluster id is None until a cluster is known."""

    @property
    def node_id(self) -> bytes: ...
    @property
    def address(self) -> str: ...
    @property
    def cluster_id(self) -> bytes | None: ...
    @property
    def starts(self) -> int: ...
    def refuses(self, node_id: bytes) -> bool: ...
    def departure_of(self, node_id: bytes) -> Departure | None: ...
    async def believes(self, departure: Departure) -> bool: ...


class Session:
    """One connection that has been greeted, or is about to be. `node_id` is None for clients; `trusted`: a node of our cluster, and
    the connection may carry replica requests; `passing`: it is for an exchange of control messages only."""

    def __init__(self, connection: Connection, *, dialled: bool, passing: bool, since_s: float) -> None:
        self.connection = connection
        self.dialled = dialled
        self.passing = passing
        self.since_s = since_s
        self.role = "client"
        self.node_id: bytes | None = None
        self.starts = 0  # how often its data directory was started, as it says; 0: it does not
        self.trusted = False
        self.queued = 0  # control requests of this connection that wait for their reply; the control plane's
        self.closed = False
        self.greeted = trio.Event()
        self.problem: str | None = None  # why there was no greeting, or why the connection ended
        self.departure: Departure | None = None  # that of this node, as whoever was dialled says
        self._calls: dict[int, _Call] = {}
        self._next_call = 1

    def close(self, reason: str) -> None:
        if not self.closed:
            self.connection.close(reason)

    def reply(self, request_id: int, status: Status, body: bytes) -> None:
        """Answers a CONTROL request; a connection that is gone, or does not read, needs no answer."""
        if self.closed:
            return
        try:
            self.connection.send(MessageType.CONTROL_REPLY, body, request_id=request_id, status=status)
        except MessageTooLong as error:
            self.reply(request_id, Status.TOO_LARGE, str(error).encode())
        except OutgoingFull as error:
            self.close(str(error))

    async def call(self, request: messages.Request, timeout_s: float = CALL_TIMEOUT_S) -> messages.Reply:
        """Sends a request and waits for its reply; CallFailed says why there is none."""
        body = await self.call_encoded(messages.encode(request), timeout_s)
        try:
            return messages.decode_reply(body)
        except messages.ControlMessageError as error:
            raise CallFailed(str(error)) from error

    async def call_encoded(self, body: bytes, timeout_s: float = CALL_TIMEOUT_S) -> bytes:
        """`call` for whoever counts bytes: the bodies of a request and of its reply. `timeout_s` is of a connection over which nothing long
        passes."""
        if self.closed:
            raise CallFailed(self.problem or "the connection is closed")
        call, request_id = _Call(), self._next_call
        self._next_call += 1
        self._calls[request_id] = call
        try:
            self.connection.send(MessageType.CONTROL, body, request_id=request_id)
            with trio.move_on_after(max(timeout_s, CALL_TIMEOUT_S_MAX)):
                await self._patiently(call, timeout_s)
        except OutgoingFull as error:
            raise CallFailed(str(error)) from error
        finally:
            del self._calls[request_id]
        if call.body is None:
            raise CallFailed(self.problem or "the connection was closed" if self.closed else f"no reply within {timeout_s} s")
        if call.status != Status.OK:
            raise CallFailed(call.body.decode("utf-8", "replace"), call.status)
        return call.body

    async def _patiently(self, call: _Call, timeout_s: float) -> None:
        """Returns when there is a reply, or no piece of a long message has come or gone for that long."""
        pieces = -1
        while not call.done.is_set() and pieces != self.connection.pieces:
            pieces = self.connection.pieces
            with trio.move_on_after(timeout_s):
                await call.done.wait()

    def replied(self, request_id: int, status: int, body: bytes) -> None:
        """A CONTROL_REPLY has come; one that nobody waits for any more is dropped."""
        call = self._calls.get(request_id)
        if call is not None:
            call.status, call.body = status, body
            call.done.set()

    def ended(self, reason: str) -> None:
        """The connection is gone: whoever waits hears it."""
        self.closed, self.problem = True, self.problem or reason
        self.greeted.set()
        for call in self._calls.values():
            call.done.set()


class _Call:
    """One request under way; `body` stays None when the connection ends first."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.status = 0
        self.body: bytes | None = None


class Greeting(Exception):
    """A HELLO that is refused: the status and sentence for whoever sent it, and what is to be sent where that is not the sentence alone."""

    def __init__(self, status: Status, text: str, body: bytes | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.body = text.encode() if body is None else body


def answer_hello(hello: messages.Hello, me: Self) -> messages.HelloReply:
    """The reply to a HELLO; Greeting when it is refused. Pure."""
    if messages.VERSION not in hello.versions:
        raise Greeting(Status.UNSUPPORTED_VERSION, f"this node speaks protocol version {messages.VERSION}, you offered {hello.versions}")
    if hello.cluster_id is not None and me.cluster_id is not None and hello.cluster_id != me.cluster_id:
        raise Greeting(Status.WRONG_CLUSTER, f"this node belongs to cluster {me.cluster_id.hex()}, you to {hello.cluster_id.hex()}")
    if hello.role == "node" and hello.node_id is None:
        raise Greeting(Status.BAD_REQUEST, "a node must say its node id")
    if hello.role == "node" and hello.node_id == me.node_id:
        raise Greeting(Status.BAD_REQUEST, f"{me.node_id.hex()} is the id of this node: one of us dialled itself or is a copy")
    departure = me.departure_of(hello.node_id) if hello.role == "node" and hello.node_id is not None else None
    if departure is not None:
        raise Greeting(Status.DEPARTED, departure.text, messages.encode(departure))
    return messages.HelloReply(version=messages.VERSION, cluster_id=me.cluster_id, node_id=me.node_id, software=SOFTWARE, starts=me.starts)


class Sessions:
    """All connections by who is behind them. `on_node` hears of a trusted node's connection once it is greeted, `on_gone` of its end."""

    def __init__(
        self,
        *,
        env: Env,
        me: Self,
        adopt: Callable[[Socket], Connection],
        on_request: Callable[[Session, int, bytes], None],
    ) -> None:
        self._env = env
        self._me = me
        self._adopt = adopt
        self._on_request = on_request
        self._sessions: dict[Connection, Session] = {}
        self.on_node: Callable[[Session], None] = lambda session: None
        self.on_gone: Callable[[Session], None] = lambda session: None
        self.refused_hellos = 0
        self._doubted: set[str] = set()  # addresses at which somebody said that this node has departed, and did not prove it
        self._starts: dict[bytes, int] = {}  # by node, the most that it has said

    def later_start(self, session: Session) -> int:
        """The number of a later start of the node at the other end than the one it has told; 0 when none is known."""
        known = self._starts.get(session.node_id or b"", 0)
        return known if session.starts and known > session.starts else 0

    def _note_starts(self, session: Session, starts: int | msgspec.UnsetType) -> None:
        if session.node_id is not None and starts is not msgspec.UNSET:
            session.starts = starts
            self._starts[session.node_id] = max(self._starts.get(session.node_id, 0), starts)

    def __len__(self) -> int:
        return len(self._sessions)

    def frame(self, connection: Connection, type: int, status: int, request_id: int, body: bytes) -> None:
        """One frame that is not the data plane's; type 0 says that the connection is gone. Never blocks, never waits."""
        session = self._sessions.get(connection)
        if type == 0:
            self._gone(connection, session)
        elif type == MessageType.HELLO and session is None:
            self._greet(connection, request_id, body)
        elif type == MessageType.HELLO_REPLY and session is not None and session.dialled and not session.greeted.is_set():
            self._greeted(session, status, body)
        elif session is None or not session.greeted.is_set():
            connection.close("the first frame of a connection is HELLO")
        elif type == MessageType.CONTROL:
            self._on_request(session, request_id, body)
        elif type == MessageType.CONTROL_REPLY:
            session.replied(request_id, status, body)
        else:
            connection.close(f"a frame of type {type} means nothing here")

    @asynccontextmanager
    async def contact(self, address: str) -> AsyncIterator[Session]:
        """A connection to whoever answers at that address, for the length of the block; CallFailed when nobody does."""
        session = await self.open(address, passing=True)
        try:
            yield session
        finally:
            session.close("the exchange is over")

    async def open(self, address: str, *, passing: bool = False) -> Session:
        """Dials and greets; the session stays open, the caller closes it. CallFailed says why there is none."""
        host, port = parse_address(address)
        session = None
        with trio.move_on_after(DIAL_TIMEOUT_S):
            try:
                connection = self._adopt(await self._env.dial(host, port))
            except OSError as error:
                raise CallFailed(f"{address}: {error.strerror or error}") from error
            session = self._hail(connection, address, passing)
            try:
                await session.greeted.wait()
            finally:
                if session.problem or not session.greeted.is_set():
                    session.close(session.problem or "no answer to HELLO")
        if session is None or not session.greeted.is_set():
            raise CallFailed(f"{address}: no answer within {DIAL_TIMEOUT_S} s")
        if session.departure is not None:
            await self._consider(session.departure, address)
        if session.problem:
            raise CallFailed(f"{address}: {session.problem}")
        return session

    async def _consider(self, departure: Departure, address: str) -> None:
        """Whoever answers there says that this node has departed."""
        try:
            believed = await self._me.believes(departure)
        except OSError as error:
            raise CallFailed(f"that this node has departed cannot be written down: {error.strerror or error}") from error
        if not believed and address not in self._doubted:
            self._doubted.add(address)
            log.warning("somebody says that this node has departed, and shows no proof", extra={"address": address, "said": departure.text})

    def _hail(self, connection: Connection, address: str, passing: bool) -> Session:
        """Says HELLO on a connection that we dialled."""
        session = self._sessions[connection] = Session(connection, dialled=True, passing=passing, since_s=self._env.now())
        session.role = "node"
        connection.label = address
        me = self._me
        hello = messages.Hello(versions=[messages.VERSION], role="node", cluster_id=me.cluster_id, node_id=me.node_id,
                               address=me.address, software=SOFTWARE, passing=passing or msgspec.UNSET, starts=me.starts,
                               message_bytes_max=msgspec.UNSET if passing else connection.message_bytes_max)  # fmt: skip
        connection.send(MessageType.HELLO, messages.encode(hello), request_id=0)
        return session

    def _greet(self, connection: Connection, request_id: int, body: bytes) -> None:
        try:
            hello = messages.decode_hello(body)
            reply = answer_hello(hello, self._me)
        except (messages.ControlMessageError, Greeting) as error:
            self.refused_hellos += 1
            refusal = error if isinstance(error, Greeting) else Greeting(Status.BAD_REQUEST, str(error))
            connection.send(MessageType.HELLO_REPLY, refusal.body, request_id=request_id, status=refusal.status)
            connection.close(str(refusal))
            return
        session = self._sessions[connection] = Session(connection, dialled=False, passing=hello.passing is True, since_s=self._env.now())
        session.role, session.node_id = hello.role, hello.node_id if hello.role == "node" else None
        self._note_starts(session, hello.starts)
        connection.label = f"{hello.role} {hello.address or hello.software or connection.label}"
        if self._trusts(session, hello.cluster_id):
            reply = msgspec.structs.replace(reply, message_bytes_max=connection.message_bytes_max)
        connection.send(MessageType.HELLO_REPLY, messages.encode(reply), request_id=request_id)
        self._welcome(session, hello)

    def _greeted(self, session: Session, status: int, body: bytes) -> None:
        try:
            if status == Status.DEPARTED:
                session.departure = messages.decode_departure(body)
                session.problem = session.departure.text
            elif status != Status.OK:
                session.problem = body.decode("utf-8", "replace")
            if session.problem:
                session.greeted.set()
                return
            reply = messages.decode_hello_reply(body)
        except messages.ControlMessageError as error:
            session.problem = str(error)
            session.greeted.set()
            return
        own = self._me.cluster_id
        if reply.cluster_id is not None and own is not None and reply.cluster_id != own:
            session.problem = f"belongs to cluster {reply.cluster_id.hex()}, this node to {own.hex()}"
        elif reply.node_id == self._me.node_id:
            session.problem = "is this node itself, or a copy of it"
        elif self._me.refuses(reply.node_id):
            session.problem = f"is node {reply.node_id.hex()}, which has departed from the cluster"
        session.node_id = reply.node_id
        self._note_starts(session, reply.starts)
        if session.problem:
            session.greeted.set()
        else:
            self._welcome(session, reply)

    def _trusts(self, session: Session, cluster_id: bytes | None) -> bool:
        """Whether whoever names that cluster is a node of ours, and has come to stay."""
        return session.node_id is not None and not session.passing and cluster_id is not None and cluster_id == self._me.cluster_id

    def _welcome(self, session: Session, said: messages.Hello | messages.HelloReply) -> None:
        """Both sides have said who they are."""
        session.connection.hello_done = True
        session.greeted.set()
        session.trusted = self._trusts(session, said.cluster_id)
        if (session.trusted or session.role == "client") and said.message_bytes_max is not msgspec.UNSET:
            session.connection.takes_bytes_max = said.message_bytes_max
        if session.trusted:
            session.connection.peer = session.node_id
            self.on_node(session)

    def _gone(self, connection: Connection, session: Session | None) -> None:
        if session is not None:
            del self._sessions[connection]
            session.ended(connection.close_reason or "the connection was closed")
            if session.trusted:
                self.on_gone(session)
