"""Clients that read, write, delete and fill carts through the real client library, and write down what they did and were told.

An actor is one user with one session and what it was shown of each key. It writes on with a context that it holds, fresh or old, or
blindly; it never invents one. Clients retry by themselves, with the same put id, at the same coordinator and at others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from dynamo_fast.client.bucket import Bucket
from dynamo_fast.client.client import Client
from dynamo_fast.client.context import Session, seen_in
from dynamo_fast.client.errors import DynamoError, NotApplied, Siblings
from dynamo_fast.client.results import Result
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.history import Cart, Fate, History, Read, Write, value_of, writes_in

CART = b"cart"
ADDITIONS = 100  # to the carts of a run, then everybody goes on with new ones: each costs what is in it


@dataclass(frozen=True)
class Habits:
    """How actors behave; probabilities are of each step."""

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
    last_write_wins: bool = False


@dataclass
class Probes:
    """Rare states that were really reached, by name."""

    counts: dict[str, int] = field(default_factory=dict)

    def hit(self, name: str, times: int = 1) -> None:
        if times:
            self.counts[name] = self.counts.get(name, 0) + times


class PutIds:
    """Which write of which task the next put id is for: the client draws one inside the call, in the task that calls."""

    def __init__(self) -> None:
        self._writes: dict[trio.lowlevel.Task, Write | None] = {}

    def set(self, write: Write | None) -> None:
        self._writes[trio.lowlevel.current_task()] = write

    def note(self, client: Client) -> None:
        """From now on every put id that this client draws is written down with the write it is for."""
        draw = client._shared.put_id

        def noted() -> bytes:
            put_id = draw()
            write = self._writes.get(trio.lowlevel.current_task())
            if write is not None:
                write.put_id = put_id
            return put_id

        client._shared.put_id = noted  # type: ignore[method-assign]


class Held(NamedTuple):
    """A context, and the writes that its holder has seen: all, those that its clock covers, and the one that its dot is of."""

    context: bytes = b""
    seen: frozenset[int] = frozenset()
    clocked: frozenset[int] = frozenset()
    dotted: frozenset[int] = frozenset()


class Actor:
    """One user. `stopped()` says when to end."""

    def __init__(self, name: str, client: Client, history: History, habits: Habits, dots: DotRegistry, probes: Probes, put_ids: PutIds,
                 chance: random.Random) -> None:  # fmt: skip
        self.name = name
        self._put_ids = put_ids
        self._client, self._history, self._habits, self._dots, self._probes, self._chance = client, history, habits, dots, probes, chance
        self._session = Session()
        self._known: dict[bytes, list[Held]] = {}  # by key, the latest last

    async def run(self, stopped: Callable[[], bool]) -> None:
        habits, chance = self._habits, self._chance
        while not stopped():
            step = chance.random()
            if step < habits.cart:
                generation = len(self._history.carts) // ADDITIONS
                await self._fill_cart(b"%s%d" % (CART, generation * habits.carts + chance.randrange(habits.carts)))
            elif step < habits.cart + habits.read:
                await self.read(self._key())
            else:
                await self.write(self._key(), tombstone=chance.random() < habits.delete)
            await trio.sleep(chance.expovariate(1.0) * habits.pause_s)

    def _key(self) -> bytes:
        return b"key%d" % self._chance.randrange(self._habits.keys)

    def _bucket(self, key: bytes) -> Bucket:
        return self._client.bucket("lww") if key in self._history.last_write_wins else self._client

    async def write(self, key: bytes, *, tombstone: bool = False) -> Write:
        """One put or delete, with a context that this actor holds, or without."""
        chance, habits = self._chance, self._habits
        w, dw = chance.choice(habits.writes)
        strict = chance.random() < habits.strict
        known = self._known.get(key, [Held()])
        held = chance.choice(known) if chance.random() < habits.old_context else known[-1]
        if chance.random() < habits.blind and not tombstone:
            held = Held()
        context, seen = held.context, held.seen
        write = self._history.write(
            self.name, key, seen, held.clocked | held.dotted, w=max(w, dw), dw=dw, strict=strict, now_s=trio.current_time(),
            tombstone=tombstone,
        )  # fmt: skip
        self._put_ids.set(write)
        bucket, options = self._bucket(key), {"w": w, "dw": dw, "strict": strict, "deadline_s": habits.deadline_s}
        try:
            if tombstone:
                after = await bucket.delete(key, context=context, session=self._session, **options)  # type: ignore[arg-type]
            else:
                value = value_of(write.number, habits.value_bytes)
                after = await bucket.put(key, value, context=context, session=self._session, **options)  # type: ignore[arg-type]
        except DynamoError as error:
            write.fate, write.told = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN, f"{type(error).__name__}: {error}"
            self._probes.hit(f"write answered {type(error).__name__}")
        else:
            write.fate = Fate.OK
            own = frozenset([write.number])
            if seen_in(after).dot is None:
                self._hold(key, Held(after, seen | own, held.clocked | own))
            else:
                self._hold(key, Held(after, seen | own, held.clocked, own))
            if len(seen) > 1:
                self._probes.hit("siblings resolved")
        write.ended_s = trio.current_time()
        return write

    async def read(self, key: bytes) -> Read:
        chance, habits = self._chance, self._habits
        session = chance.random() < habits.sessions
        strict, r = chance.random() < habits.strict, chance.choice(habits.reads)
        read = self._history.read(self.name, key, r=r, strict=strict, session=session, now_s=trio.current_time())
        try:
            with_session = self._session if session else None
            result = await self._bucket(key).get(key, r=r, strict=strict, deadline_s=habits.deadline_s, session=with_session)
        except DynamoError as error:
            read.fate = Fate.UNKNOWN
            self._probes.hit(f"read answered {type(error).__name__}")
        else:
            read.fate = Fate.OK
            self._shown(read, result)
        read.ended_s = trio.current_time()
        return read

    def _shown(self, read: Read, result: Result) -> None:
        shown, read.strange = writes_in(self._history, read.key, result.values)
        if len(shown) > 1:
            self._probes.hit("siblings shown")
        if any(sibling.deleted for sibling in result.siblings) or not result.found:
            shown |= self._deletes_in(read.key, result.context)
        read.shown = shown
        self._hold(read.key, Held(result.context, shown, shown))

    def _deletes_in(self, key: bytes, context: bytes) -> frozenset[int]:
        """A delete has no value by which it could be known: those that the context covers were seen."""
        seen = seen_in(context)
        return frozenset(
            one.number
            for one in self._history.deletes.get(key, ())
            if any(seen.has(dot[:24], int.from_bytes(dot[24:], "little")) for _, dot in self._dots.dots(one.put_id))
        )

    def _hold(self, key: bytes, held: Held) -> None:
        known = self._known.setdefault(key, [])
        known.append(held)
        del known[:-4]

    async def _fill_cart(self, key: bytes) -> None:
        cart = Cart(key, b"%s.%d" % (self.name.encode(), len(self._history.carts)))
        self._history.carts.append(cart)
        self._put_ids.set(None)
        w, dw = self._chance.choice(self._habits.writes)
        try:
            await self._client.update(key, lambda value: join_carts([value or b"", cart.item]), resolve=join_carts, w=w, dw=dw,
                                      deadline_s=self._habits.deadline_s)  # fmt: skip
        except Siblings:
            raise AssertionError("update was given a function to resolve them") from None
        except DynamoError as error:
            cart.fate = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN
        else:
            cart.fate = Fate.OK


def join_carts(carts: Sequence[bytes]) -> bytes:
    """The union of sets of items."""
    return b",".join(sorted({item for cart in carts for item in cart.split(b",") if item}))
