"""The one seam between a node and the world: time, randomness, network, disk and threads.

Everything a node does that could come out differently on another run goes through an `Env`; nothing else in the floors above reads a
clock, draws a random number, opens a socket or a file, or starts a thread. The simulator gives another `Env`, and the same node runs
in virtual time on a virtual network. (The reactor alone reads the clock in C, once per pass, and owns the sockets handed to it.)
"""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from dynamo_fast.disk import Disk

T = TypeVar("T")
LISTEN_BACKLOG = 4096  # connections the kernel keeps for us between two passes of the loop
PORT_DEFAULT = 7400

Socket = socket.socket  # so that floors above can name what they are handed without knowing sockets
Address = tuple[str, int]  # a host name or numeric address without brackets, and a port 0..65535


class AddressError(ValueError):
    """The text is not `host:port`. Its message says what was given and what is wanted."""


def parse_address(text: str, default_port: int = PORT_DEFAULT) -> Address:
    """`host:port`, `host`, `[v6]:port` or a bare numeric address, as (host, port); AddressError for anything else."""
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))) or text.strip().endswith("]"):
        host, port_text = text.strip(), str(default_port)  # no port was given: a name, a bare v6 address, or one in brackets
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    port = int(port_text) if port_text.isascii() and port_text.isdigit() else -1
    if not host or any(c.isspace() or c in "[]/," for c in host) or not 0 <= port <= 65535:
        raise AddressError(f"{text!r} is not an address: wanted host:port with a port from 0 to 65535")
    return host, port


def format_address(address: Address) -> str:
    """The text form that `parse_address` reads back."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than localhost counts as reachable from outside."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Env(ABC):
    """What a node may ask of the world. Methods that wait say so by being async; the others never block."""

    disk: Disk
    # What a task calls that lets others run and has more to do: the loop is to serve what has come and not to linger for more. The node
    # puts its reactor's in this one's place.
    hurry: Callable[[], None] = staticmethod(lambda: None)

    @abstractmethod
    def now(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""

    @abstractmethod
    def wall_ms(self) -> int:
        """Milliseconds since 1970 as this machine believes; may jump either way, and nothing correct may depend on it."""

    @abstractmethod
    def random_bytes(self, n: int) -> bytes:
        """n bytes fit for ids and keys."""

    @abstractmethod
    def random(self) -> float:
        """A number in [0, 1), for jitter and choice."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds of `now`."""

    @abstractmethod
    async def resolve(self, host: str, port: int) -> list[Address]:
        """Every numeric address behind a name, in the resolver's order, without repeats; OSError when there is none."""

    @abstractmethod
    async def dial(self, host: str, port: int) -> Socket:
        """A connected non-blocking TCP socket, which the caller owns; OSError when nobody answers. The caller sets the timeout."""

    @abstractmethod
    def listen(self, host: str, port: int) -> Socket:
        """A listening non-blocking socket, which the caller owns; port 0 lets the system choose. OSError when it cannot be had."""

    @abstractmethod
    async def offload(self, function: Callable[..., T], *args: object) -> T:
        """Runs a blocking function away from the loop and returns what it returns."""

    @abstractmethod
    def machine_name(self) -> str:
        """What this machine calls itself: the host label of a node that was given none."""

    @abstractmethod
    def process_statistics(self) -> dict[str, float]:
        """What this process has taken from the machine: resident memory in bytes, CPU in seconds, open descriptors."""

    def rarely(self, site: str) -> bool:
        """Whether to take the rare branch of this name on purpose. Never on a real machine; the simulator (testing/rare.py) draws."""
        return False

    def choose(self, items: Sequence[T]) -> T:
        """One of a non-empty sequence, all equally likely."""
        return items[int(self.random() * len(items))]


class RealEnv(Env):
    """The machine we run on."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._random = random.Random()

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def random_bytes(self, n: int) -> bytes:
        return os.urandom(n)

    def random(self) -> float:
        return self._random.random()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def resolve(self, host: str, port: int) -> list[Address]:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))

    async def dial(self, host: str, port: int) -> Socket:
        failure: OSError | None = None
        for numeric in await self.resolve(host, port):
            try:
                return await _connect(numeric)
            except OSError as error:
                failure = error
        raise failure or OSError(errno.EADDRNOTAVAIL, f"no address found for {host}")

    def listen(self, host: str, port: int) -> Socket:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(LISTEN_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def machine_name(self) -> str:
        return socket.gethostname()

    def process_statistics(self) -> dict[str, float]:
        with open("/proc/self/statm", "rb") as file:
            resident_pages = int(file.read().split()[1])
        times = os.times()
        return {
            "resident_bytes": resident_pages * os.sysconf("SC_PAGE_SIZE"),
            "cpu_user_s": times.user,
            "cpu_system_s": times.system,
            "open_descriptors": len(os.listdir("/proc/self/fd")),
        }

    async def offload(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args)


async def _connect(address: Address) -> Socket:
    """Connects one numeric address; on any failure, cancellation included, the socket is closed."""
    dialled = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        dialled.setblocking(False)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = dialled.connect_ex(address)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(dialled.fileno())
            code = dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"{os.strerror(code)}: {format_address(address)}")
        if dialled.getsockname() == dialled.getpeername():
            raise OSError(errno.ECONNREFUSED, f"nobody listens on {format_address(address)}")  # loopback connected us to ourselves
    except BaseException:
        dialled.close()
        raise
    return dialled
