"""Users of a real cluster, at work at once through the trio client, with its own retries, and the record of what they did and were told.

The record is the simulator's (dynamo_fast/testing/history.py), and so are the checkers that judge it. A user reads, writes on with the
context of what was read or written last, writes blindly, deletes, and adds items to carts; with a session, or without; strict, or not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import trio

import dynamo_fast
from dynamo_fast.client.context import Known, Session, seen_in
from dynamo_fast.client.errors import DynamoError, NotApplied
from dynamo_fast.client.results import Result
from dynamo_fast.testing.history import Cart, Fate, History, Read, value_of, writes_in

KEYS, CARTS = 48, 8
CART_ITEMS_MAX = 2000  # of one cart, lest its value grow beyond all bounds in a long run
HELD_MAX = 4  # contexts that a user keeps of a key, old ones too
DELETED = b"0"  # what keys end with of which values are deleted
WRITES, READS = (1, 2, 2), (1, 2, 2)  # W and R to choose from
DEADLINE_S = 1.0


def covers(newer: bytes, older: bytes) -> bool:
    """Whether everything seen in `older` was seen in `newer` too."""
    known = Known()
    if older:
        known.add(older)
    return known.covered_by(newer)


class Record:
    """The history, what deletes were answered, and how many requests ended how. `acknowledged` and `reads` go up while users work."""

    def __init__(self) -> None:
        self.history = History()
        self.acknowledged = 0  # writes
        self.outcomes: Counter[str] = Counter()
        self._deletes: dict[bytes, dict[int, tuple[bytes, bytes]]] = {}  # by key: write -> the context it had, the one it was answered
        self._read_deleted: list[tuple[Read, bytes]] = []  # reads that showed a delete, or nothing, and their contexts
        self._moved = trio.lowlevel.ParkingLot()

    def delete_began(self, key: bytes, write: int, context: bytes) -> None:
        self._deletes.setdefault(key, {})[write] = context, b""

    def delete_answered(self, key: bytes, write: int, context: bytes) -> None:
        self._deletes[key][write] = self._deletes[key][write][0], context

    def deletes_in(self, key: bytes, context: bytes) -> frozenset[int]:
        """A delete has no value by which it could be known: one that was answered was seen by a context that covers the answer."""
        deletes = self._deletes.get(key, {})
        return frozenset(write for write, (_, after) in deletes.items() if after and covers(context, after))

    def perhaps_in(self, key: bytes, context: bytes) -> frozenset[int]:
        """Deletes whose fate is unknown are taken for seen by whoever writes on with a context that covers all that they replaced, so that
        nothing is thought lost that one of them has taken away."""
        deletes = self._deletes.get(key, {})
        return frozenset(write for write, (before, after) in deletes.items() if not after and covers(context, before))

    def saw_deletes(self, read: Read, context: bytes) -> None:
        """Which deletes that were is known when those under way have been answered."""
        self._read_deleted.append((read, context))

    def complete(self) -> frozenset[bytes]:
        """All is answered: reads are given the deletes that they showed. Returns the keys of which that is not certain."""
        for read, context in self._read_deleted:
            read.shown |= self.deletes_in(read.key, context)
        return frozenset(one.key for one in self.history.writes if one.tombstone and one.fate in (Fate.UNKNOWN, Fate.OPEN))

    def ended(self, outcome: str, *, acknowledged: bool = False) -> None:
        self.outcomes[outcome] += 1
        self.acknowledged += acknowledged
        self._moved.unpark_all()

    async def more(self, acknowledged: int) -> None:
        """Returns when so many more writes have been acknowledged."""
        wanted = self.acknowledged + acknowledged
        while self.acknowledged < wanted:
            await self._moved.park()


class User:
    """One of them: its session, and the contexts that it was given, with the writes that each has seen."""

    def __init__(self, name: str, db: dynamo_fast.Client, record: Record, chance: random.Random) -> None:
        self.name, self.db, self.record, self.chance = name, db, record, chance
        self._session = Session()
        self._held: dict[bytes, list[tuple[bytes, frozenset[int], frozenset[int]]]] = {}

    async def run(self, stopped: Callable[[], bool]) -> None:
        chance = self.chance
        while not stopped():
            step, key = chance.random(), b"key%d" % chance.randrange(KEYS)
            if step < 0.35:
                await self.read(key)
            elif step < 0.45:
                await self.fill(b"cart%d" % chance.randrange(CARTS))
            else:
                await self.write(key, blind=step < 0.50, tombstone=step > 0.85)

    def _context(self, key: bytes, blind: bool) -> tuple[bytes, frozenset[int], frozenset[int]]:
        held = self._held.get(key)
        if not held or blind:
            return b"", frozenset(), frozenset()
        return self.chance.choice(held) if self.chance.random() < 0.15 else held[-1]

    def _hold(self, key: bytes, context: bytes, seen: frozenset[int], firm: frozenset[int]) -> None:
        held = self._held.setdefault(key, [])
        held.append((context, seen, firm))
        del held[:-HELD_MAX]

    async def write(self, key: bytes, *, blind: bool, tombstone: bool) -> None:
        chance, history = self.chance, self.record.history
        context, seen, firm = self._context(key, blind)
        w, strict = chance.choice(WRITES), chance.random() < 0.2
        tombstone = tombstone and bool(context) and key.endswith(DELETED)
        write = history.write(self.name, key, seen, firm, w=w, dw=1, strict=strict, now_s=trio.current_time(), tombstone=tombstone)
        try:
            if tombstone:
                self.record.delete_began(key, write.number, context)
                after = await self.db.delete(key, context=context, w=w, strict=strict, deadline_s=DEADLINE_S, session=self._session)
                self.record.delete_answered(key, write.number, after)
            else:
                value = value_of(write.number, chance.randrange(200))
                after = await self.db.put(key, value, context=context, w=w, strict=strict, deadline_s=DEADLINE_S, session=self._session)
        except DynamoError as error:
            write.fate, write.told = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN, f"{type(error).__name__}: {error}"
            write.ended_s = trio.current_time()
            self.record.ended(f"write: {type(error).__name__}{' (strict)' if strict else ''}")
            return
        write.fate, write.ended_s = Fate.OK, trio.current_time()
        alone = seen_in(after).dot is None
        self._hold(key, after, seen | {write.number}, firm | {write.number} if alone else firm)
        self.record.ended("write", acknowledged=True)

    async def read(self, key: bytes) -> None:
        chance = self.chance
        r, strict, session = chance.choice(READS), chance.random() < 0.2, chance.random() < 0.5
        read = self.record.history.read(self.name, key, r=r, strict=strict, session=session, now_s=trio.current_time())
        try:
            result = await self.db.get(key, r=r, strict=strict, deadline_s=DEADLINE_S, session=self._session if session else None)
        except DynamoError as error:
            read.fate, read.ended_s = Fate.UNKNOWN, trio.current_time()
            self.record.ended(f"read: {type(error).__name__}{' (strict)' if strict else ''}")
            return
        read.fate, read.ended_s = Fate.OK, trio.current_time()
        read.shown, read.strange = writes_in(self.record.history, key, result.values)
        if deleted_in(result):
            self.record.saw_deletes(read, result.context)
            read.shown |= self.record.deletes_in(key, result.context)
        seen = read.shown | self.record.perhaps_in(key, result.context)
        self._hold(key, result.context, seen, read.shown)
        self.record.ended("read")

    async def fill(self, key: bytes) -> None:
        history = self.record.history
        if sum(one.key == key for one in history.carts) >= CART_ITEMS_MAX:
            return
        cart = Cart(key, b"%s.%d" % (self.name.encode(), len(history.carts)))
        history.carts.append(cart)
        try:
            await self.db.update(key, lambda value: joined([value or b"", cart.item]), resolve=joined, deadline_s=DEADLINE_S)
        except DynamoError as error:
            cart.fate = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN
            self.record.ended(f"cart: {type(error).__name__}")
            return
        cart.fate = Fate.OK
        self.record.ended("cart", acknowledged=True)


def deleted_in(result: Result) -> bool:
    """Whether a delete is part of what there is."""
    return not result.found or any(sibling.deleted for sibling in result.siblings)


def joined(carts: Sequence[bytes]) -> bytes:
    """The union of sets of items."""
    return b",".join(sorted({item for cart in carts for item in cart.split(b",") if item}))
