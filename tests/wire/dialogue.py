"""Two ends of one connection in memory, for tests that are dialogues."""

from __future__ import annotations

from collections.abc import Callable

from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler
from dynamo_fast.wire.frame import Frame

Answer = Callable[[Connection, Frame], None]


class Recorder(PyFrameHandler):
    """Keeps every frame, and answers as it is told."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.frames: list[Frame] = []
        self.gone: list[Connection] = []
        self.answer = answer

    def on_frame(self, connection: Connection, type: int, flags: int, status: int, request_id: int, body: bytes) -> None:
        frame = Frame(type, flags, status, request_id, body)
        self.frames.append(frame)
        if self.answer is not None:
            self.answer(connection, frame)

    def on_closed(self, connection: Connection) -> None:
        self.gone.append(connection)


class End:
    """One end: a connection with its own recorder and outbox."""

    def __init__(
        self, answer: Answer | None = None, *, known: bool = True, frame_bytes_max: int = 1 << 24, outgoing_bytes_max: int = 1 << 24
    ) -> None:
        self.handler = Recorder(answer)
        self.outbox = Outbox()
        self.connection = Connection(
            self.handler, self.outbox, frame_bytes_max=frame_bytes_max, outgoing_bytes_max=outgoing_bytes_max, label="test"
        )
        self.connection.hello_done = known

    @property
    def frames(self) -> list[Frame]:
        return self.handler.frames


def talk(a: End, b: End, step_bytes: int = 1 << 20) -> None:
    """Carries bytes both ways, step_bytes at a time, until neither has anything left to say."""
    while a.connection.waiting_bytes or b.connection.waiting_bytes:
        b.connection.feed(a.connection.take(step_bytes))
        a.connection.feed(b.connection.take(step_bytes))
    a.outbox.take()
    b.outbox.take()
