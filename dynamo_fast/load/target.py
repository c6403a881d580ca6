"""Whom to load: the addresses, the protocol, and how to open a connection that is ready for requests."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import ClassVar

from dynamo_fast import __version__
from dynamo_fast.core.ring import Ring
from dynamo_fast.env import Address, parse_address
from dynamo_fast.load.dynamo import DynamoProtocol
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.protocol import Protocol
from dynamo_fast.load.resp import RespProtocol
from dynamo_fast.wire.control_messages import (
    Hello,
    PlacementReply,
    PlacementRequest,
    Reply,
    Request,
    StatusReply,
    StatusRequest,
    decode_hello_reply,
    decode_reply,
    encode,
)
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status

CONNECT_TIMEOUT_S = 5.0

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


HELLO = encode_frame(MessageType.HELLO, encode(Hello(versions=[1], role="client", software=f"dynamo-fast bench {__version__}")))


class DynamoTarget(Target):
    """Nodes of one of our clusters. With `by_home` each key is loaded through its first home among the servers, as the
    partition-aware client does; without, through any node that its connection leads to."""

    status_names: ClassVar[dict[int, str]] = {status: status.name for status in Status} | {253: "unknown status"}

    def __init__(self, servers: Sequence[Address], *, by_home: bool = True, w: int = 0, dw: int | None = None, r: int = 0,
                 strict: bool | None = None, bucket: bytes = b"", deadline_ms: int = 0) -> None:
        # Put ids must not repeat between runs: a node would take a known id for the retry of a put that it has done.
        put_id_seed = int.from_bytes(os.urandom(8), "little")
        super().__init__(servers, DynamoProtocol(w=w, dw=dw, r=r, strict=strict, bucket=bucket, deadline_ms=deadline_ms, seed=put_id_seed))
        self.bucket = bucket
        self.by_home = by_home

    def greet(self, connection: socket.socket) -> None:
        reply = ask(connection, HELLO)
        if reply.status != Status.OK:
            raise ConnectionError(f"refused the greeting: {reply.body.decode(errors='replace')}")
        decode_hello_reply(reply.body)

    def control(self, server: Address, request: Request) -> Reply:
        """One control request on a connection of its own; raises OSError, which a refusal is too, with the node's words."""
        with socket.create_connection(server, timeout=CONNECT_TIMEOUT_S) as connection:
            self.greet(connection)
            reply = ask(connection, encode_frame(MessageType.CONTROL, encode(request), request_id=1))
        if reply.status != Status.OK:
            raise ConnectionError(reply.body.decode(errors="replace"))
        return decode_reply(reply.body)

    def statuses(self) -> list[StatusReply]:
        """What each server says of itself."""
        replies = [self.control(server, StatusRequest()) for server in self.servers]
        return [reply for reply in replies if isinstance(reply, StatusReply)]

    def placement(self) -> PlacementReply:
        """As the first server that answers knows it; raises OSError when none does."""
        failure: OSError | None = None
        for server in self.servers:
            try:
                reply = self.control(server, PlacementRequest())
            except OSError as error:
                failure = OSError(error.errno, f"{server[0]}:{server[1]}: {error.strerror or error}")
                continue
            assert isinstance(reply, PlacementReply)
            return reply
        assert failure is not None
        raise failure

    def learn_members(self) -> None:
        """From here on the servers are all members of the cluster, not only those that were named."""
        self.servers = [parse_address(node.address) for node in self.placement().nodes]

    def group_of(self, keys: KeySpace) -> bytes | None:
        if not self.by_home or len(self.servers) == 1:
            return None
        return first_homes(self.placement(), self.servers, keys, self.bucket)


def ask(connection: socket.socket, frame: bytes) -> Frame:
    """Send one frame on a blocking socket and wait for one; raises OSError, and ConnectionError at the end of the stream."""
    connection.sendall(frame)
    cutter = FrameCutter()
    while True:
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionError("closed the connection instead of answering")
        for answer in cutter.feed(data):
            return answer


def first_homes(placement: PlacementReply, servers: Sequence[Address], keys: KeySpace, bucket: bytes) -> bytes:
    """For each key the index in `servers` of the first node of its preference order that is one of them."""
    orders = placement.preference_lists()
    ring = Ring(placement.partitions, placement.replicas, orders)
    resolved = {address: index for index, server in enumerate(servers) for address in addresses_of(server)}
    server_of = {number: index for number, node in enumerate(placement.nodes)
                 for address in addresses_of(parse_address(node.address)) if (index := resolved.get(address)) is not None}
    if not server_of:
        raise ConnectionError("the cluster's members announce none of the given addresses: use --route any")
    first = [next((server_of[node] for node in order if node in server_of), 0) for order in orders]
    return bytes(first[ring.partition(keys.name(key), bucket)] for key in range(keys.count))


def addresses_of(address: Address) -> set[Address]:
    """What a host name and port stand for: all its numeric addresses."""
    host, port = address
    return {(str(found[4][0]), port) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
