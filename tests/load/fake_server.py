"""A server on a thread for tests of the generator: one protocol at a time, and the faults a test asks it for."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from types import TracebackType

# Takes all bytes of a connection that are not used yet; returns how many it used and what to send.
Handler = Callable[[bytearray], tuple[int, bytes]]


class FakeServer:
    """Listens on loopback and gives what it receives to `handler`.

    A handler that raises ConnectionError has its connection closed. `fragment_bytes` cuts what is sent into pieces of that size.
    """

    def __init__(self, handler: Handler, fragment_bytes: int | None = None) -> None:
        self.handler = handler
        self.fragment_bytes = fragment_bytes
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self.listener.getsockname()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._stopped.close()
        self.listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            pending: dict[socket.socket, bytearray] = {}
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stopped:
                        for connection in pending:
                            connection.close()
                        return
                    if key.fileobj is self.listener:
                        connection, _ = self.listener.accept()
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        pending[connection] = bytearray()
                        selector.register(connection, selectors.EVENT_READ)
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    if not self._serve_one(key.fileobj, pending[key.fileobj]):
                        selector.unregister(key.fileobj)
                        del pending[key.fileobj]
                        key.fileobj.close()

    def _serve_one(self, connection: socket.socket, pending: bytearray) -> bool:
        try:
            data = connection.recv(1 << 20)
            if not data:
                return False
            pending += data
            used, answer = self.handler(pending)
            del pending[:used]
            step = self.fragment_bytes or max(1, len(answer))
            for at in range(0, len(answer), step):
                connection.sendall(answer[at:at + step])
        except ConnectionError:
            return False
        return True


class FakeRedis:
    """SET, GET and WAIT over a dict. A test may replace `answer`, which turns one command into one reply."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.commands: list[bytes] = []
        self.replicas = 2

    def __call__(self, pending: bytearray) -> tuple[int, bytes]:
        used, replies = 0, []
        while (cut := cut_command(pending, used)) is not None:
            used, command = cut
            self.commands.append(command[0])
            replies.append(self.answer(command))
        return used, b"".join(replies)

    def answer(self, command: list[bytes]) -> bytes:
        match command:
            case [b"SET", key, value]:
                self.values[key] = value
                return b"+OK\r\n"
            case [b"GET", key]:
                value = self.values.get(key)
                return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
            case [b"WAIT", _, _]:
                return b":%d\r\n" % self.replicas
        return b"-ERR unknown command\r\n"


def cut_command(data: bytearray, start: int) -> tuple[int, list[bytes]] | None:
    """One RESP array of bulk strings from `start`: where it ends, and its strings; None when it is incomplete."""
    end = data.find(b"\r\n", start)
    if end < 0:
        return None
    words, at = [], end + 2
    for _ in range(int(data[start + 1:end])):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        length = int(data[at + 1:end])
        if len(data) < end + 2 + length + 2:
            return None
        words.append(bytes(data[end + 2:end + 2 + length]))
        at = end + 2 + length + 2
    return at, words
