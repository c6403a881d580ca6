"""A load that knows what every read must show: each key has one writer, who puts a counter and reads it back strictly.

With strict puts and gets and R+W>N a get that began after a put was acknowledged shows that counter, or a later one that was put. Anything
older is a stale read, and nothing at all of a key that was put is a wrong "not found". A put whose fate is unknown may show or not, and so
may any that came after the last one acknowledged. Requests count as failed after the client's own retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

import dynamo_fast
from dynamo_fast.client.errors import BatchFailed, DynamoError
from tests.reliability.load import Load

TASKS = 16
WINDOW = 25  # requests that a task has in flight at once
EXAMPLES_MAX = 5  # sentences that are kept
LOAD_S = 20.0  # for a window of puts before anybody counts
LOAD_WINDOW = 1000


class Counters(Load):
    """`keys` keys in the care of TASKS writers. `load` puts each once, `run` goes on until `stop`, `read_back` reads all."""

    def __init__(self, db: dynamo_fast.Client, keys: int, *, r: int, w: int, padding: int = 0) -> None:
        super().__init__()
        self.db, self.r, self.w = db, r, w
        self.lost = self.stale = 0  # gets that showed nothing, and gets that showed something too old
        self.examples: list[str] = []
        self._keys = [b"counter/%d" % number for number in range(keys)]
        self._put = [0] * keys  # the last counter that was put, whatever became of it
        self._acknowledged = [0] * keys
        self._padding = bytes(padding)

    @property
    def wrong(self) -> int:
        return self.lost + self.stale

    async def load(self) -> None:
        """The first counter of every key; whatever fails here fails the measurement."""
        for first in range(0, len(self._keys), LOAD_WINDOW):
            window = range(first, min(first + LOAD_WINDOW, len(self._keys)))
            items = [self._next(key) for key in window]
            await self.db.put_many(items, overwrite=True, w=self.w, strict=True, deadline_s=LOAD_S)
            for key in window:
                self._acknowledged[key] = self._put[key]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for task in range(TASKS):
                nursery.start_soon(self._one, range(task, len(self._keys), TASKS))

    async def _one(self, own: Sequence[int]) -> None:
        while not self.stopped:
            for first in range(0, len(own), WINDOW):
                if self.stopped:
                    return
                window = own[first : first + WINDOW]
                await self._puts(window)
                await self._gets(window)

    def _next(self, key: int) -> tuple[bytes, bytes]:
        self._put[key] += 1
        return self._keys[key], b"%s %d %s" % (self._keys[key], self._put[key], self._padding)

    async def _puts(self, window: Sequence[int]) -> None:
        outcomes = await outcomes_of(self.db.put_many([self._next(key) for key in window], overwrite=True, w=self.w, strict=True))
        for key, outcome in zip(window, outcomes, strict=True):
            if not self._note_failure("put", outcome):
                self._acknowledged[key] = self._put[key]
        self.note_ended(len(window))

    async def _gets(self, window: Sequence[int], deadline_s: float | None = None) -> None:
        gets = self.db.get_many([self._keys[key] for key in window], r=self.r, strict=True, deadline_s=deadline_s)
        for key, outcome in zip(window, await outcomes_of(gets), strict=True):
            if not self._note_failure("get", outcome):
                self._judge(key, outcome.values)
        self.note_ended(len(window))

    def _judge(self, key: int, values: Sequence[bytes]) -> None:
        """What a get that began after the last put of its key was over has shown; nobody else puts that key."""
        found = [value.split(b" ", 2) for value in values]
        assert all(name == self._keys[key] for name, _, _ in found), f"{self._keys[key]!r} shows what is another key's: {values}"
        last = max((int(counter) for _, counter, _ in found), default=0)
        assert last <= self._put[key], f"{self._keys[key]!r} shows {last}, and nobody put that yet"
        wanted = self._acknowledged[key]
        if wanted and last < wanted:
            self.lost += not found
            self.stale += bool(found)
            self._example(f"{self._keys[key].decode()}: {wanted} was acknowledged, a strict get saw {last if found else 'nothing'}")

    def _note_failure(self, operation: str, outcome: Any) -> bool:
        if not isinstance(outcome, DynamoError):
            return False
        self.failures[f"{operation}: {type(outcome).__name__}"] += 1
        self._example(f"{operation}: {outcome}")
        return True

    def _example(self, text: str) -> None:
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)

    async def read_back(self, db: dynamo_fast.Client) -> int:
        """Every key, strictly, through another client; how many keys were read and are as they must be."""
        self.db, before = db, self.wrong + self.failed
        for first in range(0, len(self._keys), LOAD_WINDOW):
            await self._gets(range(first, min(first + LOAD_WINDOW, len(self._keys))), LOAD_S)
        return len(self._keys) - (self.wrong + self.failed - before)

    def evidence(self) -> dict[str, Any]:
        return {"requests": self.requests, "not found": self.lost, "stale": self.stale, "failed": dict(self.failures),
                "examples": "; ".join(self.examples)}  # fmt: skip


async def outcomes_of(batch: Any) -> Sequence[Any]:
    """One for each request: its result, or its error."""
    try:
        return list(await batch)
    except BatchFailed as failed:
        return failed.outcomes
