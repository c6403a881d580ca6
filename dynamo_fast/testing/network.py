"""A network of hosts in virtual time: connections that carry bytes, and everything that can be wrong with them.

A connection is two *pipes*, each with the weather of its direction (`Link`): delay, stalls, bandwidth, corruption, fragments, a cut. A
cut loses nothing by itself, as TCP repeats what was not acknowledged: bytes wait, and go on when the cut ends; a pipe that got nothing
through for RESET_S resets its connection. A host whose power is gone says nothing any more; whoever sends to it notices after RESET_S,
or sooner when it is back and knows nothing of the connection. A process that dies, however it dies, is followed by its kernel's goodbye.

Bytes of one connection arrive in order; bytes of two do not wait for each other.
"""

from __future__ import annotations

import errno
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.trace import Trace

RESET_S = 12.0  # a pipe that gets nothing through for so long resets its connection; real kernels take minutes
REPEAT_S = 0.2  # after a cut, what had waited comes within this time
PIPE_BYTES = 1 << 18  # sent and not yet received by the other process


@dataclass
class Link:
    """The weather from one host to another. A probability is of each chunk that is sent."""

    delay_s: float = 0.0003  # at least
    jitter_s: float = 0.0004  # exponential on top, in the mean
    stall_chance: float = 0.0
    stall_s: float = 0.0
    bytes_per_s: float = 0.0  # 0: as many as you like
    corrupt_chance: float = 0.0
    fragments: bool = False  # every chunk arrives in several pieces, down to single bytes
    refuses: bool = False  # new connections are refused
    cut: bool = False


class Owner(Protocol):
    """Who holds an end: a reactor, or a client's stream."""

    def arrived(self, end: End, data: bytes) -> None: ...
    def ended(self, end: End, reason: str) -> None: ...
    def room(self, end: End) -> None: ...


