"""Who looks at what real nodes do at the moment at which they do it, and can look into every machine of a simulated cluster: what is
removed, which steps of a change of members are done and told of, who says that it is gone.

What a node believes counts for nothing here: each of these is compared with what the others hold on their disks just then.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import Change, Gone, Record
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node.keys import partition_range
from dynamo_fast.node.node import Node
from dynamo_fast.node.succession import needed_for
from dynamo_fast.storage.schema import RecordParts, decode_record
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.machine import Machine
from dynamo_fast.testing.user import Probes

SCAN_MAX = 1 << 20
LOSES_NOTHING = "membership changes lose nothing"


class Doing:
    """The step that a node has begun to do: since when, in microseconds, and (in SYNCED) what the homes before held then of what it gains,
    by machine and partition."""

    def __init__(self, step: Step, new: bytes, since_us: int) -> None:
        self.step, self.new, self.since_us = step, new, since_us
        self.held: dict[tuple[str, int], dict[bytes, bytes]] = {}


class Witness:
    """`lost`: names of machines that were given up."""

    def __init__(self, cluster: Cluster, guard: Guard, lost: Mapping[str, None], probes: Probes, violations: list[Violation]) -> None:
        self.cluster, self.guard, self.lost, self.probes, self.violations = cluster, guard, lost, probes, violations
        self._doing: dict[str, Doing] = {}
        for machine in cluster.machines.values():
            if machine.node is not None:
                self.follow(machine, machine.node)
        cluster.on_node = self.follow

    def follow(self, machine: Machine, node: Node) -> None:
        """From now on whatever this process does in a change of members is looked at."""
        known = node.cluster
        work_by, tell, add = known.work_by, known.tell, known.add

        async def works(old: Placement, new: Placement | None = None, step: Step = Step.NONE) -> None:
            if new is not None:
                self._does(machine, node, old, new, step)
            await work_by(old, new, step)

        async def tells(placement: bytes, step: Step, dead: bytes) -> None:
            self._tells(machine, node, placement, step)
            await tell(placement, step, dead)

        async def adds(*changes: Change) -> list[Record]:
            if any(isinstance(change, Gone) for change in changes):
                self._says_that_it_is_gone(machine)
            return await add(*changes)

        known.work_by, known.tell, known.add = works, tells, adds  # type: ignore[method-assign]

    # Changes of members -------------------------------------------------------------------------------------------------------------

    def _does(self, machine: Machine, node: Node, old: Placement, new: Placement, step: Step) -> None:
        before, under_way = self._doing.get(machine.name), node.cluster.change
        if before is not None and under_way is not None and (under_way.new.digest, under_way.step) == (new.digest, step):
            return
        doing = self._doing[machine.name] = Doing(step, new.digest, int(self.cluster.clock.now * 1e6))
        if step == Step.SYNCED:
            doing.held = self._to_be_brought(machine, old, new)
        if step >= Step.DOUBLE:
            self._begins(machine, node, old, new, step)

    def _to_be_brought(self, machine: Machine, old: Placement, new: Placement) -> dict[tuple[str, int], dict[bytes, bytes]]:
        """What the homes before hold now of the partitions that a node gains. Where fewer homes are left, whoever stays gains what those
        that go have."""
        names = {one.node_id: one.name for one in self.cluster.machines.values()}
        held = {}
        for partition in range(self.cluster.partitions):
            were, are = homes_in(old, partition), homes_in(new, partition)
            if machine.node_id not in are or (machine.node_id in were and len(are) >= len(were)):
                continue
            for source in were:
                if source != machine.node_id and (machine.node_id not in were or source not in are):
                    held[names[source], partition] = self._own_of(self.cluster[names[source]], partition)
        return held

    def _own_of(self, machine: Machine, partition: int) -> dict[bytes, bytes]:
        found = {key: decode_record(record) for key, record in self._records(machine, partition)}
        return {key: parts.packed for key, parts in found.items() if not parts.owed}

    def _records(self, machine: Machine, partition: int) -> list[tuple[bytes, bytes]]:
        return machine.engine.scan(*partition_range(partition, self.cluster.partitions), SCAN_MAX)

    def _begins(self, machine: Machine, node: Node, old: Placement, new: Placement, step: Step) -> None:
        """All that it has to wait for, and that run, have told of the step before, and listen to nobody any more who is dead. What it has
        told of itself already it has begun before."""
        own = node.cluster.progress.get(node.cluster.node_id)
        if own is not None and own.placement == new.digest and own.step >= step:
            return
        view, names = node.cluster.view, {one.node_id: one.name for one in self.cluster.machines.values()}
        assert view is not None
        told, listening = {}, {}
        needed = needed_for(old, new, view)
        for other in self.cluster.machines.values():
            if other is machine or other.node is None or other.name in self.guard.destroyed or other.node_id not in needed:
                continue
            its = other.node.cluster
            word = its.progress.get(its.node_id)
            goes = its.placement if its.change is None else its.change.old
            if goes is None or goes.number < new.number:
                told[other.name] = Step(word.step) if word is not None and word.placement == new.digest else Step.NONE
            listening[other.name] = [names[node_id] for node_id in sorted(view.dead & other.node.peers.up.keys())]
        self.violations += checkers.hasty(machine.name, step, told, listening)

    def _tells(self, machine: Machine, node: Node, placement: bytes, step: Step) -> None:
        doing = self._doing.get(machine.name)
        if doing is None or (doing.new, doing.step) != (placement, step):
            return
        oldest_us = node.data_plane.oldest_request_us
        if Step.KNOWN < step < Step.SETTLED and step != Step.SYNCED and 0 < oldest_us < doing.since_us:
            text = f"{machine.name} tells of {step.name} while a request goes on that is {(doing.since_us - oldest_us) / 1e6:.6f} s older"
            self.violations.append(Violation(LOSES_NOTHING, b"", text))
        if step == Step.SYNCED:
            self._has_brought(machine, doing)

    def _has_brought(self, machine: Machine, doing: Doing) -> None:
        excused = self.guard.darkened | self.guard.destroyed | set(self.lost)
        if machine.name in excused:
            return
        self.probes.hit("partitions brought", len(doing.held))
        for (source, partition), held in doing.held.items():
            if source not in excused:
                on_disk = {store_key: machine.engine.on_disk(store_key) for store_key in held}
                has = {key: None if record is None else decode_record(record).packed for key, record in on_disk.items()}
                self.violations += checkers.brought_short(machine.name, source, held, has)
            kept = [key for key, record in self._records(machine, partition) if decode_record(record).owed]
            if kept:
                text = f"{machine.name} has told that partition {partition} is its own, and keeps {kept[0].hex()} there for others"
                self.violations.append(Violation("hints reach their owners", b"", text))

    def _says_that_it_is_gone(self, machine: Machine) -> None:
        self.probes.hit("nodes gone")
        held = [partition for partition in range(self.cluster.partitions) if machine.engine.holds(partition)]
        if held:
            text = f"{machine.name} says that it is gone, and holds something of the partitions {held}"
            self.violations.append(Violation(LOSES_NOTHING, b"", text))

    # What is removed ----------------------------------------------------------------------------------------------------------------

    def removed(self, machine: Machine, store_key: bytes, record: bytes) -> None:
        """A hint may go when its owner has it on disk (one that is too old to wait goes elsewhere, and destroyed disks have nothing); what
        had been a home's copy when W of the homes have it there."""
        parts, node = decode_record(record), machine.node
        if node is None or node.cluster.hint_placement is None or machine.name in self.lost:
            return
        partition = machine.engine.forest.place(store_key[:16])[0]
        placements = node.cluster.unretired
        if not parts.owed and any(machine.node_id in homes_in(placement, partition) for placement in placements):
            return self._forgotten(machine, store_key, parts)
        newest_ms = max((one.timestamp_ms for one in Siblings(parts.packed).siblings), default=0)
        if parts.owed and newest_ms < machine.wall_ms() - 1000 * machine.config.limits.hint_age_max_s:
            return
        placement = node.cluster.hint_placement
        names = {one.node_id: name for name, one in self.cluster.machines.items()}
        homes = [names[node_id] for node_id in homes_in(placement, partition)]
        if parts.owed and parts.placement_number == placement.number & 0xFFFF:
            homes = [name for slot, name in enumerate(homes) if parts.owed >> slot & 1]
        whole = [name for name in homes if name not in self.guard.destroyed]
        on_disk = {name: self.cluster[name].engine.on_disk(store_key) for name in whole}
        held = {name: None if one is None else decode_record(one).packed for name, one in on_disk.items()}
        if parts.owed:
            self.violations += checkers.hint_gone_early(parts.key, parts.packed, held)
            self.probes.hit("hints removed")
        else:
            copies = min(machine.config.requests.w, len(homes)) - (len(homes) - len(whole))
            self.violations += checkers.copy_gone_early(parts.key, parts.packed, held, copies)
            self.probes.hit("copies parted with")

    def _forgotten(self, machine: Machine, store_key: bytes, parts: RecordParts) -> None:
        """A home forgets a delete."""
        held = {}
        for other in self.cluster.machines.values():
            if other is not machine and other.name not in self.lost and not other.destroyed:
                record = other.engine.get(store_key)
                held[other.name] = None if record is None else decode_record(record).packed
        self.probes.hit("deletes forgotten")
        self.violations += checkers.forgotten_early(machine.name, parts.key, parts.packed, held)


def homes_in(placement: Placement, partition: int) -> list[bytes]:
    """The ids of a partition's homes in a placement, in the order of their slots."""
    return [placement.node_ids[node] for node in placement.table[partition][: placement.replicas]]
