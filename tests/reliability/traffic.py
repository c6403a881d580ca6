"""Two kinds of load: requests of the trio client, each of which counts as answered or failed after the client's own retries; and the
generator behind `dynamo-fast bench`, for as much as the nodes can take, which knows no retries and so must not lose a connection."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

import dynamo_fast
from dynamo_fast.client.errors import BatchFailed, DynamoError
from dynamo_fast.env import Address
from dynamo_fast.load.draw import Draw
from dynamo_fast.load.generator import Generator
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import summary_of
from dynamo_fast.load.target import DynamoTarget
from dynamo_fast.load.workload import Workload
from tests.reliability.load import Load

if TYPE_CHECKING:
    from dynamo_fast.core.histogram import Summary
    from dynamo_fast.load.score import Score

TASKS = 16
WINDOW = 25  # requests that a task has in flight at once
KEYS_PER_TASK = 500


class Traffic(Load):
    """Tasks that put and get by turns, in windows, until `stop`. Puts replace what is there, so that no key gathers siblings."""

    def __init__(self, db: dynamo_fast.Client, *, r: int, w: int) -> None:
        super().__init__()
        self.db, self.r, self.w = db, r, w
        self.first_failure = ""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for task in range(TASKS):
                nursery.start_soon(self._one, task)

    async def _one(self, task: int) -> None:
        for start in itertools.cycle(range(0, KEYS_PER_TASK, WINDOW)):
            if self.stopped:
                return
            keys = [b"%d/%d" % (task, number) for number in range(start, start + WINDOW)]
            await self._window(self.db.put_many([(key, key * 10) for key in keys], overwrite=True, w=self.w))
            await self._window(self.db.get_many(keys, r=self.r))

    async def _window(self, requests: Any) -> None:
        try:
            await requests
        except BatchFailed as batch:
            self.failures.update(type(error).__name__ for error in batch.errors)
            self.first_failure = self.first_failure or str(batch.errors[0])
        except DynamoError as error:
            raise AssertionError("a batch tells of its requests one by one") from error
        self.note_ended(WINDOW)

    def evidence(self) -> dict[str, Any]:
        return {"requests": self.requests, "failed": dict(self.failures), "first failure": self.first_failure}


class _Enough(Exception):
    """Ends a run of the generator from its own report of progress."""


class Foreground:
    """`with Foreground(servers, keys) as load:` puts as fast as these servers answer, from a thread of its own, through them alone: each
    key through the first of them in its order. Afterwards `failures` says what was wrong with some, in sentences; nothing was tried again.
    """

    def __init__(self, servers: Sequence[Address], keys: int, *, rate_per_s: float = 0.0) -> None:
        self.failures: list[str] = []
        self.series: list[tuple[float, int]] = []  # (time.monotonic(), answered by then), ten times a second
        self.puts: Summary | None = None
        self._histograms: list[tuple[float, dict[int, int]]] = []  # of puts answered by then: how many took up to so many ns
        self._target = DynamoTarget(servers)
        self._keys = KeySpace(keys, 100, 100)
        self._workload = replace(Workload(seconds=86400.0), rate_per_s=rate_per_s, warmup_s=0.0)
        self._score: Score | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="foreground")

    def __enter__(self) -> Foreground:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()

    def rate_between(self, began: float, ended: float) -> float:
        """Requests answered per second between two moments of time.monotonic()."""
        inside = [(now, answered) for now, answered in self.series if began <= now <= ended]
        if len(inside) < 2:
            return 0.0
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def p99_between(self, began: float, ended: float) -> tuple[int, float]:
        """How many puts were answered between two moments of time.monotonic(), and the p99 of these in milliseconds."""
        inside = [histogram for now, histogram in self._histograms if began <= now <= ended]
        before, after = inside[0], inside[-1]
        added = [(top, count - before.get(top, 0)) for top, count in sorted(after.items())]
        total = sum(count for _, count in added)
        reached = itertools.accumulate(count for _, count in added)
        return total, next(top for (top, _), below in zip(added, reached, strict=True) if below >= 0.99 * total) / 1e6

    def _progress(self, answered: int) -> None:
        now = time.monotonic()
        self.series.append((now, answered))
        if self._score is not None:
            self._histograms.append((now, dict(self._score.puts.buckets())))
        if self._stopping:
            raise _Enough

    def _run(self) -> None:
        workload, connections = self._workload, self._target.connect(self._workload.connections)
        try:
            group_of = self._target.group_of(self._keys)
            draw = Draw(self._keys, workload.order, seed=workload.seed, group_of=group_of, groups=len(self._target.servers))
            generator = Generator(self._target.protocol, self._keys, draw, connections, rate_per_s=workload.rate_per_s)
            self._score = generator.score
            try:
                generator.run(seconds=workload.seconds, progress=self._progress)
            except _Enough:
                pass
            except Exception as error:  # whatever broke it is for whoever reads `failures`
                self.failures.append(f"{type(error).__name__}: {error}")
            score = generator.score
            self.puts = summary_of(score.puts)
            self.failures += [f"{count} requests failed ({self._target.status_names.get(status, status)}): {score.error_text}"
                              for status, count in score.statuses.items()]  # fmt: skip
        finally:
            for connection, _ in connections:
                connection.close()
