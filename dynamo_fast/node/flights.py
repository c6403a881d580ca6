"""Objects that have left one node's engine and not yet arrived in another's: who must know that none is under way can wait for them.

A copy in somebody's memory, read before a key was deleted, would bring the deleted version back if it were merged after the tombstone
had been forgotten. So whatever carries objects about (`delivery.py`, `anti_entropy.py`) does it inside a `flight`, from before it
reads them until the other side has answered or the attempt is given up; `forgetting.py` waits with `landed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Flights:
    """The flights that are open on this node."""

    def __init__(self) -> None:
        self._open: set[trio.Event] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def flight(self) -> Iterator[None]:
        """Objects are read, carried and answered for in here; not longer than one batch."""
        end = trio.Event()
        self._open.add(end)
        try:
            yield
        finally:
            self._open.discard(end)
            end.set()

    async def landed(self) -> None:
        """Returns when every flight that is open now has ended."""
        for end in list(self._open):
            await end.wait()
