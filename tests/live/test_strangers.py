"""One bad client hurts nobody: thousands of connections, silence, floods, nonsense and length bombs against a real node.

After each torment the node still serves an honest client promptly, its memory is bounded, and its log shows no traceback.
"""

import contextlib
import os
import random
import resource
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from dynamo_fast.core.checksum import crc32c
from dynamo_fast.wire.control_messages import Hello, encode
from dynamo_fast.wire.data_messages import encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.live.cluster import Cluster, Node, wait_until
from tests.live.raw import HELLO, Closed, RawConnection

pytestmark = pytest.mark.live
CONNECTIONS = 10_000
MIB = 1 << 20
OUTGOING_BYTES_MAX = 4 * MIB
CONFIG = f"""
[limits]
connections_max = {CONNECTIONS + 200}
outgoing_bytes_max = {OUTGOING_BYTES_MAX}
"""
# An honest request may take this long at worst, tormentors or not; it usually takes well under a millisecond.
PROMPT_S = 0.5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("strangers"), nodes=1, config=CONFIG) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    """The node, and afterwards: it runs, serves, has let go of the strangers' connections, and never showed a traceback."""
    node = cluster[0]
    with Honest(node) as honest:
        honest.ask()
    yield node
    assert node.running, node.log_end()
    wait_until(lambda: descriptors(node) < 200, "the node to let go of connections that are gone")
    with Honest(node) as honest:
        assert honest.ask() < PROMPT_S
    assert "Traceback" not in node.log()


