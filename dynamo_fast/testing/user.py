"""One user of a simulated store: what it was shown of each key, what it writes next, and what it makes of the answers. It sends nothing.

A user writes on with a context that it holds, fresh or old, or blindly; it never invents one. `workload.py` has users with the real client,
`core/clients.py` users that speak to data planes directly.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dynamo_fast.client.context import Session, seen_in
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.history import Fate, History, Read, Write, writes_in

CONTEXTS_HELD = 4  # of each key, the latest


def key_of(number: int) -> bytes:
    return b"key%d" % number


@dataclass(frozen=True)
class Habits:
    """How users behave; probabilities are of each step."""

    keys: int
    carts: int
    writes: Sequence[tuple[int, int]]  # (W, DW) to choose from
    reads: Sequence[int]  # R to choose from
    strict: float = 0.3
    blind: float = 0.1
    old_context: float = 0.15
    delete: float = 0.08
    read: float = 0.35
    cart: float = 0.1
    sessions: float = 0.5  # of reads
    value_bytes: int = 20
    pause_s: float = 0.03
    deadline_s: float = 0.5
    last_write_wins: int = 0  # so many keys, from the first on, have their conflicts settled by the clock
    stray_context: float = 0.0  # of writes, by mistake with the context of another key


@dataclass
class Probes:
    """Rare states that were really reached, by name."""

    counts: dict[str, int] = field(default_factory=dict)

    def hit(self, name: str, times: int = 1) -> None:
        if times:
            self.counts[name] = self.counts.get(name, 0) + times


class Held(NamedTuple):
    """A context, and the writes that its holder has seen: all, those that its clock covers, and the one that its dot is of."""

    context: bytes = b""
    seen: frozenset[int] = frozenset()
    clocked: frozenset[int] = frozenset()
    dotted: frozenset[int] = frozenset()


NOTHING_HELD = Held()


class User:
    """`session` is what it asks of reads that it makes in a session."""

    def __init__(self, name: str, history: History, habits: Habits, dots: DotRegistry, probes: Probes, chance: random.Random) -> None:
        self.name, self.history, self.habits, self.dots, self.probes, self.chance = name, history, habits, dots, probes, chance
        self.session = Session()
        self._known: dict[bytes, list[Held]] = {}  # by key, the latest last

    def key(self) -> bytes:
        return key_of(self.chance.randrange(self.habits.keys))

    def begin_write(self, key: bytes, now_s: float, *, tombstone: bool = False) -> tuple[Write, bytes, int]:
        """A put or delete with a context that this user holds, or without: the write, its context, and the W that it asks for."""
        chance, habits = self.chance, self.habits
        w, dw = chance.choice(habits.writes)
        strict = chance.random() < habits.strict
        known = self._known.get(key) or [NOTHING_HELD]
        held = chance.choice(known) if chance.random() < habits.old_context else known[-1]
        if chance.random() < habits.blind and not tombstone:
            held = NOTHING_HELD
        stray = self._context_of_another(key) if chance.random() < habits.stray_context else b""
        if stray:
            held = Held(stray)
        write = self.history.write(
            self.name, key, held.seen, held.clocked | held.dotted, w=max(w, dw), dw=dw, strict=strict, now_s=now_s, tombstone=tombstone,
        )  # fmt: skip
        write.clocked, write.stray = held.clocked, bool(stray)
        return write, held.context, w

    def _context_of_another(self, key: bytes) -> bytes:
        """A context that this user holds of another key; nothing if it has none."""
        contexts = [held[-1].context for other, held in self._known.items() if other != key]
        return self.chance.choice(contexts) if contexts else b""

    def acknowledged(self, write: Write, context: bytes) -> None:
        """The put was answered with this context."""
        write.fate = Fate.OK
        own = frozenset([write.number])
        if seen_in(context).dot is None:
            self._hold(write.key, Held(context, write.seen | own, write.clocked | own))
        else:
            self._hold(write.key, Held(context, write.seen | own, write.clocked, own))
        if len(write.seen) > 1:
            self.probes.hit("siblings resolved")

    def begin_read(self, key: bytes, now_s: float) -> Read:
        chance, habits = self.chance, self.habits
        session = chance.random() < habits.sessions
        strict, r = chance.random() < habits.strict, chance.choice(habits.reads)
        return self.history.read(self.name, key, r=r, strict=strict, session=session, now_s=now_s)

    def shown(self, read: Read, values: Iterable[bytes], context: bytes, *, deleted: bool) -> None:
        """The get was answered with these values. `deleted`: a delete is among what was found, or nothing was found at all."""
        read.fate = Fate.OK
        shown, read.strange = writes_in(self.history, read.key, values)
        if len(shown) > 1:
            self.probes.hit("siblings shown")
        if deleted:
            shown |= self._deletes_in(read.key, context)
        read.shown = shown
        self._hold(read.key, Held(context, shown, shown))

    def _deletes_in(self, key: bytes, context: bytes) -> frozenset[int]:
        """A delete has no value by which it could be known: those that the context covers were seen."""
        seen, dots = seen_in(context), self.dots.dots
        found = []
        for one in self.history.deletes.get(key, ()):
            for _, dot, _ in dots(one.put_id):
                if seen.has(dot[:24], int.from_bytes(dot[24:], "little")):
                    found.append(one.number)
                    break
        return frozenset(found)

    def _hold(self, key: bytes, held: Held) -> None:
        known = self._known.setdefault(key, [])
        known.append(held)
        del known[:-CONTEXTS_HELD]
