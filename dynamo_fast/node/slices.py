"""Work that is cut into slices, so that the data plane and the other tasks are never kept waiting for long.

A slice is as long as a request may be kept waiting without anybody feeling it; leaving the loop and coming back costs a tenth of that.
Whoever looks through many small things keeps one Slice for all of them: one for each would never be over.
"""

from __future__ import annotations

import trio

from dynamo_fast.env import Env

SLICE_S = 0.0004  # of work, then others get a chance to run


class Slice:
    """Lets others run after every SLICE_S of work."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._began_s = env.now()
        self._before_s = 0.0  # worked in slices that are over

    @property
    def worked_s(self) -> float:
        """So far, if whoever has the Slice has waited for nothing else meanwhile."""
        return self._before_s + self._env.now() - self._began_s

    async def over(self) -> None:
        if self._env.now() - self._began_s > SLICE_S:
            self._before_s = self.worked_s
            self._env.hurry()
            await trio.lowlevel.checkpoint()
            self._began_s = self._env.now()