class End:
    """One end of a connection, as a socket is; it becomes a Connection when a reactor adopts it."""

    def __init__(self, host: str, label: str, number: int) -> None:
        self.host, self.label, self.number = host, label, number
        self.owner: Owner | None = None
        self.unclaimed: list[bytes | None] = []  # arrived before there was an owner; None: it has ended
        self.pipe: Pipe  # by which it sends
        self.other: End
        self.closed = False

    def send(self, data: bytes) -> None:
        if not self.closed:
            self.pipe.send(data)

    def room(self) -> int:
        """Bytes that it may send now."""
        return PIPE_BYTES - self.pipe.waiting_bytes

    def close(self, *, silently: bool = False) -> None:
        """The other end hears of it after all that was sent; `silently`: never, and what is under way is lost, as without power."""
        if not self.closed:
            self.closed = True
            if silently:
                self.pipe.lose()
            else:
                self.pipe.send(None)

    def claim(self, owner: Owner) -> None:
        self.owner = owner
        for data in self.unclaimed:
            if data is None:
                owner.ended(self, "closed by the other side")
            else:
                owner.arrived(self, data)
        self.unclaimed.clear()

    def take(self, data: bytes | None, reason: str) -> None:
        if self.closed:
            return
        if data is None:
            self.closed = True
        if self.owner is None:
            self.unclaimed.append(data)
        elif data is None:
            self.owner.ended(self, reason)
        else:
            self.owner.arrived(self, data)


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: Network, source: End, target: End, number: int) -> None:
        self.network, self.source, self.target, self.number = network, source, target, number
        self.link = network.link(source.host, target.host)
        self.waiting_bytes = 0
        self.wants_room = False
        self._queue: deque[tuple[float, bytes | None]] = deque()  # when it may arrive, and what; None: the end
        self._free_s = 0.0  # when the wire has taken what was sent before
        self._last_s = 0.0
        self._stuck_since_s = -1.0

    @property
    def names(self) -> tuple[str, str]:
        """Of the hosts from and to which it leads."""
        return self.source.host, self.target.host

    @property
    def back(self) -> Pipe:
        """The other direction."""
        return self.target.pipe

    def send(self, data: bytes | None) -> None:
        link, chance, now_s = self.link, self.network.chance, self.network.clock.now
        arrives_s = now_s + link.delay_s - math.log(1.0 - chance.random()) * link.jitter_s  # expovariate, without a call
        if data is not None:
            self.waiting_bytes += len(data)
            if link.stall_chance and chance.random() < link.stall_chance:
                self.network.count("stall")
                arrives_s += chance.random() * link.stall_s
            if link.bytes_per_s:
                self._free_s = max(self._free_s, now_s) + len(data) / link.bytes_per_s
                arrives_s += self._free_s - now_s
            if link.corrupt_chance and chance.random() < link.corrupt_chance:
                self.network.count("corrupt bytes")
                place = chance.randrange(len(data))
                data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        if arrives_s < self._last_s:
            arrives_s = self._last_s
        self._last_s = arrives_s
        if not self._queue:
            self.network.clock.at(arrives_s, self._arrive)
        if link.fragments and data is not None:
            self._queue.extend((arrives_s, piece) for piece in fragments(data, chance))
        else:
            self._queue.append((arrives_s, data))

    def _arrive(self) -> None:
        network = self.network
        if not self._queue:
            return
        if self.link.cut or network.dark(self.source.host) or network.dark(self.target.host):
            self._stuck()
            return
        self._stuck_since_s = -1.0
        if self.target.closed:
            self._queue.clear()
            if not self.source.closed and network.forgotten(self.target):
                self.source.take(None, "connection reset by peer")
            return
        _, data = self._queue.popleft()
        network.trace.note(network.clock.now, self.number, data or b"")
        if data is not None:
            network.chunks += 1
            if network.on_chunk is not None:
                network.on_chunk(self, data)
        if self._queue:
            network.clock.at(self._queue[0][0], self._arrive)
        self.target.take(data, "closed by the other side")

    def _stuck(self) -> None:
        """Nothing gets through: wait until it does, but not for ever."""
        network = self.network
        if self._stuck_since_s < 0:
            self._stuck_since_s = network.clock.now
            network.clock.after(RESET_S, self._give_up, self._stuck_since_s)
        network.stuck[self] = None

    def _give_up(self, since_s: float) -> None:
        if self._stuck_since_s == since_s:
            self._queue.clear()
            self.network.stuck.pop(self, None)
            self.source.take(None, "connection timed out")

    def lose(self) -> None:
        self._queue.clear()

    def go_on(self) -> None:
        """What it waited for may be over."""
        self.network.clock.after(self.network.chance.random() * REPEAT_S, self._arrive)

    def received(self, count: int) -> None:
        """The other process has taken so many bytes."""
        self.waiting_bytes -= count
        if self.wants_room and self.waiting_bytes < PIPE_BYTES // 2 and not self.source.closed and self.source.owner is not None:
            self.wants_room = False
            self.source.owner.room(self.source)


def fragments(data: bytes, chance: random.Random) -> list[bytes]:
    """The bytes in pieces: one by one at the start, where headers are, then in a few larger ones."""
    singles = range(1, min(len(data), 1 + chance.randrange(40)))
    cuts = sorted({*singles, *(chance.randrange(1, len(data)) for _ in range(3) if len(data) > 1)})
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


