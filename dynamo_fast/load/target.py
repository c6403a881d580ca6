"""Whom to load: the addresses, the protocol, and how to open a connection that is ready for requests."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import ClassVar

from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.protocol import Protocol
from dynamo_fast.load.resp import RespProtocol

CONNECT_TIMEOUT_S = 5.0

Address = tuple[str, int]


def parse_address(text: str, port_default: int) -> Address:
    """host, host:port or [v6]:port; ValueError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(port_default)
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is no address: give host or host:port with a port of 1..65535")
    return host.strip("[]"), int(port)


class Target:
    """Servers that speak one protocol. Connections are spread over them evenly, in turn."""

    status_names: ClassVar[dict[int, str]]     # what the statuses of failed replies mean

    def __init__(self, servers: Sequence[Address], protocol: Protocol) -> None:
        if not servers:
            raise ValueError("a load needs at least one server")
        self.servers = list(servers)
        self.protocol = protocol

    def group_of(self, keys: KeySpace) -> bytes | None:
        """For each key the index of the server whose connections are to load it, or None: any connection, any key."""
        return None

    def connect(self, connections: int) -> list[tuple[socket.socket, int]]:
        """That many connected non-blocking sockets, each with its server's index. Raises OSError that names the server."""
        opened: list[tuple[socket.socket, int]] = []
        try:
            for number in range(connections):
                server = number % len(self.servers)
                host, port = self.servers[server]
                try:
                    connection = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
                    opened.append((connection, server))
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.greet(connection)
                except OSError as error:
                    raise OSError(error.errno, f"{host}:{port}: {error.strerror or error}") from error
                connection.setblocking(False)
        except BaseException:
            for connection, _ in opened:
                connection.close()
            raise
        return opened

    def greet(self, connection: socket.socket) -> None:
        """What the protocol says first on a connection, with its answer; the socket still blocks."""


class RespTarget(Target):
    """redis and what speaks its protocol; `wait_replicas` above 0 follows each SET with a WAIT for so many."""

    status_names: ClassVar[dict[int, str]] = {254: "too few replicas", 255: "error reply"}

    def __init__(self, servers: Sequence[Address], *, wait_replicas: int = 0, wait_timeout_ms: int = 1000) -> None:
        super().__init__(servers, RespProtocol(wait_replicas, wait_timeout_ms))
