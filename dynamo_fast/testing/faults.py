"""Everything that goes wrong in a simulated run, drawn at random moments, each kind a page's line below; healed all at once.

A fault begins on the clock's agenda, and most of them end there after a while of their own. What takes data is asked of the guard first.
`heal` ends every fault; whatever a fault would still do afterwards does nothing, since it belongs to an earlier round.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from dynamo_fast.testing.changes import MEMBERS
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.network import Link
from dynamo_fast.testing.state import State
from dynamo_fast.testing.stricken import Machine, Operator, World

YEAR_S = 365 * 86400


class Faults:
    """Mischief on a cluster. `every_s`: between two faults, in the mean; `lasts_s`: how long one lasts, in the mean.

    `operator`: who changes the members, where a kind of fault is that.
    """

    def __init__(self, cluster: World, guard: Guard, chance: random.Random, kinds: Sequence[str], every_s: float, lasts_s: float,
                 operator: Operator | None = None) -> None:  # fmt: skip
        self.cluster, self.guard, self.chance = cluster, guard, chance
        self._operator = operator
        self.counts: dict[str, int] = {}
        self.every_s, self.lasts_s = every_s, lasts_s
        self._kinds = [KINDS[name] for name in kinds]
        self._round = 0
        self._backups: dict[str, object] = {}

    def begin(self) -> None:
        """Faults come from now on, until `heal`."""
        for machine in self.machines:
            if machine.state is not State.DARK:
                self._backups[machine.name] = machine.snapshot()
        self._next()

    def heal(self) -> None:
        """All is well again, and stays so."""
        self._round += 1
        for machine in self.machines:
            machine.engine.hold_syncs = False
            machine.sync_s, machine.wall_offset_ms = 0.0005, 0
        self.cluster.heal_now()
        for machine in self.machines:
            machine.engine.sync()

    @property
    def operator(self) -> Operator:
        assert self._operator is not None, "a run in which members change has an operator"
        return self._operator

    @property
    def machines(self) -> list[Machine]:
        """All but those that are destroyed for good."""
        return [one for one in self.cluster.machines.values() if not one.destroyed]

    def _next(self) -> None:
        self.cluster.clock.after(self.chance.expovariate(1.0) * self.every_s, self._strike, self._round)

    def _strike(self, round_: int) -> None:
        if round_ == self._round:
            kind = self.chance.choice(self._kinds)
            if kind(self):
                name = kind.__name__.replace("_", " ")
                self.counts[name] = self.counts.get(name, 0) + 1
                self.cluster.trace.note(self.cluster.clock.now, 0, name.encode())
            self._next()

    # What the kinds are made of -------------------------------------------------------------------------------------------------------

    def later(self, then: Callable[..., None], *args: object) -> None:
        """After the time that a fault lasts, unless all was healed before."""
        self.after(self.chance.expovariate(1.0) * self.lasts_s, then, *args)

    def after(self, seconds: float, then: Callable[..., None], *args: object) -> None:
        round_ = self._round

        def happens() -> None:
            if round_ == self._round:
                then(*args)

        self.cluster.clock.after(seconds, happens)

    def one(self) -> Machine:
        return self.chance.choice(self.machines)

    def names(self) -> list[str]:
        """All hosts in an order drawn anew, the clients' among them."""
        names = [*(one.name for one in self.machines), "client0", "client1"]
        self.chance.shuffle(names)
        return names

    def cut(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Nothing goes from one to the other of each pair, for a while."""
        links = [self.cluster.network.link(one, two) for one, two in pairs]
        for link in links:
            link.cut = True
        self.later(self.mend, links)

    def mend(self, links: Sequence[Link]) -> None:
        for link in links:
            link.cut = False
        self.cluster.network.go_on()

    def weather(self, **change: object) -> None:
        """Another weather on the links of one machine, or on all, for a while."""
        names = self.names()
        machine = self.chance.choice([None, *(one.name for one in self.machines)])
        links = [self.cluster.network.link(a, b) for a in names for b in names if a != b and machine in (None, a, b)]
        before = [{name: getattr(link, name) for name in change} for link in links]
        for link in links:
            link.__dict__.update(change)

        def as_before() -> None:
            for link, old in zip(links, before, strict=True):
                link.__dict__.update(old)

        self.later(as_before)

    def down(self, machine: Machine, how: Callable[[], None]) -> bool:
        """Takes a machine down in some way, and up again after a while."""
        if machine.state is not State.RUNNING:
            return False
        how()
        self.later(machine.start)
        return True

    def replace_disk(self, machine: Machine, what: Callable[[], None]) -> bool:
        """Kills a machine, changes what its disk holds, and starts it again after a while."""
        if machine.state is not State.RUNNING or not self.guard.may_destroy(machine.name):
            return False
        machine.kill()
        what()
        self.later(machine.start)
        return True


# The kinds: each makes one fault, or returns False where it cannot. ------------------------------------------------------------------


def halves(faults: Faults) -> bool:
    names = faults.names()
    split = faults.chance.randrange(1, len(names))
    faults.cut([pair for one in names[:split] for two in names[split:] for pair in ((one, two), (two, one))])
    return True


def isolated(faults: Faults) -> bool:
    name, others = faults.one().name, faults.names()
    faults.cut([pair for other in others if other != name for pair in ((name, other), (other, name))])
    return True


def bridge(faults: Faults) -> bool:
    """Two halves that only one machine sees both of."""
    names = [name for name in faults.names() if name in faults.cluster.machines]
    middle, half = names[0], (len(names) + 1) // 2
    faults.cut([pair for one in names[1:half] for two in names[half:] if middle not in (one, two) for pair in ((one, two), (two, one))])
    return len(names) > 2


def one_way(faults: Faults) -> bool:
    one, two = faults.names()[:2]
    faults.cut([(one, two)])
    return True


def flapping(faults: Faults) -> bool:
    """One machine's links come and go."""
    name = faults.one().name
    links = [faults.cluster.network.link(*pair) for other in faults.names() if other != name for pair in ((name, other), (other, name))]

    def sever() -> None:
        for link in links:
            link.cut = True

    for turn in range(faults.chance.randrange(3, 12)):
        faults.after(turn * 0.4, sever)
        faults.after(turn * 0.4 + faults.chance.random() * 0.3, faults.mend, links)
    return True


def slow_network(faults: Faults) -> bool:
    faults.weather(delay_s=faults.chance.choice([0.005, 0.05, 0.3]), jitter_s=faults.chance.choice([0.001, 0.05, 0.2]))
    return True


def stalls(faults: Faults) -> bool:
    faults.weather(stall_chance=0.05, stall_s=faults.chance.choice([0.1, 1.0, 5.0]))
    return True


def narrow_network(faults: Faults) -> bool:
    faults.weather(bytes_per_s=faults.chance.choice([2e4, 2e5]))
    return True


def corruption(faults: Faults) -> bool:
    faults.weather(corrupt_chance=0.02)
    return True


def fragmentation(faults: Faults) -> bool:
    faults.weather(fragments=True)
    return True


def refused_dials(faults: Faults) -> bool:
    faults.weather(refuses=True)
    return True


def resets(faults: Faults) -> bool:
    """Some connections of one machine break at both ends."""
    return faults.one().reset_connections(faults.chance)


def kill(faults: Faults) -> bool:
    machine = faults.one()
    return faults.down(machine, machine.kill)


def kill_inside_a_pass(faults: Faults) -> bool:
    machine = faults.one()
    if machine.state is not State.RUNNING:
        return False
    machine.die_in_pass = faults.chance.choice(["before the log write", "after the log write"])
    faults.later(machine.start)
    return True


def storm(faults: Faults) -> bool:
    """All machines are killed, one shortly after the other, and come back likewise."""
    for machine in faults.machines:
        faults.after(faults.chance.random() * 0.5, machine.kill)
        faults.after(0.5 + faults.chance.random() * 2, machine.start)
    return True


def stop(faults: Faults) -> bool:
    machine = faults.one()
    return faults.down(machine, machine.stop)


def pause(faults: Faults) -> bool:
    """SIGSTOP for 0.1 s to two minutes."""
    machine = faults.one()
    if machine.state is not State.RUNNING:
        return False
    machine.freeze()
    faults.after(0.1 * math.exp(faults.chance.random() * math.log(1200)), machine.thaw)
    return True


def power_cut(faults: Faults) -> bool:
    machine = faults.one()
    if machine.state is State.DARK or not faults.guard.may_darken(machine.name):
        return False
    machine.cut_power()
    faults.later(machine.start)
    return True


def slow_disk(faults: Faults) -> bool:
    machine = faults.one()
    machine.sync_s = faults.chance.choice([0.01, 0.1, 0.6])
    faults.later(setattr, machine, "sync_s", 0.0005)
    return True


def held_syncs(faults: Faults) -> bool:
    """Syncs that are asked for are not done."""
    machine = faults.one()
    machine.engine.hold_syncs = True

    def go_on() -> None:
        machine.engine.hold_syncs = False
        machine.engine.sync()

    faults.later(go_on)
    return True


def full_disk(faults: Faults) -> bool:
    machine = faults.one()
    machine.fill_disk()
    faults.later(machine.empty_disk)
    return True


def failed_fsync(faults: Faults) -> bool:
    machine = faults.one()
    if machine.state is not State.RUNNING or not faults.guard.may_darken(machine.name):
        return False
    machine.fail_next_sync = "an fdatasync failed"
    return True


def rot(faults: Faults) -> bool:
    """Some records of one machine cannot be read any more; not hints, which only a scrub would find to be gone."""
    machine = faults.one()
    keys = machine.own_records()
    if not keys or not faults.guard.may_destroy(machine.name):
        return False
    for store_key in faults.chance.sample(keys, min(len(keys), 3)):
        machine.engine.damage(store_key)
    return True


def wiped_disk(faults: Faults) -> bool:
    machine = faults.one()
    return faults.replace_disk(machine, machine.wipe)


def stale_backup(faults: Faults) -> bool:
    """A machine goes back to what its disk held when the round began."""
    machine = faults.one()
    backup = faults._backups.get(machine.name)
    return backup is not None and faults.replace_disk(machine, lambda: machine.restore(backup))


def clock_jump(faults: Faults) -> bool:
    machine = faults.one()
    machine.wall_offset_ms += int(faults.chance.choice([-1, 1]) * faults.chance.choice([5, 600, YEAR_S, 20 * YEAR_S]) * 1000)
    return True


def clock_strobe(faults: Faults) -> bool:
    """The clock on the wall jumps to and fro."""
    machine = faults.one()
    for turn in range(20):
        faults.after(turn * 0.05, setattr, machine, "wall_offset_ms", faults.chance.randrange(-100_000, 100_000))
    return True


NETWORK: tuple[Callable[[Faults], bool], ...] = (
    halves, isolated, bridge, one_way, flapping, slow_network, stalls, narrow_network, corruption, fragmentation, refused_dials, resets,
)  # fmt: skip
PROCESS: tuple[Callable[[Faults], bool], ...] = (kill, kill_inside_a_pass, storm, stop, pause)
DISK: tuple[Callable[[Faults], bool], ...] = (power_cut, slow_disk, held_syncs, full_disk, failed_fsync, rot, wiped_disk, stale_backup)
CLOCK: tuple[Callable[[Faults], bool], ...] = (clock_jump, clock_strobe)
KINDS: dict[str, Callable[[Faults], bool]] = {kind.__name__: kind for kind in (*NETWORK, *PROCESS, *DISK, *CLOCK, *MEMBERS)}