class Network:
    """The hosts, the links between them, and who listens where. `counts` has what went wrong, by kind."""

    def __init__(self, clock: Clock, trace: Trace, chance: random.Random) -> None:
        self.clock, self.trace, self.chance = clock, trace, chance
        self.names: dict[str, list[tuple[str, int]]] = {}  # what else than itself a name resolves to
        self.chunks = 0  # delivered
        self.dials = 0
        self.counts: dict[str, int] = {}
        self.stuck: dict[Pipe, None] = {}
        self.on_chunk: Callable[[Pipe, bytes], None] | None = None  # sees everything that arrives
        self._links: dict[tuple[str, str], Link] = {}
        self._listening: dict[str, tuple[str, Callable[[End], None]]] = {}
        self._dark: set[str] = set()
        self._rebooted: dict[str, int] = {}  # host -> number of connections made before its last loss of power
        self._numbers = 0

    # Weather ------------------------------------------------------------------------------------------------------------------------

    def link(self, source: str, target: str) -> Link:
        """The weather from one host to another, to be changed in place."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link()
        return found

    def cut(self, one: str, two: str, *, both_ways: bool = True) -> None:
        """Nothing goes from one to two any more, nor back unless told otherwise."""
        self.link(one, two).cut = True
        if both_ways:
            self.link(two, one).cut = True

    def heal(self, *hosts: str) -> None:
        """All links, or those of these hosts, have good weather again."""
        for (source, target), link in self._links.items():
            if not hosts or source in hosts or target in hosts:
                link.__dict__.update(Link().__dict__)
        self.go_on()

    def go_on(self) -> None:
        """Call after a cut was taken back by hand: what waited goes on."""
        stuck, self.stuck = self.stuck, {}
        for pipe in stuck:
            pipe.go_on()

    def darken(self, host: str) -> None:
        """The host has no power: it neither hears nor says anything, not even that its connections are gone."""
        self._dark.add(host)
        self._rebooted[host] = self._numbers

    def lighten(self, host: str) -> None:
        self._dark.discard(host)
        self.go_on()

    def dark(self, host: str) -> bool:
        return host in self._dark

    def forgotten(self, end: End) -> bool:
        """Whether the end's host has lost its power since the connection was made, so that it answers with a reset."""
        return end.number <= self._rebooted.get(end.host, -1)

    def count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    # Connections ----------------------------------------------------------------------------------------------------------------------

    def listen(self, address: str, host: str, accept: Callable[[End], None]) -> None:
        self._listening[address] = (host, accept)

    def stop_listening(self, address: str) -> None:
        self._listening.pop(address, None)

    async def dial(self, address: str, origin: str) -> End:
        """A connected end; OSError when nobody listens there, or nothing gets through. The host stands in the address."""
        self.dials += 1
        host = address.rpartition(":")[0]
        there, back = self.link(origin, host), self.link(host, origin)
        await self.clock.sleep(there.delay_s + back.delay_s + self.chance.random() * (there.jitter_s + back.jitter_s))
        if there.cut or back.cut or self.dark(host) or self.dark(origin):
            await self.clock.sleep(RESET_S)
            raise TimeoutError(errno.ETIMEDOUT, f"Connection timed out: {address}")
        if there.refuses or address not in self._listening:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connection refused: {address}")
        listener, accept = self._listening[address]
        here, accepted = self.pair(origin, listener, address)
        self.trace.note(self.clock.now, here.number, address.encode())
        self.clock.at(self.clock.now, accept, accepted)
        return here

    def pair(self, one: str, two: str, label: str) -> tuple[End, End]:
        """The two ends of a new connection between two hosts."""
        self._numbers += 1
        here, there = End(one, label, self._numbers), End(two, f"from {one}", self._numbers)
        here.other, there.other = there, here
        here.pipe = Pipe(self, here, there, 2 * self._numbers)
        there.pipe = Pipe(self, there, here, 2 * self._numbers + 1)
        return here, there


class Stream(trio.abc.Stream):
    """An end as a client sees it."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._received = bytearray()
        self._over: str | None = None
        self._wake = trio.Event()
        end.claim(self)

    def arrived(self, end: End, data: bytes) -> None:
        end.other.pipe.received(len(data))
        self._received += data
        self._wake.set()

    def ended(self, end: End, reason: str) -> None:
        self._over = reason
        self._wake.set()

    def room(self, end: End) -> None:
        """Streams do not wait for room: what a client may have under way is bounded by the client."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self._over is not None or self._end.closed:
            raise trio.BrokenResourceError(self._over or "closed")
        self._end.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._received and self._over is None:
            self._wake = trio.Event()
            await self._wake.wait()
        if self._received:
            data = bytes(self._received[:max_bytes])
            del self._received[: len(data)]
            return data
        if self._over == "closed by the other side":
            return b""
        raise trio.BrokenResourceError(self._over)

    async def aclose(self) -> None:
        self._end.close()
        self._over = self._over or "closed"
        await trio.lowlevel.checkpoint()
