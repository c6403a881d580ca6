"""One blocking connection to a node, frame by frame: for asking a node how it is, and for saying to it what no client would."""

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dynamo_fast.wire.control_messages import Hello, Reply, Request, StatusReply, StatusRequest, decode_reply, encode
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType

HELLO = encode_frame(MessageType.HELLO, encode(Hello(versions=[1], role="client", software="test")))


class Closed(Exception):
    """The node closed the connection."""


class RawConnection:
    """A socket with a frame cutter behind it; every wait ends after timeout_s."""

    def __init__(self, address: str, *, hello: bool = True, timeout_s: float = 10.0) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.cutter = FrameCutter()
        self.pending: list[Frame] = []
        if hello:
            try:
                self.send(HELLO)
                assert self.read_frame().type == MessageType.HELLO_REPLY
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Raises Closed when the node has reset the connection, TimeoutError when it does not read."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Closed(str(error)) from error

    def read_frame(self) -> Frame:
        """The next frame; raises Closed at the end of the stream, TimeoutError when none comes."""
        while not self.pending:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed("end of stream")
            self.pending = self.cutter.feed(data)
        return self.pending.pop(0)

    def closed_by_node(self) -> bool:
        """Whether the node closes the connection before the timeout; frames that come first are read and dropped."""
        try:
            while True:
                self.read_frame()
        except Closed:
            return True
        except TimeoutError:
            return False

    def control(self, request: Request) -> Reply:
        self.send(encode_frame(MessageType.CONTROL, encode(request), request_id=1))
        return decode_reply(self.read_frame().body)


def status(address: str, timeout_s: float = 5.0) -> StatusReply:
    """What the node says about itself; OSError or Closed when it is not there."""
    with RawConnection(address, timeout_s=timeout_s) as connection:
        reply = connection.control(StatusRequest())
        assert isinstance(reply, StatusReply)
        return reply


def answers(condition: Callable[[StatusReply], bool], address: str) -> bool:
    """Whether the node is there and its status satisfies the condition."""
    try:
        return condition(status(address))
    except (OSError, Closed):
        return False
