"""A network in virtual time: sockets that are two ends of nothing, and a reactor that carries the bytes between them."""

import trio

from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler

CARRY_S = 0.001  # one way through the network


class End:
    """One end of a virtual socket; becomes a Connection when a reactor adopts it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.other: End | None = None
        self.connection: Connection | None = None
        self.reactor: VirtualReactor | None = None


class Network:
    """Who listens where, what names resolve to, which addresses cannot be reached."""

    def __init__(self) -> None:
        self.listening: dict[str, VirtualReactor] = {}
        self.names: dict[str, list[tuple[str, int]]] = {}
        self.cut: set[str] = set()
        self.dials = 0

    def dial(self, address: str, origin: str) -> End:
        self.dials += 1
        if address in self.cut or origin in self.cut or address not in self.listening:
            raise ConnectionRefusedError(111, "Connection refused")
        here, there = End(address), End("accepted")
        here.other, there.other = there, here
        self.listening[address].accept(there)
        return here


class VirtualReactor:
    """The reactor's interface over virtual sockets: a task carries bytes from each outbox to the other ends."""

    def __init__(self, handler: PyFrameHandler, network: Network) -> None:
        self.handler = handler
        self.network = network
        self.outbox = Outbox()
        self.work = trio.Event()
        self.outbox.wake = lambda: self.work.set()
        self.ends: dict[Connection, End] = {}
        self.address: str | None = None
        self.stopping = False

    def listen(self, listener: "Listener") -> None:
        self.address = listener.address
        self.network.listening[listener.address] = self

    def stop_listening(self) -> None:
        if self.address is not None:
            self.network.listening.pop(self.address, None)

    def watch_sync(self, fd: int) -> None:
        raise AssertionError("the virtual engine has no descriptor")

    def adopt(self, end: End) -> Connection:
        connection = Connection(self.handler, self.outbox, label=end.address)
        end.connection, end.reactor = connection, self
        self.ends[connection] = end
        return connection

    accept = adopt

    def quiet(self) -> bool:
        return not any(connection.waiting_bytes for connection in self.ends)

    def hurry(self) -> None:
        pass

    def stop(self) -> None:
        self.stopping = True
        self.work.set()

    async def run(self) -> None:
        try:
            while not self.stopping:
                await self.work.wait()
                self.work = trio.Event()
                await trio.sleep(CARRY_S)
                self.carry()
        finally:
            self.stop_listening()
            for connection in list(self.ends):
                self.end(connection, "this node is shutting down")

    def carry(self) -> None:
        while len(self.outbox):
            for connection in self.outbox.take():
                end = self.ends.get(connection)
                if end is None:
                    continue
                data = connection.take()
                if data and end.other is not None:
                    self.hand(end.other, data)
                if connection.closing:
                    self.end(connection, connection.close_reason or "closed")

    def hand(self, other: End, data: bytes) -> None:
        """What has been carried comes to the other end."""
        if other.connection is not None and not other.connection.closing:
            other.connection.feed(data)

    def end(self, connection: Connection, reason: str) -> None:
        end = self.ends.pop(connection)
        connection.close(reason)
        connection.notify_closed()
        other = end.other
        if other is not None and other.reactor is not None and other.connection in other.reactor.ends:
            other.reactor.end(other.connection, "closed by the other side")

    def statistics(self) -> dict[str, object]:
        return {"connections": len(self.ends)}


class Listener:
    def __init__(self, address: str) -> None:
        self.address = address
