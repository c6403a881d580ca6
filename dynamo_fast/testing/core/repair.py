"""What moves copies behind the requests, at moments that the seed draws: hints go home, and homes bring each other what they lack.

It decides as `node/handoff.py` and `node/exchange.py` do, and merges and settles by the data plane's own calls; without trio, and without
their pace. Objects are read at one moment, arrive at a later one, are on disk at a third, and only then is the sender told.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dynamo_fast.node.keys import partition_range
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import RecordParts, decode_record
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.planes import in_slots
from dynamo_fast.testing.user import Probes
from dynamo_fast.wire.status import Status

SCAN_MAX = 1 << 20


class Entry(NamedTuple):
    """One record as it goes to another node."""

    store_key: bytes
    parts: RecordParts


Told = Callable[[list[Entry], list[int]], None]  # what was sent, and how each fared: 0 is OK


class Repair:
    """`every_s`: between two things that it does, in the mean; 0: nothing until `everything`. `way_s`: what the way from one node to
    another takes, in the mean."""

    def __init__(self, world: World, guard: Guard, chance: random.Random, probes: Probes, every_s: float, way_s: float) -> None:
        self.world, self.guard, self.chance, self.probes, self.every_s, self.way_s = world, guard, chance, probes, every_s, way_s
        self.violations: list[Violation] = []
        self._partitions = world.partitions

    def begin(self, until_s: float) -> None:
        if self.every_s:
            self.world.clock.after(self.chance.expovariate(1.0) * self.every_s, self._now_and_then, until_s)

    def _now_and_then(self, until_s: float) -> None:
        world = self.world
        if world.clock.now >= until_s:
            return
        machine, other = self.chance.sample(world.by_number, 2)
        if self.chance.random() < 0.5:
            self.hints_home(machine)
        elif machine.up:
            if self.chance.random() < 0.1:
                machine.scrub()
            self.exchange(machine, other)
        self.begin(until_s)

    def everything(self) -> None:
        """All hints go home, and all homes compare."""
        for machine in self.world.living:
            self.hints_home(machine)
            for other in self.world.by_number[: machine.number]:
                self.exchange(machine, other)

    # Hints ----------------------------------------------------------------------------------------------------------------------------

    def foreign(self, machine: Machine) -> Iterator[tuple[int, Entry, int]]:
        """What a machine holds of partitions that it is no home of: the partition, the record, and for which slots it is kept."""
        placement, _ = self.world.hint_placement(machine.number)
        everyone = (1 << placement.replicas) - 1
        for partition in range(self._partitions):
            if machine.engine.holds(partition) and not self.world.is_home(machine.number, partition):
                for entry in self.held(machine, partition).values():
                    current = entry.parts.placement_number == placement.number & 0xFFFF
                    yield partition, entry, entry.parts.owed if current or not entry.parts.owed else everyone

    def hints_home(self, machine: Machine) -> None:
        """Every owner that can be reached is handed what is kept for it."""
        world = self.world
        if not machine.up:
            return
        placement, ring = world.hint_placement(machine.number)
        batches: dict[int, list[Entry]] = {}
        for partition, entry, owed in self.foreign(machine):
            for home in in_slots(ring, partition, owed):
                batches.setdefault(home, []).append(entry)
        for home, entries in batches.items():

            def settle(sent: list[Entry], results: list[int], home: int = home) -> None:
                confirmed = []
                for entry, status in zip(sent, results, strict=True):
                    if status == Status.OK:
                        slot = ring.homes_of(machine.engine.forest.place(entry.store_key[:16])[0]).index(home)
                        confirmed.append((entry.store_key, entry.parts.hash, 1 << slot))
                if world.hint_placement(machine.number)[0] is not placement:
                    self.probes.hit("hints confirmed in another placement", len(confirmed))
                before = [machine.engine.get(store_key) for store_key, _, _ in confirmed]
                try:
                    self.probes.hit("hints settled", machine.node.plane.settle_hints(confirmed, placement.number))
                except StorageError:
                    self.probes.hit("hints could not be settled")
                    return
                for (store_key, hash, slots), was in zip(confirmed, before, strict=True):
                    if world.hint_placement(machine.number)[0] is placement:
                        record = machine.engine.get(store_key)
                        self.violations += checkers.still_owed(machine.name, record, hash, slots, placement.number)
                    self._check_cleared(machine, store_key, was)

            self.push(machine, world.by_number[home], entries, settle)

    def _check_cleared(self, machine: Machine, store_key: bytes, before: bytes | None) -> None:
        """A keeper has noted what was confirmed: whomever it does not keep a hint for any more has it on disk."""
        after = machine.engine.get(store_key)
        if before is None or before == after:
            return
        placement, ring = self.world.hint_placement(machine.number)
        was, now = decode_record(before), None if after is None else decode_record(after)
        kept = was.owed if was.placement_number == placement.number & 0xFFFF else (1 << placement.replicas) - 1
        cleared = kept & ~(0 if now is None else now.owed)
        names = [self.world.names[home] for home in in_slots(ring, machine.engine.forest.place(store_key[:16])[0], cleared)]
        excused = self.guard.darkened | self.guard.destroyed
        held = {name: self.world.machines[name].packed_on_disk(store_key) for name in names if name not in excused}
        self.violations += checkers.hint_gone_early(was.key, was.packed, held)

    # Exchanges ------------------------------------------------------------------------------------------------------------------------

    def exchange(self, one: Machine, other: Machine) -> None:
        """Both bring each other what they lack of every partition that both are homes of."""
        ring = self.world.ring
        for partition in range(self._partitions):
            if {one.number, other.number} <= set(ring.homes_of(partition)):
                self._exchange(one, other, partition)

    def _exchange(self, one: Machine, other: Machine, partition: int) -> None:
        if not self.reaches(one, other):
            return
        doubted = False
        for machine in (one, other):
            machine.trust.suspect(machine.engine.suspects)
            doubted |= partition in machine.trust
        if not doubted and one.engine.forest.root(partition) == other.engine.forest.root(partition):
            return
        here, there = self.held(one, partition), self.held(other, partition)
        self._bring(one, other, partition, here, there)
        self._bring(other, one, partition, there, here)

    def held(self, machine: Machine, partition: int) -> dict[bytes, Entry]:
        found = machine.engine.scan(*partition_range(partition, self._partitions), SCAN_MAX)
        return {store_key: Entry(store_key, decode_record(record)) for store_key, record in found}

    def _bring(self, source: Machine, target: Machine, partition: int, here: dict[bytes, Entry], there: dict[bytes, Entry]) -> None:
        """What the target lacks goes there; when it has all of it on disk, it has one reason less to doubt itself."""
        lacking = [one for key, one in here.items() if key not in there or there[key].parts.hash != one.parts.hash]
        life = target.life

        def compared(sent: list[Entry], results: list[int]) -> None:
            others = self.world.ring.replicas - 1
            if target.life == life and not any(results) and target.trust.compared(partition, source.node.node_id, others):
                target.engine.forgive(partition)
                self.probes.hit("partitions trusted again")

        self.push(source, target, lacking, compared)

    # The way there --------------------------------------------------------------------------------------------------------------------

    def reaches(self, one: Machine, other: Machine) -> bool:
        linked = (one.number, other.number) in self.world.between and (other.number, one.number) in self.world.between
        network = self.world.network
        return one.up and other.up and linked and not network.link(one.name, other.name).cut and not network.link(other.name, one.name).cut

    def push(self, source: Machine, target: Machine, entries: list[Entry], told: Told) -> None:
        """`told` at the source once all is on the target's disk; never, if anything comes in between."""
        world, lives = self.world, (source.life, target.life)

        def alive() -> bool:
            return lives == (source.life, target.life) and self.reaches(source, target)

        def arrive() -> None:
            if not alive():
                return
            merged = [(entry.parts.bucket, entry.parts.key, entry.parts.packed) for entry in entries]
            world.look_at_the_clock()
            try:
                results = [status for status, _ in target.node.plane.merge_entries(merged)]
            except StorageError:
                self.probes.hit("merges refused by a disk")
                return
            self.probes.hit("entries merged", len(entries))
            target.when_durable(lambda: world.clock.after(self._delay_s(), tell, results))

        def tell(results: list[int]) -> None:
            if alive():
                told(entries, results)

        world.clock.after(self._delay_s(), arrive)

    def _delay_s(self) -> float:
        return self.chance.expovariate(1.0) * self.way_s
