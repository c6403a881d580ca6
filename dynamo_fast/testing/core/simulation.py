"""One seed of the core tier: data planes, users, mischief, healing, and every promise that requests alone can break.

Copies are counted at the moment a put is acknowledged; everything else is judged, as in the other tier, once all is healed, hints are home
and the homes have compared.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from functools import partial

from dynamo_fast.core.change import Step
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.config import RequestsSection
from dynamo_fast.node.placements import roster_of
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.testing import checkers
from dynamo_fast.testing.agenda import Stuck
from dynamo_fast.testing.changes import PEACEFUL
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.core.change import Succession
from dynamo_fast.testing.core.clients import GRACE_S, Client
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.operator import Operator
from dynamo_fast.testing.core.repair import Repair
from dynamo_fast.testing.core.swarm import CoreMix
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.faults import Faults
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.history import Fate, History, Read, Write
from dynamo_fast.testing.judgement import applied_twice, judge
from dynamo_fast.testing.planes import START_US, in_slots
from dynamo_fast.testing.user import Probes, key_of
from dynamo_fast.testing.verdict import Verdict
from dynamo_fast.wire.errors import ProtocolError

N = 3
EVENTS_MAX = 3_000_000
RECOVERY_S = 30.0
LOOK_S = 0.2
FINDING_OUT = 4  # gets that want something of a suspect are enough to find out that it is well
COUNTED = 3  # of as many users, one has the copies of its acknowledged puts counted


class Simulation:
    """The parts of one run."""

    def __init__(self, mix: CoreMix) -> None:
        self.mix = mix
        self.history, self.probes = History(), Probes()
        hosts = [f"host{number // 2 if mix.shared_hosts else number}" for number in range(mix.nodes)]
        requests = RequestsSection(dw=0, suspect_ms=mix.suspect_ms, silence_ms_max=20 * mix.suspect_ms)
        self.world = World(mix.seed, mix.nodes, pass_s=mix.pass_s, partitions=mix.partitions, replicas=N, hosts=hosts, requests=requests,
                           ask_all_every=mix.ask_all_every, before=range(mix.members or mix.nodes))  # fmt: skip
        self.world.clock.events_max = EVENTS_MAX
        self.guard = Guard((max(w, dw), dw) for w, dw in mix.habits.writes)
        self.operator = Operator(self.world, self.guard, random.Random(f"{mix.seed} operator"), self.probes, mix.least)
        chance = random.Random(f"{mix.seed} faults")
        self.faults = Faults(self.world, self.guard, chance, mix.kinds, mix.fault_every_s, mix.fault_lasts_s, self.operator)
        self.repair = Repair(self.world, self.guard, random.Random(f"{mix.seed} repair"), self.probes, mix.repair_every_s, mix.way_s)
        chance = random.Random(f"{mix.seed} succession")
        self.succession = Succession(self.world, self.repair, self.guard, chance, self.probes, mix.look_s) if mix.members else None
        self.violations: list[Violation] = []
        self.repair.violations = self.violations
        for machine in self.world.by_number:
            machine.engine.on_removal = partial(self._removed, machine)
        self.history.last_write_wins.update(map(key_of, range(mix.habits.last_write_wins)))
        self.clients = [
            self._client(f"actor{number}", f"client{number % mix.clients}", number % COUNTED == 0) for number in range(mix.actors)
        ]

    def _client(self, name: str, host: str, counted: bool = False) -> Client:
        mix = self.mix
        chance = random.Random(f"{mix.seed} {name}")
        return Client(self.world, name, host, self.history, mix.habits, self.probes, chance, twice=mix.twice, shared_ids=mix.shared_ids,
                      watcher=self if counted else None)  # fmt: skip

    def run(self) -> None:
        world, mix = self.world, self.mix
        self._until(world.linked, "not all nodes are connected at first")
        if self.succession is not None:
            self.succession.violations = self.violations
            self.succession.wake()
        for _ in range(mix.rounds):
            end_s = world.clock.now + mix.round_s
            self.faults.begin()
            self.repair.begin(end_s)
            for client in self.clients:
                client.work(end_s)
            world.clock.run(end_s)
            self.faults.heal()
            self._until(lambda: all(client.idle for client in self.clients), "users wait for answers")
            self._come_to_rest()
            self._judge()
            if self.violations:
                return
            self.guard.healed()

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Time passes until that is so."""
        clock = self.world.clock
        end_s = clock.now + RECOVERY_S
        while not condition():
            if clock.now > end_s:
                self.violations.append(Violation("recovery", b"", f"after {RECOVERY_S:g} s without faults {otherwise}"))
                return
            clock.run(clock.now + LOOK_S)

    # Copies at the moment of an answer ----------------------------------------------------------------------------------------------

    def holding(self, read: Read) -> dict[str, int]:
        """The homes that hold a key, in any placement that anybody works by: the name, and which of its processes does."""
        world = self.world
        if len(world.nodes) == N:
            return {}  # nobody is there to stand in
        bucket = world.bucket_of(read.key, self.history.last_write_wins)
        partition, store_key = world.ring.partition(read.key, bucket), world.store_key(read.key, bucket)
        homes = [machine for machine in world.living if world.is_home(machine.number, partition)]
        return {one.name: one.life if one.engine.get(store_key) is not None else 0 for one in homes}

    def found_nothing(self, read: Read, held: dict[str, int]) -> None:
        """A node says that there is nothing; `held`: who held it when the question was asked."""
        now = self.holding(read)
        if not now:
            return
        self.probes.hit("gets of nothing at all")
        self.violations += checkers.nothing_said(read, {name: 0 < life == held.get(name) for name, life in now.items()})

    def answered(self, write: Write, number: int) -> None:
        """A node says OK to a put: as many machines hold it as it asked for, as many have it on disk; homes alone, if it is strict. Between
        two placements that is so in each of them. Two nodes of one host count once while there is another host to ask, and before the
        first fault there is."""
        world, key = self.world, write.key
        bucket = world.bucket_of(key, self.history.last_write_wins)
        store_key = world.store_key(key, bucket)
        dots = [dot for dot, _ in self._dots_of(write)]
        groups = self._homes_asked(write, number, world.ring.partition(key, bucket))
        enough_hosts = all(len({world.hosts[home] for home in homes}) >= write.w for homes in groups)
        places = world.hosts if enough_hosts and not self.faults.counts and self.succession is None else world.names
        excused = self.guard.darkened | self.guard.destroyed
        held: list[set[int]] = [set(), set()]  # the numbers of the machines that would have it after a kill, and after a loss of power
        for machine in world.by_number:
            for holders, find in zip(held, (machine.engine.in_log, machine.engine.on_disk), strict=True):
                if machine.name in excused or holds(find(store_key), dots):
                    holders.add(machine.number)
        self.probes.hit("acknowledged puts counted")
        if len(groups) > 1:
            self.probes.hit("acknowledged puts counted between placements")
        everyone = frozenset(range(len(world.names)))
        for homes in groups:
            counted = homes if write.strict else everyone
            copies, on_disk = (len({places[one] for one in holders & counted}) for holders in held)
            self.violations += checkers.copies_missing(write, copies, on_disk, len(homes))

    def _homes_asked(self, write: Write, number: int, partition: int) -> list[frozenset[int]]:
        """Of each placement by which a put went, the homes. Who coordinated it may be another node than the one that answers it, or may
        have gone a step further since: then of the one by which reads go alone, and any copies count."""
        world, succession = self.world, self.succession
        if succession is None:
            return [frozenset(world.ring.homes_of(partition))]
        old, new, step = world.works_by(number)
        placements = [old] if new is None or step < Step.DOUBLE else [old, new] if step < Step.SINGLE else [new]
        groups = [frozenset(world.ring_of(placement).homes_of(partition)) for placement in placements]
        if not any(number in homes for homes in groups) or succession.since_us(number) > START_US + int(write.began_s * 1e6):
            groups = [frozenset(range(len(world.names)))]
        return groups

    def _removed(self, machine: Machine, store_key: bytes, record: bytes) -> None:
        """A hint may go when its owners have it on disk, what had been a home's copy when W of the homes have it there."""
        world, parts = self.world, decode_record(record)
        partition = machine.engine.forest.place(store_key[:16])[0]
        if machine.destroyed:
            return
        placement, ring = world.hint_placement(machine.number)
        homes = list(ring.homes_of(partition))
        if parts.owed and parts.placement_number == placement.number & 0xFFFF:
            homes = in_slots(ring, partition, parts.owed)
        excused = self.guard.darkened | self.guard.destroyed
        held: dict[str, bytes | None] = {}
        for name in (world.names[home] for home in homes):
            on_disk = world.machines[name].engine.on_disk(store_key)
            if name not in excused:
                held[name] = None if on_disk is None else decode_record(on_disk).packed
        if parts.owed:
            self.violations += checkers.hint_gone_early(parts.key, parts.packed, held)
            self.probes.hit("hints removed")
        else:
            copies = min(world.requests.w, len(homes)) - (len(homes) - len(held))
            self.violations += checkers.copy_gone_early(parts.key, parts.packed, held, copies)
            self.probes.hit("copies parted with")

    # Rest ---------------------------------------------------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Everybody is connected, nothing is owed, and the homes agree; then all keys are read."""
        world, clock = self.world, self.world.clock
        self._until(self.operator.bury_all, "not all that are lost are known to be dead")
        # Faults have stopped when the last that bad weather held back has arrived; what that began is over after a deadline.
        clock.run(max(clock.now, world.network.latest_s))
        self._until(lambda: world.quiet(self.mix.habits.deadline_s + GRACE_S), "not all nodes are connected, or they never fall silent")
        if self.succession is not None:
            self._until(self.succession.over, "the changes of members have not come to an end")
            self.violations += self._misplaced()
        for machine in world.living:
            machine.scrub()
        self._until(self._rested, "the homes differ, or hints are left")
        judge_ = self._client(f"judge at {clock.now:.6f} s", "judge")
        for key in self.history.keys_written():
            # A record that has rotted, and was nowhere else, stays unreadable until somebody writes the key.
            store_key = world.store_key(key, world.bucket_of(key, self.history.last_write_wins))
            rotten = sum(store_key in machine.engine.rotten for machine in world.living)
            read = self.history.read(judge_.name, key, r=max(1, world.placement.replicas - rotten), strict=True, now_s=clock.now)
            judge_.get(read)
            clock.run(read.began_s + self.mix.habits.deadline_s + 2 * GRACE_S)
            if read.fate is not Fate.OK:
                self.violations.append(Violation("recovery", key, f"after healing {key!r} cannot be read with R={read.r}"))
        self._find_out_suspects(judge_)
        for machine in world.by_number:
            machine.engine.finish_syncs()

    def _misplaced(self) -> list[Violation]:
        """Every partition has its N homes, which are members, as far apart as they can be and by their weights."""
        world = self.world
        views = [world.members[machine.number].view for machine in world.living]
        departed = {world.names[world.node_ids.index(node_id)] for view in views for node_id in view.departed}
        one = world.members[world.living[0].number]
        roster = roster_of(one.view, one.lineage().chain, one.known.history)
        members = {world.names[world.node_ids.index(node_id)]: entry for node_id, entry in roster.members.items()}
        homes = [[world.names[home] for home in world.ring.homes_of(partition)] for partition in range(world.partitions)]
        return checkers.wrong_homes(homes, members, departed, N) + checkers.placed(homes, members, N)

    def _find_out_suspects(self, judge_: Client) -> None:
        """Whoever is suspected, and is well, is found out to be well by those who want something of it."""
        world, clock = self.world, self.world.clock
        for machine in world.living:
            for other in world.living:
                keys = [key for key in self.history.keys_written() if {machine.number, other.number} <= set(self._homes(key))]
                for _ in range(FINDING_OUT):
                    if not keys or not machine.node.suspects(other.node):
                        break
                    read = self.history.read(judge_.name, keys[0], r=world.placement.replicas, now_s=clock.now)
                    judge_.get(read, at=machine.number)
                    clock.run(clock.now + self.mix.habits.deadline_s + 2 * GRACE_S)
                    self.probes.hit("suspects looked at")
                else:
                    self.violations.append(Violation("recovery", b"", f"{machine.name} goes on suspecting {other.name}, which is well"))

    def _homes(self, key: bytes) -> tuple[int, ...]:
        return self.world.homes(key, self.world.bucket_of(key, self.history.last_write_wins))

    def _rested(self) -> bool:
        """Whether all is in its place; what is not is on its way there."""
        living = self.world.living
        parted = [self.succession is None or self.succession.part(machine) for machine in living]
        done = all(parted) and not any(self._in_doubt(one) or self._strays(one) for one in living) and not self._diverged()
        if not done:
            self.repair.everything()
        return done

    def _in_doubt(self, machine: Machine) -> bool:
        """Whether it is a home of something that it may have lost."""
        return any(machine.number in self.world.ring.homes_of(partition) for partition in machine.engine.suspects)

    def _strays(self, machine: Machine) -> bool:
        return next(self.repair.foreign(machine), None) is not None

    def _diverged(self) -> list[int]:
        """The partitions whose homes have different trees."""
        forests = [machine.engine.forest for machine in self.world.by_number]
        ring = self.world.ring
        return [one for one in range(self.mix.partitions) if len({forests[home].root(one) for home in ring.homes_of(one)}) > 1]

    # Judgement ----------------------------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        world, history = self.world, self.history
        copies = {key: self._copies(key) for key in history.keys_written()}
        self.violations += judge(history, world.dots, self._dots_of, copies, n=N, lossless=self.guard.lossless, regular=True,
                                 deadline_s=self.mix.habits.deadline_s)  # fmt: skip
        if PEACEFUL.issuperset(self.mix.kinds):
            self.probes.hit("seeds in which all is answered")
            self.violations += checkers.unanswered(history)
        for machine in world.by_number:
            for error in (*machine.errors, *(machine.node.errors if machine.up else ())):
                if not isinstance(error, ProtocolError):
                    self.violations.append(Violation("no bug meets a frame", b"", f"{machine.name}: {error!r}"))
        self.probes.hit("writes applied by two coordinators", sum(applied_twice(one, self._dots_of) for one in history.writes))

    def _dots_of(self, write: Write) -> list[tuple[bytes, float]]:
        """Two puts of two keys may have one id."""
        store_key = self.world.store_key(write.key, self.world.bucket_of(write.key, self.history.last_write_wins))
        return [(dot, made_s) for of, dot, made_s in self.world.dots.dots(write.put_id) if of == store_key]

    def _copies(self, key: bytes) -> dict[str, bytes | None]:
        world = self.world
        bucket = world.bucket_of(key, self.history.last_write_wins)
        return {world.names[home]: world.packed(home, key, bucket) for home in world.homes(key, bucket)}


