"""The nodes a client knows and the one connection it keeps to each.

Dialling is a task of the client's nursery, never of the caller that happened to need it first: cancelling that caller disturbs nobody.
A node that cannot be dialled is left alone for a growing while, so that a dead home costs requests nothing until it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from dynamo_fast.client.connection import Answers, Connection
from dynamo_fast.client.errors import DynamoError, Unreachable, UnsupportedVersion, WrongCluster, error_of
from dynamo_fast.client.settings import Settings
from dynamo_fast.env import parse_address
from dynamo_fast.wire.control_messages import VERSION, Hello, decode_hello_reply, encode
from dynamo_fast.wire.status import MessageType, Status

EWMA_SHARE = 0.1  # weight of the newest answer in a node's latency
LATENCY_FIRST_S = 0.001  # believed of a node that has not answered yet
LATENCY_FLOOR_S = 0.00005  # added to every latency, so that queues count even when answers take no time
NOT_CONNECTED = 10.0  # cost of a node that would have to be dialled first
UNLIKELY = 1000.0  # cost of a node that could lately not be dialled
DEPARTED = "the node has left the placement"
LATENCY_FADE = 0.97  # applied each sweep in which a node answered nothing, so that one once slow is tried again


class Node:
    """One node: its connection if there is one, how fast it answers, and since when it is left alone."""

    __slots__ = ("_backoff_s", "_pool", "address", "answered", "connection", "dialling", "failure", "latency_s", "rest_until_s")

    def __init__(self, address: str, pool: Pool) -> None:
        self.address = address  # host:port, as seeds or placement give it
        self.connection: Connection | None = None  # open, or None
        self.dialling = False  # a dialling is under way
        self.failure: DynamoError | None = None  # why the last dialling failed
        self.latency_s = LATENCY_FIRST_S  # moving average over its answers
        self.answered = False  # since the last sweep
        self.rest_until_s = 0.0  # loop clock: not dialled before
        self._pool = pool
        self._backoff_s = 0.0

    def observe(self, seconds: float) -> None:
        """One answer took so long."""
        self.latency_s += EWMA_SHARE * (seconds - self.latency_s)
        self.answered = True

    def fade(self) -> None:
        """Forgets a little of the latency, unless it is being measured."""
        if not self.answered:
            self.latency_s *= LATENCY_FADE
        self.answered = False

    def cost(self, now_s: float) -> float:
        """How long a request sent now may take, roughly, in seconds: latency times the queue; much more for nodes not connected, and
        UNLIKELY for those that rest after a dialling that failed, or are being dialled again since."""
        connection = self.connection
        if connection is not None:
            return (self.latency_s + LATENCY_FLOOR_S) * (1 + len(connection.in_flight))
        return UNLIKELY if now_s < self.rest_until_s or (self.dialling and self.failure is not None) else NOT_CONNECTED

    def dial_soon(self) -> None:
        """Starts to dial unless connected, dialling, or resting."""
        if self.connection is None and not self.dialling and trio.current_time() >= self.rest_until_s:
            self.dialling = True
            self._pool.nursery.start_soon(self._dial)

    async def connected(self, deadline_s: float) -> Connection:
        """The open connection, waiting for it until deadline_s (loop clock); Unreachable when it cannot be had."""
        self.dial_soon()
        with trio.move_on_at(deadline_s):
            while self.connection is None and self.dialling:
                await self._pool.changed.park()
        if self.connection is not None:
            return self.connection
        if self.dialling:
            raise Unreachable(f"{self.address}: no connection in time")
        raise self.failure or Unreachable(f"{self.address}: not connected")

    async def _dial(self) -> None:
        """Dials, says hello, and then runs the connection until it ends: the task of one connection's whole life."""
        pool = self._pool
        try:
            host, port = parse_address(self.address)
            with trio.fail_after(pool.settings.dial_timeout_s):
                stream = await pool.settings.dial(host, port)
        except trio.TooSlowError:
            self._failed(Unreachable(f"{self.address}: no connection within {pool.settings.dial_timeout_s:g} s"))
        except (OSError, ValueError) as error:
            cause = error.__cause__  # where a name has one address, trio's own sentence says less
            self._failed(Unreachable(f"{self.address}: {(isinstance(cause, OSError) and cause.strerror) or error}"))
        else:
            connection = Connection(stream, pool.settings, self.observe, self.address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.run)
                try:
                    await pool.greet(connection, self.address)
                except DynamoError as error:
                    connection.close(str(error))
                    self._failed(error)
                else:
                    self._backoff_s, self.failure, self.dialling = 0.0, None, False
                    self.connection = connection
                    self.latency_s = min(self.latency_s, LATENCY_FIRST_S)  # what it was before says little now
                    if pool.nodes.get(self.address) is not self:
                        connection.close(DEPARTED)
                    self._pool.changed.unpark_all()
            if self.connection is connection:
                self.connection = None
                self._failed(Unreachable(f"{self.address}: {connection.closed}"), after_use=True)

    def _failed(self, failure: DynamoError, after_use: bool = False) -> None:
        """Notes why, and rests before the next dialling; a connection that worked until now may be tried again at once."""
        settings = self._pool.settings
        if not after_use:
            self._backoff_s = min(max(2 * self._backoff_s, settings.backoff_s_min), settings.backoff_s_max)
            self.rest_until_s = trio.current_time() + self._backoff_s
        self.failure, self.dialling = failure, False
        self._pool.changed.unpark_all()


