"""Virtual time, and the agenda of what happens in it that is no task's doing: bytes that arrive, syncs that finish, faults.

Whenever every task waits, trio asks its clock how long to sleep. This clock never sleeps: it performs what stands next on the agenda, or
jumps to trio's next timer, whichever is earlier. So a message from node to node costs a heap entry and a call, not a turn of the loop.

What an entry raises ends the simulation: it is kept in `failure`, `wait_failure` raises it, and nothing on the agenda happens any more.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import trio

from dynamo_fast.testing.agenda import Agenda, Stuck
from dynamo_fast.testing.private import runnable

SPINS_MAX = 1000


class Clock(Agenda, trio.abc.Clock):
    """The agenda, and what trio asks of a clock."""

    def __init__(self, events_max: int = 50_000_000) -> None:
        super().__init__(events_max)
        self.failure: Exception | None = None
        self._spins = 0
        self._failed = trio.Event()

    async def moment(self, happens: Callable[..., Any], *args: Any) -> Any:
        """Makes the call when no task is about to run, and returns what it returns or raises what it raises."""
        done = trio.Event()
        outcome: list[Any] = []

        def perform() -> None:
            try:
                outcome.append(happens(*args))
            except Exception as error:
                outcome.append(error)
            done.set()

        self.at(self.now, perform)
        await done.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    async def sleep(self, seconds: float) -> None:
        """As trio.sleep: an entry on the agenda in place of a scope with a deadline, which costs several times as much."""
        task, awake = trio.lowlevel.current_task(), False

        def wake() -> None:
            nonlocal awake
            if not awake:
                awake = True
                trio.lowlevel.reschedule(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal awake
            awake = True
            return trio.lowlevel.Abort.SUCCEEDED

        self.after(seconds, wake)
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def wait_failure(self) -> None:
        """Task: raises what an entry of the agenda has raised, once one has."""
        await self._failed.wait()
        assert self.failure is not None
        raise self.failure

    def fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            self._failed.set()

    def close(self) -> None:
        """The simulation is over: nothing on the agenda happens any more, and tasks may end."""
        self.fail(Stuck("the simulation is over"))

    # What trio asks ---------------------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Called when no task is about to run: performs the agenda until one is, or until trio's next timer is due."""
        agenda, queue = self._agenda, runnable()
        while not queue:
            if not agenda or agenda[0][0] > deadline or self.failure is not None:
                if not math.isinf(deadline):
                    self.now = max(self.now, deadline)
                elif self.failure is None:
                    self.fail(Stuck("every task waits, and nothing is left that could happen"))
                else:
                    self._spins += 1  # trio is ending, and wakes itself through a pipe
                    if self._spins > SPINS_MAX:
                        raise self.failure
                return 0
            self.now, _, happens, args = heapq.heappop(agenda)
            self.events += 1
            try:
                happens(*args)
            except Exception as error:
                self.fail(error)
            if self.events > self.events_max:
                self.fail(Stuck(f"{self.events} events in {self.now:.3f} s, and no end"))
        return 0
