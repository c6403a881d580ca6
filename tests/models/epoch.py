"""One key on machines that forget: the world in which the epoch rule must never issue a dot twice.

A `World` runs commands against real packed objects: puts, merges, restarts, power cuts that lose the tail, copied data
directories, lost records, restored backups. Its registry knows every dot ever issued and what stood under it, and for every
put which other puts its writer had truly seen, so that both halves of the promise are checked: no dot twice, and no write
covered by one that had not seen it. Rules are functions; `careful` is DESIGN's in plain Python, the naive ones are what it
took others years to unlearn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dynamo_fast.core.siblings import Dot, Siblings
from dynamo_fast.core.vector_clock import VectorClock

NO_MARK = (0, 0)


class Record(NamedTuple):
    """What a machine's disk holds of the key. `puts` are the puts truly seen: the world's knowledge, not the machine's."""

    object: Siblings = Siblings()
    mark: tuple[int, int] = NO_MARK  # (nonce, epoch) of this node's last own put here
    puts: frozenset[int] = frozenset()


NO_RECORD = Record()


class Situation(NamedTuple):
    """All that a rule may look at when a put needs an epoch."""

    record: Record
    process_nonce: int
    context: VectorClock
    node: bytes
    fresh_epoch: int  # drawn for this call
    process_epoch: int  # drawn when the process started
    stopped_cleanly: bool  # what a marker file in the data directory says


Rule = Callable[[Situation], int]


def careful(situation: Situation) -> int:
    """DESIGN's rule: go on only with an epoch that this process itself used on this record, which is still there."""
    nonce, epoch = situation.record.mark
    counter = situation.record.object.clock.counter(situation.node, epoch)
    if nonce == situation.process_nonce and counter > 0 and situation.context.counter(situation.node, epoch) <= counter:
        return epoch
    return situation.fresh_epoch


def no_epochs(_: Situation) -> int:
    """The paper's actor: the node alone, counting on from what the disk shows."""
    return 0


def epoch_per_process(situation: Situation) -> int:
    """Every start takes one epoch for all keys: forgets that a record can be lost while the process lives."""
    return situation.process_epoch


def epoch_from_disk(situation: Situation) -> int:
    """Goes on with whatever epoch the record shows, as long as there is a record."""
    return situation.record.mark[1] or situation.fresh_epoch


def clean_shutdown_marker(situation: Situation) -> int:
    """Goes on across restarts when the last one was clean: a copied or restored directory brings the marker along."""
    return (situation.record.mark[1] if situation.stopped_cleanly else 0) or careful(situation)


NAIVE: tuple[Rule, ...] = (no_epochs, epoch_per_process, epoch_from_disk, clean_shutdown_marker)


@dataclass(frozen=True)
class Machine:
    node: bytes
    nonce: int
    process_epoch: int
    record: Record = NO_RECORD
    synced: Record = NO_RECORD  # what a power cut leaves
    stopped_cleanly: bool = True


class Command(NamedTuple):
    """One step; the numbers choose, modulo what there is."""

    name: str
    machine: int = 0
    other: int = 0  # a state, a context or a backup


COMMANDS = ("put", "put", "blind put", "overwrite", "merge", "merge", "sync", "restart", "kill", "power cut", "lose record",
            "copy directory", "backup", "restore")


@dataclass
class World:
    rule: Rule
    machines: list[Machine] = field(default_factory=list)
    states: list[Record] = field(default_factory=lambda: [NO_RECORD])  # every version ever: contexts and messages come from here
    backups: list[tuple[bytes, Record]] = field(default_factory=list)
    issued: dict[Dot, list[int]] = field(default_factory=dict)  # dot -> puts that got it
    superseded: set[int] = field(default_factory=set)  # puts that a later put had truly seen
    drawn: int = 0
    puts: int = 0

    def __post_init__(self) -> None:
        for letter in b"ab":
            self.machines.append(self._started(Machine(bytes([letter]) * 16, 0, 0)))

    def run(self, commands: Iterable[Command]) -> list[str]:
        """Runs them all; the violations, in words. None is what the promise is."""
        for command in commands:
            at = command.machine % len(self.machines)
            self.machines[at] = self._step(self.machines[at], command)
        return self.violations()

    def violations(self) -> list[str]:
        twice = [f"dot {dot} was issued to puts {puts}" for dot, puts in self.issued.items() if len(puts) > 1]
        everything = Siblings.reconcile(state.object for state in self.states)
        found = {int.from_bytes(version.request_id, "little") for version in everything.siblings}
        wanted = set(range(1, self.puts + 1)) - self.superseded
        return (twice + [f"put {put} vanished" for put in sorted(wanted - found)]
                + [f"put {put} came back" for put in sorted(found - wanted)])

    def _draw(self) -> int:
        self.drawn += 1
        return self.drawn

    def _started(self, machine: Machine) -> Machine:
        return replace(machine, nonce=self._draw(), process_epoch=self._draw())

    def _step(self, machine: Machine, command: Command) -> Machine:
        state = self.states[command.other % len(self.states)]
        match command.name:
            case "put" | "blind put" | "overwrite":
                return self._put(machine, state if command.name == "put" else NO_RECORD, command.name == "overwrite")
            case "merge":
                return self._merge(machine, state)
            case "sync":
                return replace(machine, synced=machine.record)
            case "restart":
                return self._started(replace(machine, synced=machine.record, stopped_cleanly=True))
            case "kill":
                return self._started(replace(machine, stopped_cleanly=False))
            case "power cut":
                return self._started(replace(machine, record=machine.synced, stopped_cleanly=False))
            case "lose record":
                return replace(machine, record=NO_RECORD, synced=NO_RECORD)
            case "copy directory":
                if len(self.machines) < 4:
                    self.machines.append(self._started(machine))
                return machine
            case "backup":
                self.backups.append((machine.node, machine.record))
                return machine
            case "restore":
                mine = [record for node, record in self.backups if node == machine.node]
                record = mine[command.other % len(mine)] if mine else machine.record
                return self._started(replace(machine, record=record, synced=record, stopped_cleanly=True))
        raise AssertionError(command.name)

    def _put(self, machine: Machine, context: Record, overwrite: bool) -> Machine:
        record = machine.record
        situation = Situation(record, machine.nonce, context.object.clock, machine.node, self._draw(), machine.process_epoch,
                              machine.stopped_cleanly)
        epoch = self.rule(situation)
        self.puts += 1
        request_id = self.puts.to_bytes(16, "little")
        written = record.object.put(b"", node=machine.node, epoch=epoch, context=context.object.clock, request_id=request_id,
                                    overwrite=overwrite)
        (dot,) = (version.dot for version in written.siblings if version.request_id == request_id)
        self.issued.setdefault(dot, []).append(self.puts)
        self.superseded |= context.puts | (record.puts if overwrite else frozenset())
        after = Record(written, (machine.nonce, epoch), record.puts | context.puts | {self.puts})
        self.states.append(after)
        return replace(machine, record=after)

    def _merge(self, machine: Machine, incoming: Record) -> Machine:
        record = machine.record
        mark = record.mark
        if not record.object.epoch_survives_merge(incoming.object, node=machine.node, mark_epoch=mark[1]):
            mark = NO_MARK
        after = Record(record.object.merge(incoming.object), mark, record.puts | incoming.puts)
        self.states.append(after)
        return replace(machine, record=after)
