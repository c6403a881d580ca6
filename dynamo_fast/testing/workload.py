"""Users that read, write, delete and fill carts through the real client library, and write down what they did and were told.

Clients retry by themselves, with the same put id, at the same coordinator and at others.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from dynamo_fast.client.bucket import Bucket
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError, NotApplied, Siblings
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.history import Cart, Fate, History, Read, Write, join_carts, value_of
from dynamo_fast.testing.user import Habits, Probes, User

CART = b"cart"
ADDITIONS = 100  # to the carts of a run, then everybody goes on with new ones: each costs what is in it


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


class Actor(User):
    """A user at work. `stopped()` says when to end."""

    def __init__(self, name: str, client: Client, history: History, habits: Habits, dots: DotRegistry, probes: Probes, put_ids: PutIds,
                 chance: random.Random) -> None:  # fmt: skip
        super().__init__(name, history, habits, dots, probes, chance)
        self._client, self._put_ids = client, put_ids

    async def run(self, stopped: Callable[[], bool]) -> None:
        habits, chance = self.habits, self.chance
        while not stopped():
            step = chance.random()
            if step < habits.cart:
                generation = len(self.history.carts) // ADDITIONS
                await self._fill_cart(b"%s%d" % (CART, generation * habits.carts + chance.randrange(habits.carts)))
            elif step < habits.cart + habits.read:
                await self.read(self.key())
            else:
                await self.write(self.key(), tombstone=chance.random() < habits.delete)
            await trio.sleep(chance.expovariate(1.0) * habits.pause_s)

    def _bucket(self, key: bytes) -> Bucket:
        return self._client.bucket("lww") if key in self.history.last_write_wins else self._client

    async def write(self, key: bytes, *, tombstone: bool = False) -> Write:
        """One put or delete, with a context that this user holds, or without."""
        write, context, w = self.begin_write(key, trio.current_time(), tombstone=tombstone)
        self._put_ids.set(write)
        bucket, options = self._bucket(key), {"w": w, "dw": write.dw, "strict": write.strict, "deadline_s": self.habits.deadline_s}
        try:
            if tombstone:
                after = await bucket.delete(key, context=context, session=self.session, **options)  # type: ignore[arg-type]
            else:
                value = value_of(write.number, self.habits.value_bytes)
                after = await bucket.put(key, value, context=context, session=self.session, **options)  # type: ignore[arg-type]
        except DynamoError as error:
            write.fate, write.told = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN, f"{type(error).__name__}: {error}"
            self.probes.hit(f"write answered {type(error).__name__}")
        else:
            self.acknowledged(write, after)
        write.ended_s = trio.current_time()
        return write

    async def read(self, key: bytes) -> Read:
        read = self.begin_read(key, trio.current_time())
        try:
            result = await self._bucket(key).get(key, r=read.r, strict=read.strict, deadline_s=self.habits.deadline_s,
                                                 session=self.session if read.session else None)  # fmt: skip
        except DynamoError as error:
            read.fate = Fate.UNKNOWN
            self.probes.hit(f"read answered {type(error).__name__}")
        else:
            deleted = any(sibling.deleted for sibling in result.siblings) or not result.found
            self.shown(read, result.values, result.context, deleted=deleted)
        read.ended_s = trio.current_time()
        return read

    async def _fill_cart(self, key: bytes) -> None:
        cart = Cart(key, b"%s.%d" % (self.name.encode(), len(self.history.carts)))
        self.history.carts.append(cart)
        self._put_ids.set(None)
        w, dw = self.chance.choice(self.habits.writes)
        try:
            await self._client.update(key, lambda value: join_carts([value or b"", cart.item]), resolve=join_carts, w=w, dw=dw,
                                      deadline_s=self.habits.deadline_s)  # fmt: skip
        except Siblings:
            raise AssertionError("update was given a function to resolve them") from None
        except DynamoError as error:
            cart.fate = Fate.NOT_APPLIED if isinstance(error, NotApplied) else Fate.UNKNOWN
        else:
            cart.fate = Fate.OK
