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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from dynamo_fast.client.client import Client, connect
from dynamo_fast.client.settings import Settings
from dynamo_fast.core.digest import key_position
from dynamo_fast.core.membership import Join, Leave, MemberChange, Replace, WeightChange, ZoneChange
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.node import Node
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.machine import Machine
from dynamo_fast.testing.members import connected, newest_placement, unsettled
from dynamo_fast.testing.network import Network, Stream
from dynamo_fast.testing.private import deterministic
from dynamo_fast.testing.rare import Rare
from dynamo_fast.testing.state import State
from dynamo_fast.testing.trace import Trace
from dynamo_fast.wire.membership_messages import ChangeReply, ChangeRequest

T = TypeVar("T")
READY_S = 30.0  # a cluster whose machines are all well is ready by then
SETTLED_S = 120.0  # and every change of its members is over by then
LOOK_S = 0.02


class Cluster:
    """The machines by name, `network`, `clock`. `settings` are of every node, by name with their section."""

    def __init__(self, nursery: trio.Nursery, clock: Clock, *, seed: int, nodes: int, partitions: int, settings: dict[str, Any]) -> None:
        self.nursery, self.clock, self.seed, self.partitions = nursery, clock, seed, partitions
        self.trace = Trace()
        self.chance = random.Random(f"{seed} cluster")
        self.network = Network(clock, self.trace, random.Random(f"{seed} network"))
        self.dots = DotRegistry()
        self.rare: Rare | None = None
        self.settings = {"cluster.partitions": partitions} | settings
        self.machines: dict[str, Machine] = {}
        self.totals: dict[str, int] = {}  # the counters of all data planes that there were, added up
        self.refused: list[tuple[str, BaseException]] = []  # processes that did not start or ended with an error
        self.on_node: Callable[[Machine, Node], None] = lambda machine, node: None  # called with the node of every process that begins
        self.on_removal: Callable[[Machine, bytes, bytes], None] | None = None  # sees the store key and record of what a machine removes
        names = [name_of(number) for number in range(nodes)]
        bootstrap = [f"{name}:7400" for name in names]
        for name in names:
            self._make(name, {"node.bootstrap": bootstrap})

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def _make(self, name: str, settings: dict[str, Any]) -> Machine:
        assert name not in self.machines, f"there is a machine {name} already"
        machine = self.machines[name] = Machine(self, name, settings)

        def removed(store_key: bytes, record: bytes) -> None:
            if self.on_removal is not None:
                self.on_removal(machine, store_key, record)

        machine.engine.on_removal = removed
        return machine

    def rarely(self, site: str) -> bool:
        """Whether a node of this cluster takes a rare branch on purpose: only where `rare` says so."""
        return self.rare is not None and self.rare.strike(site)

    def process_failed(self, machine: Machine, error: Exception) -> None:
        """A process ended with an error; the clean refusals of a start are for whoever looks in `refused`."""
        self.refused.append((machine.name, error))

    # Its life -------------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """All machines; returns when every one is ready for requests, raises what has ended one of them."""
        for machine in self.machines.values():
            machine.start()
        await self.until(self.ready, READY_S)
        for machine in self.machines.values():
            if machine.failure is not None:
                raise machine.failure

    def ready(self) -> bool:
        """Whether every process that runs knows its cluster, and all members among them are connected."""
        return connected(self.machines.values())

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

    # Who belongs to it ----------------------------------------------------------------------------------------------------------------

    def add_machine(self, name: str = "", *, zone: str = "", host: str = "", weight: int = 100) -> Machine:
        """A machine more, whose new node knows whom to ask for the cluster, and waits until somebody has it join."""
        name = name or next(name_of(number) for number in range(len(self.machines) + 1) if name_of(number) not in self.machines)
        seeds = [machine.address for machine in self.machines.values()]
        machine = self._make(name, {"node.seeds": seeds, "node.zone": zone, "node.host": host or name, "node.weight": weight})
        machine.start()
        return machine

    async def join(self, *names: str, through: str = "") -> ChangeReply:
        """These machines become members, in one step; `settled` returns when that is over."""
        await self._started(*names)
        return await self.change(*(Join(member=self[name].entry) for name in names), through=through)

    async def leave(self, *names: str, dead: bool = False, through: str = "", unsafe: bool = False) -> ChangeReply:
        """These members depart for ever, in one step. `dead`: nobody waits for them, and what they hold is given up."""
        await self._started(*names)
        return await self.change(*(Leave(node_id=self[name].entry.id, dead=dead) for name in names), through=through, unsafe=unsafe)

    async def replace(self, old: str, new: str, *, dead: bool = False, through: str = "", unsafe: bool = False) -> ChangeReply:
        """Another machine takes the places of a member, which departs for ever; `dead` as in `leave`."""
        await self._started(old, new)
        change = Replace(old=self[old].entry.id, member=self[new].entry, dead=dead)
        return await self.change(change, through=through, unsafe=unsafe)

    async def exchange(self, pairs: Sequence[tuple[str, str]], joining: Sequence[str] = (), *, through: str = "") -> ChangeReply:
        """In one step, the second of each pair takes the places of the first, and others become members."""
        await self._started(*(name for pair in pairs for name in pair), *joining)
        changes: list[MemberChange] = [Replace(old=self[old].entry.id, member=self[new].entry) for old, new in pairs]
        return await self.change(*changes, *(Join(member=self[name].entry) for name in joining), through=through)

    async def set_weight(self, name: str, weight: int, *, through: str = "") -> ChangeReply:
        """A member is to hold another share of the data."""
        return await self.change(WeightChange(node_id=self[name].entry.id, weight=weight), through=through)

    async def set_zone(self, name: str, zone: str, *, through: str = "") -> ChangeReply:
        """The machine of a member, with all members on it, is in that zone from now on."""
        return await self.change(ZoneChange(host=self[name].entry.host, zone=zone), through=through)

    async def _started(self, *names: str) -> None:
        """Returns when these machines have an id."""
        await self.until(lambda: all(self[name].node_id is not None for name in names), READY_S)

    async def change(self, *changes: MemberChange, through: str = "", unsafe: bool = False) -> ChangeReply:
        """Asks one member that runs for these changes, as an operator's command does; DynamoError when it refuses or does not answer."""
        taking = [one.name for one in self.machines.values() if one.node is not None and one.node.cluster.is_home]
        member = through or self.chance.choice(taking or list(self.machines))
        async with self.connect(member, host="operator", partition_aware=False) as client:
            reply = await client.cluster._any(ChangeRequest(changes=list(changes), unsafe=unsafe), ChangeReply, None)
        return reply

    async def settled(self, within_s: float = SETTLED_S) -> None:
        """Returns when no change of members is under way or waits, all members agree on the placement, and nobody is left that leaves."""
        await self.until(lambda: not unsettled(self.machines.values()), within_s)

    # What can happen to it ------------------------------------------------------------------------------------------------------------

    async def kill(self, *names: str) -> None:
        """kill -9 of these nodes, now."""
        for name in names:
            await self.clock.moment(self.machines[name].kill)

    async def cut_power(self, *names: str, at_worst: bool = False) -> None:
        """These machines lose their power: what was not synced may be gone, at worst all of it, and nobody is told."""
        for name in names:
            await self.clock.moment(partial(self.machines[name].cut_power, at_worst=at_worst))

    async def destroy(self, *names: str) -> None:
        """These machines are gone for good, with all that their disks held."""
        for name in names:
            await self.clock.moment(self.machines[name].destroy)

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
        """The placement by which reads go, as the node that has come furthest knows it."""
        found = newest_placement(self.machines.values())
        assert found is not None, "no process runs that knows a placement"
        return found

    def store_key(self, key: bytes, bucket: bytes = b"") -> bytes:
        view = next(one.node.cluster.view for one in self.machines.values() if one.node and one.node.cluster.view)
        return encode_store_key(view.mac_key, key_position(key, bucket), key, bucket)

    def copy(self, name: str, key: bytes, bucket: bytes = b"") -> Siblings | None:
        """What one machine holds of a key; None: nothing."""
        record = self.machines[name].engine.get(self.store_key(key, bucket))
        return None if record is None else Siblings(decode_record(record).packed)


def name_of(number: int) -> str:
    """Machines are called a to z, then aa, ab and so on."""
    return chr(ord("a") + number) if number < 26 else name_of(number // 26 - 1) + name_of(number % 26)


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
