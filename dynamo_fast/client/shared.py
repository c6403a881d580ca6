"""What all buckets of one client share: the nodes it knows, the way to them, and the ids of its puts."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from dynamo_fast import __version__
from dynamo_fast.client.attempts import Caller
from dynamo_fast.client.operations import Cluster
from dynamo_fast.client.pool import Pool
from dynamo_fast.client.routing import Router
from dynamo_fast.client.settings import Settings
from dynamo_fast.env import format_address, parse_address
from dynamo_fast.wire.control_messages import PlacementReply


class Shared:
    """Made once per client, in its nursery."""

    def __init__(self, nursery: trio.Nursery, seeds: Iterable[str], settings: Settings) -> None:
        self.settings = settings
        self.pool = Pool(nursery, settings, f"dynamo-fast-python/{__version__}")
        self.router = Router(self.pool, [format_address(parse_address(seed)) for seed in seeds])
        self.caller = Caller(self.router, settings)
        self.cluster = Cluster(self.router)
        self._id_prefix = settings.random_bytes(8)
        self._ids = 0

    def put_id(self) -> bytes:
        """16 bytes that no other put has: half chance, drawn once, half counted."""
        self._ids += 1
        return self._id_prefix + self._ids.to_bytes(8, "little")

    def value_bytes_max(self) -> int:
        """What the cluster takes, as far as known."""
        placement = self.router.placement
        return self.settings.value_bytes_max if placement is None else placement.limits.value_bytes_max

    async def placement(self) -> PlacementReply:
        return await self.cluster.placement()

    async def sweep(self) -> None:
        """Task: looks at all deadlines and all nodes every `sweep_s`."""
        while True:
            await trio.sleep(self.settings.sweep_s)
            self.pool.sweep()
