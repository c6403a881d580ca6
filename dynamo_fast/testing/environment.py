"""The seam to the world for one simulated process: time from the clock, chance from the seed, sockets from the network."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from dynamo_fast.env import Address, Env
from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.disk import VirtualDisk
from dynamo_fast.testing.network import End, Network
from dynamo_fast.testing.reactor import Listener

T = TypeVar("T")
OFFLOAD_S = 0.001  # work given to a thread takes this long in the mean, half of it before it is done, half after


class VirtualEnv(Env):
    """What the node on `host` may ask of the world; `wall_ms` is the machine's clock on the wall."""

    def __init__(
        self, clock: Clock, network: Network, host: str, disk: VirtualDisk, chance: random.Random, wall_ms: Callable[[], int],
        rarely: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.disk = disk
        self._rarely = rarely
        self._clock, self._network, self._host, self._chance, self._wall_ms = clock, network, host, chance, wall_ms

    def rarely(self, site: str) -> bool:
        return self._rarely(site)

    def now(self) -> float:
        return self._clock.now

    def wall_ms(self) -> int:
        return self._wall_ms()

    def random_bytes(self, n: int) -> bytes:
        return self._chance.randbytes(n)

    def random(self) -> float:
        return self._chance.random()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def resolve(self, host: str, port: int) -> list[Address]:
        await trio.lowlevel.checkpoint()
        if host.startswith("nowhere"):
            raise OSError(-2, "Name or service not known")
        return self._network.names.get(host, [(host, port)])

    async def dial(self, host: str, port: int) -> End:  # type: ignore[override]
        return await self._network.dial(f"{host}:{port}", self._host)

    def listen(self, host: str, port: int) -> Listener:  # type: ignore[override]
        return Listener(f"{host}:{port}")

    async def offload(self, function: Callable[..., T], *args: Any) -> T:
        await self._clock.sleep(self._chance.expovariate(1.0) * OFFLOAD_S / 2)
        result = function(*args)
        await self._clock.sleep(self._chance.expovariate(1.0) * OFFLOAD_S / 2)
        return result

    def machine_name(self) -> str:
        return self._host

    def process_statistics(self) -> dict[str, float]:
        return {"resident_bytes": 1}
