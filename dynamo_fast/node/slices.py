"""Work that is cut into slices, so that the data plane and the other tasks are never kept waiting for long."""

from __future__ import annotations

import trio

from dynamo_fast.env import Env

SLICE_S = 0.001  # of work, then others get a chance to run


class Slice:
    """Lets others run after every SLICE_S of work."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._began_s = env.now()

    async def over(self) -> None:
        if self._env.now() - self._began_s > SLICE_S:
            await trio.lowlevel.checkpoint()
            self._began_s = self._env.now()
