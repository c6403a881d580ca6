"""What carries bytes between data planes and their users in virtual time: one heap entry a chunk, and the weather of `network.py`.

A pipe is one direction of a connection. Its bytes arrive in order; a cut loses nothing, what arrives there waits until it is over. What is
lost is lost with its connection.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from dynamo_fast.testing.agenda import Agenda
from dynamo_fast.testing.network import REPEAT_S, Link, fragments
from dynamo_fast.testing.trace import Trace


class Pipe:
    """`take` is called with each chunk that arrives, None for the end of all. `back`: the other direction."""

    __slots__ = ("_free_s", "_last_s", "back", "link", "network", "number", "origin", "over", "take", "target", "waiting")

    def __init__(self, network: Network, origin: str, target: str, take: Callable[[bytes | None], None]) -> None:
        self.network, self.origin, self.target, self.take = network, origin, target, take
        self.link = network.link(origin, target)
        self.number = network.next_number()
        self.waiting: list[bytes | None] = []  # behind a cut
        self.over = False  # whatever is under way is lost
        self._last_s = self._free_s = 0.0
        self.back: Pipe

    @property
    def names(self) -> tuple[str, str]:
        """Of the hosts from and to which it leads."""
        return self.origin, self.target

    def send(self, data: bytes | None) -> None:
        network, link = self.network, self.link
        clock, chance = network.clock, network.chance
        arrives_s = clock.now + link.delay_s - math.log(1.0 - chance.random()) * link.jitter_s
        network.trace.note(clock.now, self.number, data or b"")
        if data is not None and (link.stall_chance or link.bytes_per_s or link.corrupt_chance or link.fragments):
            self._send_badly(data, arrives_s)
            return
        self._line_up(arrives_s)
        clock.at(self._last_s, self._arrive, data)

    def _send_badly(self, data: bytes, arrives_s: float) -> None:
        network, link = self.network, self.link
        clock, chance = network.clock, network.chance
        if link.stall_chance and chance.random() < link.stall_chance:
            arrives_s += chance.random() * link.stall_s
        if link.bytes_per_s:
            self._free_s = max(self._free_s, clock.now) + len(data) / link.bytes_per_s
            arrives_s += self._free_s - clock.now
        if link.corrupt_chance and chance.random() < link.corrupt_chance:
            place = chance.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        self._line_up(arrives_s)
        for piece in fragments(data, chance) if link.fragments else [data]:
            clock.at(self._last_s, self._arrive, piece)

    def _line_up(self, arrives_s: float) -> None:
        """What is sent now arrives then, or behind what was sent before."""
        if arrives_s > self._last_s:
            self._last_s = arrives_s
            if arrives_s > self.network.latest_s:
                self.network.latest_s = arrives_s

    def _arrive(self, data: bytes | None) -> None:
        if self.over:
            return
        if self.link.cut or self.waiting:
            self.waiting.append(data)
            self.network.stuck[self] = None
            return
        network = self.network
        network.chunks += 1
        if network.on_chunk is not None and data is not None:
            network.on_chunk(self, data)
        self.take(data)

    def go_on(self) -> None:
        """What it waited for may be over."""
        waiting, self.waiting = self.waiting, []
        for data in waiting:
            self._arrive(data)


class Network:
    """The links between hosts; `stuck` has the pipes behind a cut."""

    def __init__(self, clock: Agenda, trace: Trace, chance: random.Random) -> None:
        self.clock, self.trace, self.chance = clock, trace, chance
        self.chunks = 0  # delivered
        self.latest_s = 0.0  # when the last of all that was sent arrives, but for what is behind a cut
        self.stuck: dict[Pipe, None] = {}
        self.on_chunk: Callable[[Pipe, bytes], None] | None = None  # sees everything that arrives
        self._links: dict[tuple[str, str], Link] = {}
        self._pipes = 0

    def link(self, one: str, two: str) -> Link:
        """The weather from one host to the other."""
        found = self._links.get((one, two))
        if found is None:
            found = self._links[one, two] = Link()
        return found

    def connects(self, one: str, two: str) -> bool:
        """Whether a connection can be made."""
        there, back = self.link(one, two), self.link(two, one)
        return not (there.cut or back.cut or there.refuses)

    def next_number(self) -> int:
        self._pipes += 1
        return self._pipes

    def go_on(self) -> None:
        """Cuts were mended: what waited goes on, pipe by pipe."""
        stuck, self.stuck = self.stuck, {}
        for pipe in stuck:
            goes_on_s = self.clock.now + self.chance.random() * REPEAT_S
            self.latest_s = max(self.latest_s, goes_on_s)
            self.clock.at(goes_on_s, pipe.go_on)

    def heal(self) -> None:
        """All links have good weather again."""
        for link in self._links.values():
            link.__dict__.update(Link().__dict__)
        self.go_on()
