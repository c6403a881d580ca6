"""How much of the node background work may take: a feedback controller, as in the paper's section 6.5.

Handoff, anti-entropy and transfers do their work in steps of a few milliseconds at most. A step takes time of the loops at both ends, and
each node keeps account of what it has worked at steps, those it began and those it answered: after so much work it wants to be left alone
for so long that background work as a whole gets `share` of its time. Only work counts. What a step waits for, a peer or a disk, keeps
nobody busy.

Once a second the controller compares the p99 of the requests served meanwhile with what it is when no background work is done: above
THRESHOLD times that it halves the share, below it adds a little. The quiet figure is this node's own: every QUIET_EVERYth second
background work rests, and the requests of that second show it. A node without requests gives background work all it can use.

Both ends of a step are obeyed: a step waits for the turn of the node that begins it, and for that of its peer, whose answers say for how
long it wants to be left alone. Steps towards other peers go on meanwhile.
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
STEP_S = 0.0003  # of work that a step takes from either end besides what is measured: a message, and the tasks that pass it on
PAUSE_S_MAX = 1.0  # from now on, however much was worked: nobody is to wait for long because of one stall


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
    """One step of background work: what it has taken of this node's time, as far as that was measured, and for how long the peer wants
    to be left alone after it."""

    worked_s = 0.0
    pause_us = 0


class Admission:
    """The slots of one node. `requests` gives the data plane's figures, with the histograms `put_us` and `get_us`."""

    def __init__(self, env: Env, requests: Any) -> None:
        self._env = env
        self._requests = requests
        self._controller = Controller()
        self._windows = {"put_us": Window(), "get_us": Window()}
        self._slots = trio.CapacityLimiter(SLOTS)
        self._free_s = 0.0  # when the next step may begin, as far as this node is concerned
        self._peers_free_s: dict[bytes | None, float] = {}  # the same of members, by id
        self._window_ends_s = env.now() + WINDOW_S
        self._worked = False  # in this window
        self.steps = 0
        self.worked_s = 0.0
        self.paused_s = 0.0

    @property
    def share(self) -> float:
        """Of the time of its loop that this node has for background work: 1.0 when it has nothing else to do."""
        return self._controller.share

    @asynccontextmanager
    async def slot(self, peer: bytes | None) -> AsyncIterator[Slot]:
        """One step with a peer: waits until both may begin. Steps should take milliseconds."""
        slot = Slot()
        while True:
            while (pause_s := self._pause_s(peer)) > 0.0:
                self.paused_s += pause_s
                await self._env.sleep(pause_s)
            async with self._slots:
                if self._pause_s(peer) > 0.0:
                    continue  # others have worked while this one waited for a slot
                self.steps += 1
                try:
                    yield slot
                finally:
                    self.charge(STEP_S + slot.worked_s)
                    free_s = self._env.now() + slot.pause_us / 1e6
                    self._peers_free_s[peer] = max(self._peers_free_s.get(peer, 0.0), free_s)
                    self._slots.total_tokens = SLOTS_IDLE if self.share == 1.0 and slot.pause_us == 0 else SLOTS
                return

    def answered(self, worked_s: float = 0.0) -> int:
        """A step that a peer began has been answered, and took so much: for how many us this node wants to be left alone."""
        self.charge(STEP_S + worked_s)
        return int(1e6 * self._own_pause_s())

    def charge(self, worked_s: float) -> None:
        """Background work was done here, in a step or between two, and is made up for by as long a pause as the share asks for."""
        # A peer may not know that this window is a quiet one, and learns it from the answer: one step of each peer is not felt in a second.
        self._worked = self._worked or not self._controller.resting
        self.worked_s += worked_s
        if self.share == 1.0:
            return
        now_s = self._env.now()
        # What was left of a pause does not pass while there is work.
        free_s = max(self._free_s + worked_s, now_s) + worked_s * (1 / self.share - 1)
        self._free_s = min(free_s, now_s + PAUSE_S_MAX)

    def _own_pause_s(self) -> float:
        free_s = max(self._free_s, self._window_ends_s) if self._controller.resting else self._free_s
        return min(max(0.0, free_s - self._env.now()), PAUSE_S_MAX)

    def _pause_s(self, peer: bytes | None) -> float:
        return max(self._own_pause_s(), self._peers_free_s.get(peer, 0.0) - self._env.now())

    async def run(self) -> None:
        """Looks at the requests of every window until cancelled."""
        while True:
            self._window_ends_s = self._env.now() + WINDOW_S
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
        if self.share == 1.0:
            self._free_s = 0.0

    def statistics(self) -> dict[str, object]:
        """`share` of the time for background work, the p99 it is judged by, steps begun here, seconds worked at steps at either end, and
        waited before those begun here."""
        controller = self._controller
        return {
            "share": controller.share,
            "quiet_p99_us": controller.quiet_p99_us,
            "working_p99_us": controller.working_p99_us,
            "steps": self.steps,
            "worked_s": round(self.worked_s, 3),
            "paused_s": round(self.paused_s, 3),
        }
