"""The private names of trio that the simulator leans on, all of them in this file, each with a test (tests/testing/test_private.py).

Two things trio offers nobody in public: an order of tasks that depends on a seed alone, and tasks that stand still. A *life* is one
process of the simulated world: the tasks started in its context. While it is frozen none of them runs, whatever wakes it, and a life that
is never thawed is a process after `kill -9`: no `finally` of it runs, no `except` sees a cancellation, nothing it awaits comes back. What
cancelling a dead node would hide (a flush in a `finally`, a goodbye to peers) stays undone, as on a machine.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any

import trio
import trio._core._run as trio_run

LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
_put_back: Callable[..., None] = trio_run.Runner.reschedule


class Life:
    """The tasks of one process. Change `frozen` from the clock's agenda only, when no task is about to run."""

    def __init__(self) -> None:
        self.frozen = False
        self.context: Context = copy_context()
        self.context.run(LIFE.set, self)
        self._parked: list[tuple[trio.lowlevel.Task, Any]] = []  # woken meanwhile, and with what

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        """What woke the tasks meanwhile wakes them now."""
        self.frozen = False
        parked, self._parked = self._parked, []
        for task, next_send in parked:
            _put_back(task._runner, task, next_send)

    def park(self, task: trio.lowlevel.Task, next_send: Any) -> None:
        task._abort_func = None  # it is awake, and can only be cancelled at its next await
        task.custom_sleep_data = None
        self._parked.append((task, next_send))


def _reschedule(runner: Any, task: trio.lowlevel.Task, next_send: Any = trio_run._NO_SEND) -> None:
    life = task.context.get(LIFE)
    if life is None or not life.frozen:
        _put_back(runner, task, next_send)
    else:
        life.park(task, next_send)


def runnable() -> deque[trio.lowlevel.Task]:
    """The running loop's queue of tasks that are about to run; the same object for as long as the loop runs."""
    return trio_run.GLOBAL_RUN_CONTEXT.runner.runq


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Within, `trio.run` chooses among tasks by the seed alone, and lives can be frozen. One at a time in a process."""
    assert trio_run.Runner.reschedule is _put_back, "one simulation at a time"
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r = random.Random(seed)
    trio_run.Runner.reschedule = _reschedule  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r = before  # type: ignore[misc]
        trio_run.Runner.reschedule = _put_back  # type: ignore[method-assign]
