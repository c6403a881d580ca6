"""The reactor's interface over virtual sockets: passes, in virtual time, driven by what arrives.

A pass takes all that has arrived since the last one; the node is then busy for a while, in which more may come together. At the end of
the pass comes the one log write, and only then is anything sent, as in net/reactor.pyx, whose rules on strangers and on readers that do
not read hold here too. A process that stands still runs no pass; what arrives waits for it, as in its kernel.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from dynamo_fast.net.reactor import HELLO_S, STUCK_S
from dynamo_fast.node.config import LimitsSection
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.network import End, Network
from dynamo_fast.testing.planes import cut_short
from dynamo_fast.testing.private import Life
from dynamo_fast.wire.connection import Connection, Outbox
from dynamo_fast.wire.errors import ProtocolError

TICK_S = 0.01  # how often time is looked at while requests are under way and nothing arrives


class Listener:
    """What `VirtualEnv.listen` gives and the reactor listens on."""

    def __init__(self, address: str) -> None:
        self.address = address

    def close(self) -> None:
        """The reactor has stopped listening by itself."""


class VirtualReactor:
    """VirtualReactor(handler, ...): one per process. `pass_s`: how long a pass keeps the node busy, in the mean."""

    def __init__(
        self, handler: DataPlane, network: Network, clock: Clock, host: str, life: Life, limits: LimitsSection,
        wall_ms: Callable[[], int], chance: random.Random, pass_s: float,
    ) -> None:  # fmt: skip
        self.handler = handler
        self.outbox = Outbox()
        self.outbox.wake = self._woken
        self.passes = self.failed_passes = self.protocol_errors = self.handler_errors = 0
        self.errors: list[Exception] = []  # bugs: what handling a frame has raised other than ProtocolError
        self.before_pass: Callable[[], None] = lambda: None
        self.before_send: Callable[[], bool] = lambda: True  # asked between a pass's log write and its sends; False: send nothing
        self._network, self._clock, self._host, self._life, self._limits = network, clock, host, life, limits
        self._wall_ms, self._chance, self._pass_s = wall_ms, chance, pass_s
        self._connections: dict[End, Connection] = {}
        self._ends: dict[Connection, End] = {}
        self._sent_bytes: dict[End, int] = {}
        self._arrived: list[tuple[End, bytes | None, str]] = []
        self._synced = False
        self._busy_until_s = 0.0
        self._pass_ahead = False  # one is on the agenda
        self._ticking = False
        self._address: str | None = None
        self._stopped = trio.Event()
        self._over = False

    # What the control plane asks ------------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        self._address = listener.address
        self._network.listen(listener.address, self._host, self.accept)

    def stop_listening(self) -> None:
        if self._address is not None:
            self._network.stop_listening(self._address)

    def adopt(self, end: End) -> Connection:
        """Makes a connection of an end that was dialled or accepted."""
        limits = self._limits
        connection = Connection(self.handler, self.outbox, frame_bytes_max=limits.frame_bytes_max,
                                message_bytes_max=limits.message_bytes_max, outgoing_bytes_max=limits.outgoing_bytes_max,
                                label=end.label)  # fmt: skip
        cut_short(connection, end.number)
        self._connections[end], self._ends[connection] = connection, end
        self._clock.after(HELLO_S, self._no_hello, end)
        end.claim(self)
        return connection

    def accept(self, end: End) -> None:
        """The network has a new connection for us."""
        if self._over:
            end.close()
        else:
            self.adopt(end)

    def watch_sync(self, fd: int) -> None:
        raise AssertionError("a virtual engine has no descriptor")

    def quiet(self) -> bool:
        return not any(connection.waiting_bytes for connection in self._ends)

    def hurry(self) -> None:
        """Passes are on the clock's agenda: none lingers."""

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        """Until `stop`; passes are on the clock's agenda."""
        await self._stopped.wait()
        for end in list(self._connections):
            self._drop(end, "this node is shutting down")
            end.close()
        self._flush()
        self._over = True

    def statistics(self) -> dict[str, object]:
        return {"passes": self.passes, "connections": len(self._ends), "protocol_errors": self.protocol_errors,
                "handler_errors": self.handler_errors, "failed_passes": self.failed_passes}  # fmt: skip

    def die(self, *, silently: bool) -> None:
        """The process is gone: the kernel closes its connections, or the power is gone and nobody does."""
        self._over = True
        self.stop_listening()
        for end in self._connections:
            end.close(silently=silently)

    def reset(self, chance: random.Random) -> bool:
        """Some of its connections break, at both ends; whether there were any."""
        broken = [end for end in self._connections if chance.random() < 0.5]
        for end in broken:
            end.pipe.lose()
            end.other.pipe.lose()
            for one in (end, end.other):
                self._clock.at(0, one.take, None, "connection reset by peer")
        return bool(broken)

    # What arrives -------------------------------------------------------------------------------------------------------------------

    def arrived(self, end: End, data: bytes) -> None:
        self._arrived.append((end, data, ""))
        self._soon()

    def ended(self, end: End, reason: str) -> None:
        self._arrived.append((end, None, reason))
        self._soon()

    def room(self, end: End) -> None:
        connection = self._connections.get(end)
        if connection is not None:
            self._send(connection)

    def synced(self) -> None:
        """The disk has finished a sync."""
        self._synced = True
        self._soon()

    def resume(self) -> None:
        """The process goes on."""
        self._soon()

    def _woken(self) -> None:
        """Somebody outside of a pass has appended to a connection."""
        self._soon()

    def _soon(self) -> None:
        if not self._pass_ahead and not self._over:
            self._pass_ahead = True
            self._clock.at(self._busy_until_s, self._pass)

    # Passes -------------------------------------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        self._pass_ahead = False
        if not self._over and not self._life.frozen:
            self._life.context.run(self._run_pass)

    def _run_pass(self) -> None:
        clock, handler, outbox = self._clock, self.handler, self.outbox
        self.passes += 1
        self._busy_until_s = clock.now + self._chance.random() * 2 * self._pass_s
        outbox.start_pass()
        outbox.in_pass = True
        self.before_pass()
        handler.start_pass(int(clock.now * 1e6), self._wall_ms())
        try:
            if self._synced:
                self._synced = False
                handler.disk_synced()
            arrived, self._arrived = self._arrived, []
            for end, data, reason in arrived:
                if data is None:
                    self._drop(end, reason)
                else:
                    self._receive(end, data)
            if handler.finish_pass() != 0:
                self.failed_passes += 1
                outbox.drop_pass()
            if not self.before_send():
                return
            self._flush()
        finally:
            outbox.in_pass = False
        if handler.needs_ticks and not self._ticking:
            self._ticking = True
            clock.after(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._soon()

    def _receive(self, end: End, data: bytes) -> None:
        end.other.pipe.received(len(data))
        connection = self._connections.get(end)
        if connection is None or connection.closing:
            return
        try:
            connection.feed(data)
        except ProtocolError as error:
            self.protocol_errors += 1
            self._drop(end, str(error))
            end.close()
        except Exception as error:
            self.handler_errors += 1
            self.errors.append(error)
            self._drop(end, f"{type(error).__name__}: {error}")
            end.close()

    def _flush(self) -> None:
        """One send for every connection that has something to say. Closing one may give others something to say: until none has."""
        while len(self.outbox):
            for connection in self.outbox.take():
                self._send(connection)

    def _send(self, connection: Connection) -> None:
        end = self._ends.get(connection)
        if end is None:
            return
        room = end.room()
        if room > 0:
            data = connection.take(room)
            if data:
                self._sent_bytes[end] = self._sent_bytes.get(end, 0) + len(data)
                end.send(data)
        if connection.waiting_bytes:
            if not end.pipe.wants_room:
                self._clock.after(STUCK_S, self._stuck, end, self._sent_bytes.get(end, 0))
            end.pipe.wants_room = True
        elif connection.closing:
            self._drop(end, connection.close_reason or "closed")
            end.close()

    def _drop(self, end: End, reason: str) -> None:
        """The connection is over, for whatever reason; the handler hears of it."""
        connection = self._connections.pop(end, None)
        if connection is not None:
            del self._ends[connection]
            self._sent_bytes.pop(end, None)
            connection.close(reason)
            connection.notify_closed()

    def _no_hello(self, end: End) -> None:
        connection = self._connections.get(end)
        if connection is not None and not connection.hello_done and not self._life.frozen and not self._over:
            self._drop(end, f"no hello within {HELLO_S} s")
            end.close()
            self._soon()

    def _stuck(self, end: End, sent_bytes: int) -> None:
        connection = self._connections.get(end)
        if connection is not None and connection.waiting_bytes and self._sent_bytes.get(end, 0) == sent_bytes and not self._over:
            self._drop(end, f"read none of its answers for {STUCK_S} s")
            end.close()
            self._soon()
