"""Changes of members in the core tier, while requests go on: each node does the six steps of `core/change.py` in its own time.

A node looks at what it knows now and then (member.py decides), does what it finds is its turn, and tells of it when its older requests
are over. What any node knows, another one hears by gossip, later. While a node does SYNCED it takes over, from every home before, what
they hold of the partitions that it gains. Once there is only one placement left for it, whoever is no home any more parts with its copies,
when all homes have them on disk. Whoever learns that a member is dead ends its connections to it.
"""

from __future__ import annotations

import random
from functools import partial

from dynamo_fast.core.change import Step
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.succession import gains
from dynamo_fast.node.succession import needed_for
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.member import Member
from dynamo_fast.testing.core.repair import Entry, Repair
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.user import Probes
from dynamo_fast.wire.status import Status

IMPATIENT = 0.02  # of the looks at changes that somebody else was asked for
PATIENCE_S = 0.05
FEW = 0.1  # of the announcements take in one change of several


class Syncing:
    """What one node does while it does SYNCED. `brought`: partition and source, on disk here; `held`: what the sources held when it began,
    by source and partition."""

    def __init__(self, life: int, held: dict[tuple[int, int], dict[bytes, bytes]]) -> None:
        self.life, self.held = life, held
        self.brought: set[tuple[int, int]] = set()
        self.asked_s: dict[tuple[int, int], float] = {}  # by partition and source, when that was asked for what it holds


