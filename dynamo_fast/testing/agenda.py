"""What happens in virtual time: one heap of calls, each at its moment, and nothing else that could decide what comes next.

Entries at the same moment happen in the order in which they were made. So a run is the same every time, whatever the process.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Stuck(Exception):
    """Nothing is left that could happen although somebody waits for it, or too much has happened; a real program would hang here."""


class Agenda:
    """Seconds since the simulation began. `events_max` bounds what may happen in one moment after another without an end."""

    def __init__(self, events_max: int = 50_000_000) -> None:
        self.now = 0.0
        self.events = 0  # entries performed
        self.events_max = events_max
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def at(self, when_s: float, happens: Callable[..., None], *args: Any) -> None:
        """Puts a call on the agenda; one for the past happens now, after what was put down for now before it."""
        heapq.heappush(self._agenda, (when_s if when_s > self.now else self.now, next(self._numbers), happens, args))

    def after(self, seconds: float, happens: Callable[..., None], *args: Any) -> None:
        self.at(self.now + seconds, happens, *args)

    def run(self, until_s: float) -> None:
        """Performs all that stands on the agenda up to that moment, which it is then. What an entry raises ends that."""
        agenda, pop = self._agenda, heapq.heappop
        while agenda and agenda[0][0] <= until_s:
            self.now, _, happens, args = pop(agenda)
            self.events += 1
            happens(*args)
            if self.events > self.events_max:
                raise Stuck(f"{self.events} events in {self.now:.3f} s, and no end")
        self.now = max(self.now, until_s)