class Pool:
    """All nodes by address. Its nursery is the client's own: connections live and die in it."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, software: str) -> None:
        self.nursery = nursery
        self.settings = settings
        self.cluster_id: bytes | None = None  # learnt from the first node that names one; others must name the same
        self.nodes: dict[str, Node] = {}
        self.changed = trio.lowlevel.ParkingLot()  # woken whenever a dialling ended, well or not
        self._parting: list[Node] = []  # not wanted any more, connected until what was asked of them is answered
        self._software = software
        self._wanted: Sequence[Node] = ()

    def node(self, address: str) -> Node:
        """The node of that address, known from now on."""
        node = self.nodes.get(address)
        if node is None:
            node = self.nodes[address] = Node(address, self)
        return node

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forgets the nodes that are not wanted any more, and closes their connections once nothing is asked of them: an answer that is
        under way would otherwise be lost, and with it whether a put was applied."""
        for address in [address for address in self.nodes if not wanted(address)]:
            self._parting.append(self.nodes.pop(address))
        self._part()

    def _part(self) -> None:
        """Closes the idle connections of nodes that are not wanted any more."""
        for node in list(self._parting):
            if node.connection is not None and not node.connection.in_flight:
                node.connection.close(DEPARTED)
            if node.connection is None or node.connection.closed is not None:
                self._parting.remove(node)

    def sweep(self) -> None:
        """Answers every request whose deadline has passed, and dials again, when it has rested, whoever should be connected."""
        now_s = trio.current_time()
        for node in [*self.nodes.values(), *self._parting]:
            node.fade()
            if node.connection is not None:
                node.connection.expire(now_s)
        self._part()
        self._dial_wanted()

    def keep_connected(self, nodes: Sequence[Node]) -> None:
        """From now on these nodes, or as many as there may be, are connected whether or not anybody needs them."""
        self._wanted = nodes[: self.settings.connections_eager_max]
        self._dial_wanted()

    def _dial_wanted(self) -> None:
        for node in self._wanted:
            node.dial_soon()

    async def greet(self, connection: Connection, name: str) -> None:
        """Says hello and checks the answer: the version, and that the node is of the cluster we know. DynamoError when it is not so."""
        hello = Hello(versions=[VERSION], role="client", cluster_id=self.cluster_id, software=self._software,
                      message_bytes_max=self.settings.answer_bytes_max)  # fmt: skip
        answers, now_s = Answers(), trio.current_time()
        connection.send(MessageType.HELLO, encode(hello), answers, now_s, now_s + self.settings.dial_timeout_s)
        with trio.move_on_after(self.settings.dial_timeout_s):
            await answers.wait()
        reply = answers.replies[0]
        if reply is None:
            raise Unreachable(f"{name} did not answer our hello within {self.settings.dial_timeout_s:g} s")
        if isinstance(reply, DynamoError):
            raise Unreachable(f"{name} did not answer our hello: {reply}")
        if reply.type != MessageType.HELLO_REPLY:
            raise UnsupportedVersion(f"{name} answered our hello with message type {reply.type}")
        if reply.status != Status.OK:
            raise error_of(reply.status, reply.body)
        try:
            answer = decode_hello_reply(reply.body)
        except ValueError as error:
            raise UnsupportedVersion(f"{name} answered our hello with something else: {error}") from error
        if answer.version != VERSION:
            raise UnsupportedVersion(f"{name} speaks protocol version {answer.version}, this client version {VERSION}")
        if answer.cluster_id is not None:
            if self.cluster_id is not None and answer.cluster_id != self.cluster_id:
                raise WrongCluster(f"{name} belongs to cluster {answer.cluster_id.hex()}, not to {self.cluster_id.hex()}")
            self.cluster_id = answer.cluster_id
