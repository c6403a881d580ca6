"""Whoever has members join, leave and be replaced in the core tier: by the rules of the other tier's `operator.py`, without its patience.

A member that runs is asked, which refuses what makes no sense as `node/changes.py` does; what it takes stands in its history, and spreads.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dynamo_fast.core.membership import Join, Leave, MemberChange, Replace, WeightChange, ZoneChange, read_change
from dynamo_fast.core.placement import PlacementError
from dynamo_fast.node.changes import ChangeRefused, check, plan
from dynamo_fast.node.placements import roster_of
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.member import Member
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.user import Probes

N = 3


class Operator:
    """`lost`: machines that are to be given up as dead. `least`: as many members stay; fewer than N only where nothing is destroyed."""

    def __init__(self, world: World, guard: Guard, chance: random.Random, probes: Probes, least: int) -> None:
        self.world, self.guard, self.chance, self.probes, self.least = world, guard, chance, probes, least
        self.lost: set[str] = set()
        self._let_go: set[str] = set()
        self._taken: set[str] = set()

    # Who there is -------------------------------------------------------------------------------------------------------------------

    def staying(self) -> list[str]:
        """Members of the placement in force that nobody was ever asked to let go, and that are not lost."""
        world = self.world
        names = [world.names[number] for number in range(len(world.names)) if world.node_ids[number] in world.placement.node_ids]
        return [name for name in names if name not in self._let_go | self.lost]

    def one_to_let_go(self) -> str | None:
        staying = self.staying()
        return self.chance.choice(staying) if len(staying) > self.least else None

    def spare(self, *, urgent: bool = False, take: bool = False) -> str | None:
        """A machine that is to become a member; None: there is none left."""
        first = self.world.members[0].view.first_members
        ids = {one.id for one in first}
        for number, name in enumerate(self.world.names):
            if self.world.node_ids[number] not in ids and name not in self._taken and not self.world.machines[name].destroyed:
                if take:
                    self._taken.add(name)
                return name
        return None

    def newcomers(self) -> list[str]:
        """Machines that were asked to join and are in no placement yet."""
        ids = self.world.placement.node_ids
        return [name for name in sorted(self._taken - self._let_go - self.lost) if self.world.node_id(name) not in ids]

    def gone(self) -> list[Machine]:
        """Nobody says so here."""
        return []

    # What it asks for ---------------------------------------------------------------------------------------------------------------

    def join(self, name: str) -> None:
        self._taken.add(name)
        self._ask(Join(member=self.world.entry(name)))

    def leave(self, name: str) -> None:
        self._let_go.add(name)
        self._ask(Leave(node_id=self.world.node_id(name)), unsafe=self.least < N)

    def replace(self, old: str, new: str) -> None:
        self.exchange([(old, new)], [])

    def exchange(self, pairs: Sequence[tuple[str, str]], joining: Sequence[str]) -> None:
        """In one step, the second of each pair takes the places of the first, and others join."""
        world = self.world
        self._let_go.update(old for old, _ in pairs)
        self._taken.update([*(new for _, new in pairs), *joining])
        replaced = [Replace(old=world.node_id(old), member=world.entry(new)) for old, new in pairs]
        self._ask(*replaced, *(Join(member=world.entry(name)) for name in joining))

    def weigh(self, name: str, weight: int) -> None:
        self._ask(WeightChange(node_id=self.world.node_id(name), weight=weight))

    def move(self, name: str, zone: str) -> None:
        self._ask(ZoneChange(host=self.world.entry(name).host, zone=zone))

    def rejoin(self, name: str) -> None:
        """A machine is asked to join that may have departed: who has heard of that refuses."""
        self._ask(Join(member=self.world.entry(name)))

    def lose(self, name: str, *, destroyed: bool) -> bool:
        """A machine loses its power, and everything that it holds if it is destroyed; False: that would be more than the promises allow."""
        if self.lost or self.world.machines[name].destroyed or not self.guard.may_lose(name):
            return False
        self.lost.add(name)
        machine = self.world.machines[name]
        if destroyed:
            machine.destroy()
        else:
            machine.cut_power()
        return True

    def give_up(self, name: str) -> bool:
        """A member is declared dead though it lives: it is to find that out."""
        if self.lost or len(self.staying()) <= N or not self.guard.may_lose(name):
            return False
        self.lost.add(name)
        self.bury(name)
        return True

    def bury(self, name: str) -> None:
        """The members are told that a machine is dead; another one takes its place where too few would be left."""
        if self.buried(name):
            return
        world = self.world
        heir = self.spare(urgent=True) if world.node_id(name) in world.placement.node_ids and len(self.staying()) < N else None
        self._let_go.add(name)
        if heir is None:
            self._ask(Leave(node_id=world.node_id(name), dead=True), unsafe=True)
        else:
            self._taken.add(heir)
            self._ask(Replace(old=world.node_id(name), member=world.entry(heir), dead=True), unsafe=True)

    def bury_all(self) -> bool:
        """All is well again, but for those that are lost for good. Whether everybody who was lost is known to be dead; asks once more."""
        for name in sorted(self.lost):
            self.bury(name)
        return all(map(self.buried, self.lost))

    def buried(self, name: str) -> bool:
        """Whether some member knows that the machine is dead, or that it is no member and never was."""
        node_id = self.world.node_id(name)
        views = [self.world.members[one.number].view for one in self.world.living if one.name != name]
        return any(node_id in view.dead for view in views) or all(node_id not in view.everyone for view in views)

    def _ask(self, *changes: MemberChange, unsafe: bool = False) -> None:
        world = self.world
        running = [one for one in world.living if one.up and one.name not in self.lost]
        members = [one for one in running if world.node_ids[one.number] in world.placement.node_ids]
        if not members:
            self.probes.hit("changes not answered")
            return
        machine = self.chance.choice(members)
        member = world.members[machine.number]
        try:
            check(member.view, changes)
            planned(member, changes, unsafe=unsafe)
        except (ChangeRefused, PlacementError):
            self.probes.hit("changes refused")
            return
        world.look_at_the_clock()
        member.asked.update(member.add(changes, world.wall_ms))
        world.on_members()
        self.probes.hit("changes accepted")


def planned(member: Member, changes: Sequence[MemberChange], *, unsafe: bool) -> None:
    """PlacementError when what would come of it, with all that waits, cannot be or should not."""
    lineage, history, view = member.lineage(), member.known.history, member.view
    before = roster_of(view, lineage.chain, history)
    asked = [*(read_change(record) for record in history.records_of(member.untaken())), *changes]
    after = before.after(asked)
    plan(member.tables[lineage.chain[-1].digest], before, after, view.replicas, before.heirs(asked), unsafe)