class Succession:
    """All nodes' part in it. `look_s`: between two looks of one node, and between two of its gossips, in the mean."""

    def __init__(self, world: World, repair: Repair, guard: Guard, chance: random.Random, probes: Probes, look_s: float) -> None:
        self.world, self.repair, self.guard, self.chance, self.probes, self.look_s = world, repair, guard, chance, probes, look_s
        self.patience_s = PATIENCE_S + 5 * repair.way_s  # until what has not come is asked for again
        self.violations: list[Violation] = []
        self._parting_s: dict[int, float] = {}  # by node, when it has offered its old copies last
        self._since_us = [0] * len(world.nodes)  # when each began to do what it does
        self._syncing: dict[int, Syncing] = {}
        self._awake: set[int] = set()
        world.on_members = self.wake

    def wake(self) -> None:
        """Something may be to be done: all nodes look, again and again, until there is nothing more to be seen."""
        for number in range(len(self.world.nodes)):
            if number not in self._awake:
                self._awake.add(number)
                self._later(number)

    def _later(self, number: int) -> None:
        self.world.clock.after(self.chance.expovariate(1.0) * self.look_s, self._go_on, number)

    def _go_on(self, number: int) -> None:
        machine = self.world.by_number[number]
        if machine.up:
            self._gossip(machine)
            busy = self._look(machine, self.world.members[number])
            if not busy and self.over():
                self._awake.discard(number)
                return
        if not machine.destroyed:
            self._later(number)

    def _gossip(self, machine: Machine) -> None:
        other = self.chance.choice(self.world.by_number)
        if other is not machine and self.repair.reaches(machine, other):
            one, two = self.world.members[machine.number], self.world.members[other.number]
            one.hear(two.known)
            two.hear(one.known)

    def _look(self, machine: Machine, member: Member) -> bool:
        """Whether it has something to do by itself."""
        world, number = self.world, machine.number
        for node_id in sorted(member.view.dead):
            world.expel(number, world.node_ids.index(node_id))
        works = member.look()
        if works != member.works:
            world.look_at_the_clock()
            self._since_us[number] = world.now_us
            member.work_by(works)
            world.work_by(number)
            self.probes.hit(f"steps {works.step.name} done")
            self._check_begun(machine, member)
            if works.step == Step.SYNCED:
                self._begin_to_sync(machine, member)
        due = member.due()
        if due is not None and (due[1] or self._done(machine, member)):
            member.tell(due[0])
        if member.announce(world.wall_ms, impatient=self.chance.random() < IMPATIENT, few=self.chance.random() < FEW):
            self.probes.hit("placements announced")
        return works.new is not None or not self.part(machine)

    def _check_begun(self, machine: Machine, member: Member) -> None:
        """Whoever looks at it from outside: all that it has to wait for have told of the step before, and nobody listens to the dead."""
        world, (old, new, step) = self.world, member.works
        if new is None or step < Step.DOUBLE or member.told_of(new) >= step:
            return
        dead, needed = member.view.dead, needed_for(old, new, member.view)
        told, listening = {}, {}
        for other in world.living:
            its = world.members[other.number]
            if other is machine or its.works.old.number >= new.number or its.node_id not in needed:
                continue
            if other.name not in self.guard.destroyed:
                told[other.name] = its.told_of(new)
                listening[other.name] = [world.names[number] for one in sorted(dead) if (other.number, number := world.node_ids.index(one))
                                         in world.between]  # fmt: skip
        self.violations += checkers.hasty(machine.name, step, told, listening)

    def _done(self, machine: Machine, member: Member) -> bool:
        """Whether all is done that its step asks for."""
        if member.works.step == Step.SYNCED:
            return self._bring(machine, member)
        oldest_us = machine.node.plane.oldest_request_us
        return oldest_us == 0 or oldest_us > self._since_us[machine.number]

    def since_us(self, number: int) -> int:
        """When that node began to work by what it works by."""
        return self._since_us[number]

    def over(self) -> bool:
        """Whether all that live work by one placement, which has taken in every change."""
        members = [self.world.members[one.number] for one in self.world.living]
        one_placement = len({member.works.old.digest for member in members}) == 1 and all(member.works.new is None for member in members)
        return one_placement and len({member.known.history.digest for member in members}) == 1 and not members[0].untaken()

    # SYNCED -------------------------------------------------------------------------------------------------------------------------

    def _begin_to_sync(self, machine: Machine, member: Member) -> None:
        """What it keeps for others where it becomes a home is its own from now on. And whoever looks at it from outside writes down what
        it has to have in the end: what every home before holds now, unless its disk has lost something or nobody waits for it."""
        world, (old, new, _) = self.world, member.works
        assert new is not None
        self._syncing.pop(machine.number, None)
        ring, after = world.ring_of(old), world.ring_of(new)
        held: dict[tuple[int, int], dict[bytes, bytes]] = {}
        for partition in range(world.partitions):
            were, are = ring.homes_of(partition), after.homes_of(partition)
            if machine.number not in are or (machine.number in were and len(are) >= len(were)):
                continue
            kept = [entry.store_key for entry in self.repair.held(machine, partition).values() if entry.parts.owed]
            try:
                self.probes.hit("hints owned", machine.node.plane.own_hints(kept) if kept else 0)
            except StorageError:
                return  # and begins again when it looks again
            for source in were:
                if source != machine.number and (machine.number not in were or source not in are):
                    entries = self.repair.held(world.by_number[source], partition)
                    held[source, partition] = {key: one.parts.packed for key, one in entries.items() if not one.parts.owed}
        self._syncing[machine.number] = Syncing(machine.life, held)

    def _bring(self, machine: Machine, member: Member) -> bool:
        """Whether all that this node gains is here, on disk; what is not is on its way."""
        world, number, (old, new, _) = self.world, machine.number, member.works
        assert new is not None
        if number not in self._syncing or self._syncing[number].life != machine.life:
            self._begin_to_sync(machine, member)
        if number not in self._syncing:
            return False
        syncing, dead = self._syncing[number], member.view.dead
        wanted = {
            (partition, world.node_ids.index(source))
            for partition, sources in gains(old, new, world.node_ids[number]).items()
            for source in sources
            if source not in dead
        }
        left = wanted - syncing.brought
        for partition, source in sorted(left):
            origin = world.by_number[source]
            patient = world.clock.now < syncing.asked_s.get((partition, source), -self.patience_s) + self.patience_s
            if not patient and self.repair.reaches(origin, machine):
                syncing.asked_s[partition, source] = world.clock.now
                entries = list(self.repair.held(origin, partition).values())
                self.repair.push(origin, machine, entries, partial(self._arrived, syncing, (partition, source)))
        if not left:
            self._check_brought(machine, syncing, {world.node_ids.index(node_id) for node_id in dead})
        return not left

    def _arrived(self, syncing: Syncing, what: tuple[int, int], sent: list[Entry], results: list[int]) -> None:
        if not any(results):
            syncing.brought.add(what)

    def _check_brought(self, machine: Machine, syncing: Syncing, dead: set[int]) -> None:
        world = self.world
        excused = self.guard.darkened | self.guard.destroyed
        if machine.name in excused:
            return
        self.probes.hit("partitions brought", len(syncing.held))
        for (source, _), held in syncing.held.items():
            if source not in dead and world.names[source] not in excused:
                has = {store_key: machine.packed_on_disk(store_key) for store_key in held}
                self.violations += checkers.brought_short(machine.name, world.names[source], held, has)

    # Copies that are no longer anybody's own ----------------------------------------------------------------------------------------

    def part(self, machine: Machine) -> bool:
        """Whether it has nothing as its own that it is no home of; what it has goes to all homes, and is removed once they have it."""
        world, done = self.world, True
        placement = world.members[machine.number].works.old
        patient = world.clock.now < self._parting_s.get(machine.number, -self.patience_s) + self.patience_s
        for partition, entry, owed in self.repair.foreign(machine):
            if owed:
                continue
            done = False
            if patient:
                break
            self._parting_s[machine.number] = world.clock.now
            confirmed: set[int] = set()
            homes = world.ring_of(placement).homes_of(partition)
            told = partial(self._confirmed, machine, placement, set(homes), confirmed)
            for home in homes:
                self.repair.push(machine, world.by_number[home], [entry], partial(told, home))
        return done

    def _confirmed(self, machine: Machine, placement: Placement, homes: set[int], confirmed: set[int], home: int, sent: list[Entry],
                   results: list[int]) -> None:  # fmt: skip
        if results == [Status.OK]:
            confirmed.add(home)
        works = self.world.members[machine.number].works
        if confirmed == homes and works.new is None and works.old is placement:
            try:
                machine.node.plane.remove_old_copies([(one.store_key, one.parts.hash) for one in sent])
            except StorageError:
                self.probes.hit("old copies that a disk keeps")