class Honest(RawConnection):
    """A client that does nothing wrong."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.address)
        self.count = 0

    def ask(self, rounds: int = 20) -> float:
        """Puts and gets; the seconds that the slowest took."""
        slowest = 0.0
        for _ in range(rounds):
            self.count += 1
            key = b"honest/%d" % self.count
            began = time.monotonic()
            put = encode_put(key, b"value", put_id=os.urandom(16), overwrite=True)
            self.send(encode_frame(MessageType.PUT, put, request_id=self.count))
            assert self.read_frame().status == Status.OK
            self.send(encode_frame(MessageType.GET, encode_get(key), request_id=self.count))
            reply = self.read_frame()
            assert reply.status == Status.OK
            assert reply.body.endswith(b"value")
            slowest = max(slowest, time.monotonic() - began)
        return slowest


def descriptors(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def header(body_bytes: int, type: int = MessageType.PUT, request_id: int = 1) -> bytes:
    """A frame header that is right in itself, whatever it claims."""
    start = struct.pack("<IBBHQI", body_bytes, type, 0, 0, request_id, 0)
    return start + struct.pack("<I", crc32c(start))


@contextlib.contextmanager
def many(node: Node, count: int, *, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many open connections to the node, each of which has sent `first` and nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > count + 200, f"this test wants {count + 200} file descriptors, and {hard} are allowed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection((node.host, node.port), timeout=10)
            sockets.append(connection)
            if first:
                connection.sendall(first)
        yield sockets
    finally:
        for connection in sockets:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections(node: Node) -> None:
    """All of them said hello and then nothing; the honest client notices nothing and the node pays little for each."""
    with Honest(node) as honest:
        before = node.memory_bytes()
        with many(node, CONNECTIONS, first=HELLO) as sockets:
            for connection in sockets:
                assert connection.recv(4096), "a connection within the limit was refused"
            assert honest.ask() < PROMPT_S
            grown = node.memory_bytes() - before
            assert grown < CONNECTIONS * 16 * 1024, f"{grown // CONNECTIONS} bytes per idle connection"


def test_one_connection_too_many(node: Node) -> None:
    """Beyond connections_max a connection is closed at once, and those that were there go on."""
    with Honest(node) as honest, many(node, CONNECTIONS + 400) as sockets:
        refused = 0
        for connection in sockets[CONNECTIONS + 200 :]:
            connection.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                refused += connection.recv(4096) == b""
                continue
            refused += 1
        assert refused == 200
        assert honest.ask() < PROMPT_S


def test_handshake_flood(node: Node) -> None:
    """Connections that come and go as fast as they can, some with half a hello."""
    with Honest(node) as honest:
        slowest = 0.0
        for number in range(3000):
            with socket.create_connection((node.host, node.port), timeout=10) as connection:
                connection.sendall(HELLO[: number % len(HELLO)])
            if number % 100 == 0:
                slowest = max(slowest, honest.ask(1))
        assert slowest < PROMPT_S


@pytest.mark.parametrize("claimed", [4097, 1 << 20, 0xFFFFFFFF])
def test_length_bomb_before_hello(node: Node, claimed: int) -> None:
    with RawConnection(node.address, hello=False) as stranger:
        stranger.send(header(claimed, MessageType.HELLO))
        assert stranger.closed_by_node()


def test_length_bomb_after_hello(node: Node) -> None:
    with RawConnection(node.address) as stranger:
        stranger.send(header(0xFFFFFFFF))
        assert stranger.closed_by_node()


def test_promised_bytes_are_not_allocated(node: Node) -> None:
    """Five hundred frames of one MiB each are announced and a few bytes sent: memory grows by what came, not by what was promised."""
    before = node.memory_bytes()
    with Honest(node) as honest, many(node, 500, first=HELLO) as sockets:
        for connection in sockets:
            connection.recv(4096)
            connection.sendall(header(MIB) + b"x" * 100)
        assert honest.ask() < PROMPT_S
        assert node.memory_bytes() - before < 500 * 96 * 1024


NONSENSE = {
    "http": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 4,
    "redis": b"*1\r\n$4\r\nPING\r\n" * 10,
    "zeros": bytes(4096),
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2,
    "random": random.Random(7).randbytes(4096),
}


@pytest.mark.parametrize("name", sorted(NONSENSE))
@pytest.mark.parametrize("hello", [False, True])
def test_nonsense_closes_the_connection(node: Node, name: str, hello: bool) -> None:
    with RawConnection(node.address, hello=hello) as stranger:
        with contextlib.suppress(Closed):
            stranger.send(NONSENSE[name])
        assert stranger.closed_by_node()


def test_wrong_checksum_closes_the_connection(node: Node) -> None:
    frame = bytearray(encode_frame(MessageType.GET, encode_get(b"key"), request_id=1))
    frame[-1] ^= 1
    with RawConnection(node.address) as stranger:
        stranger.send(bytes(frame))
        assert stranger.closed_by_node()


def test_request_before_hello(node: Node) -> None:
    with RawConnection(node.address, hello=False) as stranger:
        stranger.send(encode_frame(MessageType.GET, encode_get(b"key"), request_id=1))
        assert stranger.closed_by_node()


def test_unknown_frame_type(node: Node) -> None:
    """Either a refusal or a closed connection, never silence."""
    with RawConnection(node.address) as stranger:
        stranger.send(encode_frame(200, b"", request_id=9))
        with contextlib.suppress(Closed):
            assert stranger.read_frame().status == Status.BAD_REQUEST


def test_version_of_the_future(node: Node) -> None:
    with RawConnection(node.address, hello=False) as stranger:
        stranger.send(encode_frame(MessageType.HELLO, encode(Hello(versions=[99], role="client")), request_id=1))
        reply = stranger.read_frame()
        assert reply.status == Status.UNSUPPORTED_VERSION
        assert b"1" in reply.body, "the text says which versions would do"


@pytest.mark.parametrize("body", [b"", b"\x00" * 31, b"\xff" * 64, encode_put(b"k", b"v", put_id=bytes(16))[:-1]])
def test_malformed_put(node: Node, body: bytes) -> None:
    with RawConnection(node.address) as stranger:
        stranger.send(encode_frame(MessageType.PUT, body, request_id=5))
        try:
            reply = stranger.read_frame()
        except Closed:
            return
        assert reply.status == Status.BAD_REQUEST
        assert reply.body, "a refusal says why"


def test_half_open_connections(node: Node) -> None:
    """Half a frame and then silence, from five hundred; and one that stops sending but still reads gets its answer."""
    get = encode_frame(MessageType.GET, encode_get(b"honest/1"), request_id=1)
    with Honest(node) as honest, many(node, 500, first=HELLO + get[: len(get) // 2]):
        assert honest.ask() < PROMPT_S
        with RawConnection(node.address) as stranger:
            stranger.send(get)
            stranger.socket.shutdown(socket.SHUT_WR)
            assert stranger.read_frame().type == MessageType.GET_REPLY
            assert stranger.closed_by_node()


def test_one_byte_at_a_time(node: Node) -> None:
    with RawConnection(node.address, hello=False) as stranger:
        stranger.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HELLO + encode_frame(MessageType.GET, encode_get(b"honest/1"), request_id=1):
            stranger.send(bytes([byte]))
        assert stranger.read_frame().type == MessageType.HELLO_REPLY
        assert stranger.read_frame().status in (Status.OK, Status.NOT_FOUND)


def test_readers_that_never_read(node: Node) -> None:
    """Ten clients ask for a large value without end and read nothing: the node stops reading from them before it costs memory."""
    value = random.Random(1).randbytes(MIB - 1024)
    with Honest(node) as honest:
        honest.send(encode_frame(MessageType.PUT, encode_put(b"large", value, put_id=os.urandom(16), overwrite=True), request_id=1))
        assert honest.read_frame().status == Status.OK
        honest.ask()
        before = node.memory_bytes()
        get = encode_frame(MessageType.GET, encode_get(b"large", deadline_ms=60_000), request_id=1)
        with many(node, 10, first=HELLO) as sockets:
            for connection in sockets:
                connection.setblocking(False)
            for _ in range(200):
                for connection in sockets:
                    with contextlib.suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
                        connection.send(get * 10)
                assert honest.ask(1) < PROMPT_S
            grown = node.memory_bytes() - before
            assert grown < 10 * (OUTGOING_BYTES_MAX + 4 * MIB), f"{grown / MIB:.0f} MiB for ten readers that never read"
