"""A reactor on a loopback port, driving a data plane of one node, and clients that count frames."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.net.reactor import Reactor
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.wire.connection import Connection, Outbox
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType

NODE = b"n" * 16
HELLO = encode_frame(MessageType.HELLO, b"client", request_id=0)


def ask(body: bytes, request_id: int = 1) -> bytes:
    """A CONTROL frame. `raise` makes the handler raise, `send N` is answered with N bytes, anything else with itself."""
    return encode_frame(MessageType.CONTROL, body, request_id=request_id)


class Server:
    """The reactor, its data plane, and a control plane that answers in the handler's call."""

    def __init__(self, limits: LimitsSection) -> None:
        self.engine = FaultyEngine(MemoryEngine(partitions=64))
        self.outbox = Outbox()
        self.plane = DataPlane(
            node_id=NODE, nonce=1, engine=self.engine, limits=limits, requests=RequestsSection(dw=0),
            cluster_defaults=ClusterDefaults(n=1, r=1, w=1, dw=0), random_bytes=random.Random(1).randbytes,
            now_ms=1, control=self._control, storage_failed=lambda error: None,
        )  # fmt: skip
        placement = first_placement([Member(NODE, "host", "", 100)], 64, 1)
        self.plane.set_cluster(bytes(16), bytes(16))
        self.plane.set_placement(in_force(placement), ["host"], ["node"])
        self.reactor = Reactor(self.plane, self.outbox, limits)
        self.handled: list[bytes] = []
        self.connections: list[Connection] = []  # that have said hello, in order
        self.closed: list[Connection] = []
        self.ended = trio.Event()
        self.on_closed: Callable[[Connection], None] = self.closed.append

    def _control(self, connection: Connection, type: int, status: int, request_id: int, body: bytes) -> None:
        if type == 0:
            self.on_closed(connection)
            return
        if type == MessageType.HELLO:
            connection.hello_done = True
            connection.peer = b"p" * 16 if body == b"peer" else None
            connection.takes_bytes_max = 1 << 30 if body in (b"peer", b"gatherer") else 0
            self.connections.append(connection)
            connection.send(MessageType.HELLO_REPLY, b"", request_id=request_id)
            return
        self.handled.append(body)
        if body == b"raise":
            raise RuntimeError("a bug")
        if body.startswith(b"send "):
            body = bytes(int(body[5:]))
        connection.send(MessageType.CONTROL_REPLY, body, request_id=request_id)

    def listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        listener.setblocking(False)
        self.reactor.listen(listener)
        return listener

    async def run(self) -> None:
        await self.reactor.run()
        self.ended.set()

    def count(self, name: str) -> int:
        value = self.reactor.statistics()[name]
        assert isinstance(value, int)
        return value


@asynccontextmanager
async def served(**limits: int) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    """A server and its address; everything is over within 30 s or the test fails."""
    server = Server(LimitsSection(**limits))
    listener = server.listen()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield server, listener.getsockname()
            server.reactor.stop_listening()
            server.reactor.stop()
            await server.ended.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Other tasks run until it holds; the server's time limit bounds it."""
    while not condition():
        await trio.lowlevel.checkpoint()


class Caller:
    """A client with a socket of its own."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.cutter = FrameCutter(1 << 30)
        self.frames: list[Frame] = []

    @classmethod
    async def connect(cls, address: tuple[str, int], hello: bytes = HELLO, receive_buffer_bytes: int = 0) -> Caller:
        """Connected, and greeted when there is a hello."""
        plain = trio.socket.socket()
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await plain.connect(address)
        caller = cls(trio.SocketStream(plain))
        if hello:
            await caller.send(hello)
            assert (await caller.frame()).type == MessageType.HELLO_REPLY
        return caller

    async def send(self, data: bytes) -> None:
        """May find the connection closed, which the next receive will tell."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def frame(self) -> Frame:
        while not self.frames:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError
            self.frames += self.cutter.feed(data)
        return self.frames.pop(0)

    async def call(self, body: bytes) -> bytes:
        await self.send(ask(body))
        return (await self.frame()).body

    async def ended(self) -> bool:
        """Whether the other side closes; what it still says before is thrown away."""
        try:
            while await self.stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass
        return True
