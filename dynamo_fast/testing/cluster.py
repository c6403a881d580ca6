"""A cluster in one process, in virtual time: real nodes and the real client, on machines and a network that do as they are told.

    async def scenario(cluster):
        async with cluster.connect() as db:
            await db.put("cart", b"book")
            await cluster.kill("b")
            assert (await db.get("cart")).value == b"book"

    dynamo_fast.testing.run(scenario, nodes=3, seed=1)

Nothing sleeps: hours pass as fast as there is something to do in them. The same seed gives the same run, to the last byte.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from dynamo_fast.client.client import Client, connect
from dynamo_fast.client.settings import Settings
from dynamo_fast.core.digest import key_position
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.machine import Machine, State
from dynamo_fast.testing.network import Network, Stream
from dynamo_fast.testing.private import deterministic
from dynamo_fast.testing.trace import Trace

T = TypeVar("T")
READY_S = 30.0  # a cluster whose machines are all well is ready by then
LOOK_S = 0.02


class Cluster:
    """The machines by name, `network`, `clock`. `settings` are of every node, by name with their section."""

    def __init__(self, nursery: trio.Nursery, clock: Clock, *, seed: int, nodes: int, partitions: int, settings: dict[str, Any]) -> None:
        self.nursery, self.clock, self.seed, self.partitions = nursery, clock, seed, partitions
        self.trace = Trace()
        self.chance = random.Random(f"{seed} cluster")
        self.network = Network(clock, self.trace, random.Random(f"{seed} network"))
        self.dots = DotRegistry()
        self.settings = {"cluster.partitions": partitions} | settings
        self.machines: dict[str, Machine] = {}
        self.totals: dict[str, int] = {}  # the counters of all data planes that there were, added up
        self.refused: list[tuple[str, BaseException]] = []  # processes that did not start or ended with an error
        names = [chr(ord("a") + number) for number in range(nodes)]
        bootstrap = [f"{name}:7400" for name in names]
        for name in names:
            self.machines[name] = Machine(self, name, {"node.bootstrap": bootstrap})

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def process_failed(self, machine: Machine, error: Exception) -> None:
        """A process ended with an error; the clean refusals of a start are for whoever looks in `refused`."""
        self.refused.append((machine.name, error))

    # Its life -------------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """All machines; returns when every one is ready for requests."""
        for machine in self.machines.values():
            machine.start()
        await self.until(self.ready, READY_S)

    def ready(self) -> bool:
        """Whether every process that runs knows its cluster and is connected to every other one."""
        up = [one for one in self.machines.values() if one.up]
        return all(one.node is not None and one.node.cluster.view is not None and len(one.node.peers.up) >= len(up) - 1 for one in up)

    async def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Virtual time passes until the condition holds; trio.TooSlowError when it does not in time."""
        with trio.fail_after(within_s):
            while not condition():  # noqa: ASYNC110  whatever the condition is about, time is what passes
                await trio.sleep(LOOK_S)

    @asynccontextmanager
    async def connect(self, *names: str, host: str = "client", **options: Any) -> AsyncIterator[Client]:
        """The real client, on a host of its own, with these machines as its seeds, or all; options as of `dynamo_fast.connect`."""
        chance = random.Random(f"{self.seed} {host} {self.network.dials}")

        async def dial(address: str, port: int) -> Stream:
            return Stream(await self.network.dial(f"{address}:{port}", host))

        known = {name: options.pop(name) for name in list(options) if name in Settings.__slots__}
        settings = Settings(dial=dial, random_bytes=chance.randbytes, **known)
        seeds = [self.machines[name].address for name in names or self.machines]
        async with connect(seeds, settings=settings, **options) as client:
            yield client

    # What can happen to it ------------------------------------------------------------------------------------------------------------

    async def kill(self, *names: str) -> None:
        """kill -9 of these nodes, now."""
        for name in names:
            await self.clock.moment(self.machines[name].kill)

    async def cut_power(self, *names: str, at_worst: bool = False) -> None:
        """These machines lose their power: what was not synced may be gone, at worst all of it, and nobody is told."""
        for name in names:
            await self.clock.moment(partial(self.machines[name].cut_power, at_worst=at_worst))

    async def restart(self, *names: str) -> None:
        """These nodes run again, on what their disks hold; a frozen one goes on."""
        for name in names:
            machine = self.machines[name]
            await self.clock.moment(machine.thaw if machine.state is State.FROZEN else machine.start)

    async def freeze(self, *names: str) -> None:
        """SIGSTOP to these nodes, until `restart`."""
        for name in names:
            await self.clock.moment(self.machines[name].freeze)

    def isolate(self, *names: str, from_: Iterable[str] | None = None) -> None:
        """No bytes between these machines and the others, or those named; clients still reach both."""
        for one in names:
            for two in self.machines if from_ is None else from_:
                if two not in names:
                    self.network.cut(one, two)

    async def heal(self) -> None:
        """All links are good, all disks have room, all nodes run; returns when they are connected."""
        await self.clock.moment(self.heal_now)
        await self.until(self.ready, READY_S)

    def heal_now(self) -> None:
        """The same for the clock's agenda: what is healed needs time to find out."""
        self.network.heal()
        for machine in self.machines.values():
            machine.die_in_pass = machine.fail_next_sync = None
            machine.empty_disk()
            machine.thaw()
            machine.start()

    # What it holds --------------------------------------------------------------------------------------------------------------------

    def homes(self, key: bytes, bucket: bytes = b"") -> list[Machine]:
        """The home replicas of a key, in order."""
        return self.homes_of_partitions()[self.placement().ring().partition(key, bucket)]

    def homes_of_partitions(self) -> list[list[Machine]]:
        """The same for every partition."""
        placement = self.placement()
        by_id = {one.node_id: one for one in self.machines.values()}
        ring = placement.ring()
        return [[by_id[placement.node_ids[index]] for index in ring.homes_of(partition)] for partition in range(self.partitions)]

    def placement(self) -> Placement:
        """The placement in force, as the first node that knows one knows it."""
        return next(one.node.cluster.placement for one in self.machines.values() if one.node and one.node.cluster.placement)

    def store_key(self, key: bytes, bucket: bytes = b"") -> bytes:
        view = next(one.node.cluster.view for one in self.machines.values() if one.node and one.node.cluster.view)
        return encode_store_key(view.mac_key, key_position(key, bucket), key, bucket)

    def copy(self, name: str, key: bytes, bucket: bytes = b"") -> Siblings | None:
        """What one machine holds of a key; None: nothing."""
        record = self.machines[name].engine.get(self.store_key(key, bucket))
        return None if record is None else Siblings(decode_record(record).packed)


def run(scenario: Callable[..., Awaitable[T]], *args: object, seed: int = 0, nodes: int = 3, partitions: int = 16, **settings: Any) -> T:
    """Starts a cluster in virtual time, runs `scenario(cluster, *args)` and returns what it returns, or raises what it raises.

    settings: of every node, with two underscores for the point: `requests__deadline_ms=500`.
    """
    clock = Clock()
    given = {name.replace("__", ".", 1): value for name, value in settings.items()}
    outcome: list[T] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(nursery, clock, seed=seed, nodes=nodes, partitions=partitions, settings=given)
            try:
                async with trio.open_nursery() as watched:
                    watched.start_soon(clock.wait_failure)
                    await cluster.start()
                    outcome.append(await scenario(cluster, *args))
                    watched.cancel_scope.cancel()
            finally:
                clock.close()
                for machine in cluster.machines.values():
                    machine.add_up()
                for machine in cluster.machines.values():
                    machine.finish()
                nursery.cancel_scope.cancel()

    with deterministic(seed):
        try:
            trio.run(main, clock=clock)
        except BaseExceptionGroup as group:
            raise only(group) from None
    return outcome[0]


def only(error: BaseException) -> BaseException:
    """What a group of one, of a group of one, and so on, holds."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