def holds(record: bytes | None, dots: list[bytes]) -> bool:
    """Whether a record has, or has seen replaced, any of these events."""
    if record is None:
        return False
    copy = Siblings(decode_record(record).packed)
    return any(copy.covers((dot[:16], int.from_bytes(dot[16:24], "little"), int.from_bytes(dot[24:], "little"))) for dot in dots)


def simulate(mix: CoreMix, watch: Callable[[World], None] = lambda world: None) -> Verdict:
    """Runs one seed. `watch` is called with its world before anything happens."""
    simulation = Simulation(mix)
    world, history = simulation.world, simulation.history
    watch(world)
    collects = gc.isenabled()
    gc.disable()  # a run is short and keeps most of what it makes: looking through that again and again takes a fifth of its time
    try:
        simulation.run()
    except Exception as error:
        what = "nothing hangs" if isinstance(error, Stuck) else "no bug"
        simulation.violations.append(Violation(what, b"", f"{type(error).__name__}: {error}"))
    finally:
        if collects:
            gc.enable()
    for machine in world.by_number:
        if machine.up:
            world.add_up(machine.node)
    return Verdict(
        mix, simulation.violations, world.trace.digest, simulated_s=world.clock.now, events=world.clock.events, chunks=world.network.chunks,
        acknowledged=history.acknowledged, stale_reads=len(checkers.stale_reads(history, N, strict_only=False)),
        faults=simulation.faults.counts, probes=simulation.probes.counts | world.totals,
    )  # fmt: skip
