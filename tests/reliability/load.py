"""What every load that requests are counted of has: it goes on until it is stopped, and others wait until so much of it is over."""

from __future__ import annotations

from collections import Counter

import trio


class Load:
    """`requests` have come to an end, `failures` of them badly, by what was wrong."""

    def __init__(self) -> None:
        self.requests = 0
        self.failures: Counter[str] = Counter()
        self.stopped = False
        self._ended = trio.lowlevel.ParkingLot()

    @property
    def failed(self) -> int:
        return self.failures.total()

    def note_ended(self, count: int) -> None:
        self.requests += count
        self._ended.unpark_all()

    async def more(self, requests: int) -> None:
        """Returns when so many more have come to an end; those that were in flight are among them."""
        wanted = self.requests + requests
        while self.requests < wanted:
            await self._ended.park()

    def stop(self) -> None:
        self.stopped = True
