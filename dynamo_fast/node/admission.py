"""How much of the node background work may take: a feedback controller, as in the paper's section 6.5.

Handoff, anti-entropy and transfers do their work in steps of a few milliseconds, and ask for a slot before each. A slot is kept for
longer than its step took, so that background work as a whole gets `share` of the time. Once a second the controller compares the p99 of
the requests served meanwhile with what it is when no background work is done: above THRESHOLD times that it halves the share, below it
adds a little. The quiet figure is this node's own: every QUIET_EVERYth second background work rests, and the requests of that second show
it. A node without requests gives background work all it can use.

Both ends of a step obey: the answer to a batch says how much its receiver can spare, and the sender pauses for the sake of both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from dynamo_fast.core.histogram import Histogram
from dynamo_fast.env import Env

WINDOW_S = 1.0  # of requests that are judged together
REQUESTS_MIN = 50  # in a window; fewer have no p99 to speak of
THRESHOLD = 1.15  # times the quiet p99
SHARE_MIN, SHARE_FIRST, SHARE_MAX, SHARE_STEP = 0.02, 0.2, 0.5, 0.03  # of the time, while there are requests
SMOOTHING = 0.3  # weight of the newest window in either figure
QUIET_EVERY = 8  # windows
SLOTS = 2  # steps of background work at once: one that waits for a slow peer does not hold up all others
SLOTS_IDLE = 4  # while neither end has requests: the next steps wait for their peers while one is worked at
PAUSE_S_MAX = 1.0  # after a step: one that took long has waited for a peer, which kept nobody busy, and must not stop the others
Source = tuple[str, Histogram]


class Controller:
    """The decision alone: windows in, a share out. Pure."""

    def __init__(self) -> None:
        self.share = 1.0
        self.quiet_p99_us: float | None = None
        self.working_p99_us: float | None = None
        self._windows = 0

    @property
    def resting(self) -> bool:
        """Whether this window is one in which no background work is done, to see what requests take without it."""
        return self.share < 1.0 and self._windows % QUIET_EVERY == 0

    def window(self, requests: int, p99_us: float, worked: bool) -> None:
        """A window is over: how many requests it served and their p99; whether background work was done in it."""
        self._windows += 1
        if requests < REQUESTS_MIN:
            self.share = 1.0
            return
        if self.share == 1.0:
            # There are requests now. The next window shows what they take by themselves.
            self.share = SHARE_FIRST
            self._windows = 0
            self.working_p99_us = None
        if not worked:
            self.quiet_p99_us = smoothed(self.quiet_p99_us, p99_us)
            return
        self.working_p99_us = smoothed(self.working_p99_us, p99_us)
        if self.quiet_p99_us is None:
            return
        if self.working_p99_us > THRESHOLD * self.quiet_p99_us:
            self.share = max(self.share / 2, SHARE_MIN)
            # What it was with a larger share says nothing of the smaller one.
            self.working_p99_us = None
        else:
            self.share = min(self.share + SHARE_STEP, SHARE_MAX)


def smoothed(before: float | None, now: float) -> float:
    return now if before is None else before + SMOOTHING * (now - before)


class Window:
    """What a histogram that only grows has got since the last look."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def take(self, histogram: Histogram) -> tuple[int, float]:
        """How many values were added since the last call, and their p99."""
        buckets = dict(histogram.buckets())
        new = [(top, count - self._seen.get(top, 0)) for top, count in buckets.items()]
        self._seen = buckets
        total = sum(count for _, count in new)
        left = total - int(total * 0.99)
        for top, count in reversed(new):
            left -= count
            if left <= 0:
                return total, float(top)
        return 0, 0.0


class Slot:
    """One step of background work; `their_share` is what the node at the other end can spare."""

    their_share = 1.0


class Admission:
    """The slots of one node. `requests` gives the data plane's figures, with the histograms `put_us` and `get_us`."""

    def __init__(self, env: Env, requests: Any) -> None:
        self._env = env
        self._requests = requests
        self._controller = Controller()
        self._windows = {"put_us": Window(), "get_us": Window()}
        self._slots = trio.CapacityLimiter(SLOTS)
        self._turn = trio.Event()
        self._worked = False
        self.steps = 0
        self.paused_s = 0.0

    @property
    def share(self) -> float:
        """What this node can spare now, of the time of one loop: 1.0 when it has nothing else to do."""
        return SHARE_MIN if self._controller.resting else self._controller.share

    def note_work(self) -> None:
        """A step of background work was done at another node's wish."""
        self._worked = True

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """One step: waits for its turn, and after it for as long as keeps the share. Steps should take milliseconds."""
        async with self._slots:
            while self._controller.resting:
                await self._turn.wait()
            self._worked = True
            self.steps += 1
            slot = Slot()
            began_s = self._env.now()
            yield slot
            took_s = self._env.now() - began_s
            share = min(self._controller.share, slot.their_share)
            self._slots.total_tokens = SLOTS_IDLE if share == 1.0 else SLOTS
            pause_s = min(took_s * (1 / share - 1), PAUSE_S_MAX)
            self.paused_s += pause_s
            await self._env.sleep(pause_s)

    async def run(self) -> None:
        """Looks at the requests of every window until cancelled."""
        while True:
            await self._env.sleep(WINDOW_S)
            self.look()

    def look(self) -> None:
        """The end of a window."""
        figures: Mapping[str, Any] = self._requests()
        windows = [window.take(figures[name]) for name, window in self._windows.items() if name in figures]
        requests = sum(count for count, _ in windows)
        # Whichever kind was asked for most is the better measured.
        _, p99_us = max(windows, default=(0, 0.0))
        self._controller.window(requests, p99_us, self._worked)
        self._worked = False
        self._turn, turn = trio.Event(), self._turn
        turn.set()

    def statistics(self) -> dict[str, object]:
        """`share` of the time for background work, the p99 it is judged by, steps done and seconds paused after them."""
        controller = self._controller
        return {
            "share": controller.share,
            "quiet_p99_us": controller.quiet_p99_us,
            "working_p99_us": controller.working_p99_us,
            "steps": self.steps,
            "paused_s": round(self.paused_s, 3),
        }
