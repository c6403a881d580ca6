"""A change of members in the core tier: every node does its six steps in its own time (`core/change.py`), while requests go on.

A node tells of a step when its older requests are over, and what it tells survives it; the next step it does when all have told of the one
before. While it does SYNCED it takes over, from every home before, what they hold of the partitions that it gains. In the end whoever is no
home any more parts with its copies, once all homes have them on disk.
"""

from __future__ import annotations

import random
from functools import partial

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import ring_over
from dynamo_fast.core.succession import gains
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.repair import Entry, Repair
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.user import Probes
from dynamo_fast.wire.status import Status

STEP_S = 0.01  # between two looks of one node at what it may do next, in the mean


class Change:
    """From the world's old placement to its new one. `told`: by node, the last step that it has told of."""

    def __init__(self, world: World, repair: Repair, chance: random.Random, probes: Probes) -> None:
        self.world, self.repair, self.chance, self.probes = world, repair, chance, probes
        self._since_us = [0] * len(world.nodes)  # when each began to do what it does
        self._brought: list[set[tuple[int, int]]] = [set() for _ in world.nodes]  # partition and source, on disk here
        self._lives = [0] * len(world.nodes)
        self.over = False

    def begin(self, after_s: float) -> None:
        for number in range(len(self.world.nodes)):
            self._later(number, after_s)

    def _later(self, number: int, after_s: float = 0.0) -> None:
        self.world.clock.after(after_s + self.chance.expovariate(1.0) * STEP_S, self._go_on, number)

    def _go_on(self, number: int) -> None:
        world, machine = self.world, self.world.by_number[number]
        if self.over:
            return
        self._later(number)
        if not machine.up:
            return
        doing = world.steps[number]
        if world.told[number] < doing:
            oldest_us = machine.node.plane.oldest_request_us
            if (oldest_us == 0 or oldest_us > self._since_us[number]) and (doing != Step.SYNCED or self._bring(machine)):
                world.told[number] = doing
                if min(world.told) == Step.SETTLED:
                    self._settle()
        elif doing < Step.SETTLED and min(world.told) >= doing:
            world.look_at_the_clock()
            self._since_us[number] = world.now_us
            world.steps[number] = Step(doing + 1)
            world.introduce(machine.node)
            self.probes.hit(f"steps {Step(doing + 1).name} done")

    def _bring(self, machine: Machine) -> bool:
        """Whether all that this node gains is here, on disk; what is not is on its way."""
        world, number = self.world, machine.number
        assert world.new is not None
        if self._lives[number] != machine.life:
            self._lives[number] = machine.life
            self._brought[number].clear()
        wanted = {
            (partition, world.node_ids.index(source))
            for partition, sources in gains(world.old, world.new, world.node_ids[number]).items()
            for source in sources
        }
        for partition, source in sorted(wanted - self._brought[number]):
            origin = world.by_number[source]
            if not self.repair.reaches(origin, machine):
                continue
            entries = list(self.repair.held(origin, partition).values())
            self.repair.push(origin, machine, entries, partial(self._arrived, number, (partition, source)))
        return wanted <= self._brought[number]

    def _arrived(self, number: int, what: tuple[int, int], sent: list[Entry], results: list[int]) -> None:
        if not any(results):
            self._brought[number].add(what)

    def _settle(self) -> None:
        """Only the new placement is left."""
        world = self.world
        assert world.new is not None
        self.over = True
        world.settle(world.new, ring_over(world.new, world.node_ids))
        self.probes.hit("changes of members over")

    # Copies that are no longer anybody's own ----------------------------------------------------------------------------------------

    def part(self, machine: Machine) -> bool:
        """Whether it has nothing as its own that it is no home of; what it has goes to all homes, and is removed once they have it."""
        world, done = self.world, True
        kept = [entry.store_key for partition in range(world.partitions) if machine.number in world.ring.homes_of(partition)
                for entry in self.repair.held(machine, partition).values() if entry.parts.owed]  # fmt: skip
        if kept:
            self.probes.hit("hints owned", machine.node.plane.own_hints(kept))
        for partition, entry, owed in self.repair.foreign(machine):
            if owed:
                continue
            done = False
            confirmed: set[int] = set()
            homes = world.ring.homes_of(partition)
            for home in homes:
                self.repair.push(machine, world.by_number[home], [entry], partial(self._confirmed, machine, home, set(homes), confirmed))
        return done

    def _confirmed(self, machine: Machine, home: int, homes: set[int], confirmed: set[int], sent: list[Entry], results: list[int]) -> None:
        if results == [Status.OK]:
            confirmed.add(home)
        if confirmed == homes:
            try:
                machine.node.plane.remove_old_copies([(one.store_key, one.parts.hash) for one in sent])
            except StorageError:
                self.probes.hit("old copies that a disk keeps")
