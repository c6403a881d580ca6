"""Whoever has members join, leave and be replaced in a simulated run, as people do: by asking one member that runs, and once more when it
does not answer. Nobody asks for what the promises do not allow: at least N members stay, and they die for good one after the other.

An operator knows whom it has asked to leave and to join, but not what became of a request that was not answered. So it counts a member as
staying only while the placement in force has it and nobody was ever asked to let it go.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from dynamo_fast.client.errors import BadRequest, DynamoError
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.machine import Machine
from dynamo_fast.testing.members import members_of, newest_placement, newest_view
from dynamo_fast.wire.membership_messages import ChangeReply

N = 3
LIVING_MAX = 9  # machines that are not destroyed
EVER_MAX = 20
ATTEMPTS = 4
AGAIN_S = 0.5
BURY_S = 60.0  # until the members take it that a machine is dead, once all is well


class Operator:
    """`lost`: machines that are to be given up as dead; some of them are destroyed. `least`: as many members stay; fewer than N only where
    nothing is destroyed. `shared_hosts`: of the nodes that come, two stand on one machine each. `counts`: how many requests ended how."""

    def __init__(
        self, cluster: Cluster, guard: Guard, chance: random.Random, least: int = N, shared_hosts: bool = False
    ) -> None:
        self.cluster, self.guard, self.chance, self.least, self.shared_hosts = cluster, guard, chance, least, shared_hosts
        self.counts: dict[str, int] = {}
        self.lost: dict[str, None] = {}
        self.busy = 0  # requests that have not ended
        self._given_up: set[str] = set()  # of the lost, those that were declared dead though they run
        self._let_go: set[str] = set()  # asked to leave, or to give way to another
        self._taken: set[str] = set()  # asked to join
        self._heirs: dict[str, str] = {}  # by machine that was lost, the one that is to take its places

    # Who there is -------------------------------------------------------------------------------------------------------------------

    def staying(self) -> list[str]:
        """Members of the placement in force that nobody was ever asked to let go, and that are not lost."""
        machines = list(self.cluster.machines.values())
        placement, members = newest_placement(machines), members_of(machines)
        if placement is None:
            return []
        return [one.name for one in members if one.node_id in placement.node_ids and one.name not in self._let_go | set(self.lost)]

    def one_to_let_go(self) -> str | None:
        """A member whose departure leaves enough; None: there is none."""
        staying = self.staying()
        return self.chance.choice(staying) if len(staying) > self.least else None

    def spare(self, *, urgent: bool = False, take: bool = False) -> str | None:
        """A machine that is to become a member, a new one if need be; None: there are enough, unless it is urgent. `take`: it is not
        given to anybody else."""
        name = self._spare(urgent)
        if take and name is not None:
            self._taken.add(name)
        return name

    def _spare(self, urgent: bool) -> str | None:
        for machine in self.cluster.machines.values():
            if machine.name not in self._taken and "node.seeds" in machine.settings and not machine.destroyed:
                return machine.name
        living = [one for one in self.cluster.machines.values() if not one.destroyed]
        if not urgent and (len(living) >= LIVING_MAX or len(self.cluster.machines) >= EVER_MAX):
            return None
        return self.cluster.add_machine(host=f"rack{len(self.cluster.machines) // 2}" if self.shared_hosts else "").name

    def newcomers(self) -> list[str]:
        """Machines that were asked to join and are in no placement yet."""
        placement = newest_placement(self.cluster.machines.values())
        ids = set() if placement is None else set(placement.node_ids)
        return [name for name in sorted(self._taken - self._let_go - set(self.lost)) if self.cluster[name].node_id not in ids]

    def gone(self) -> list[Machine]:
        """Machines that have left and hold nothing any more, as one of the members knows: what they say themselves may die with them."""
        view = newest_view(members_of(self.cluster.machines.values()))
        machines = [one for one in self.cluster.machines.values() if not one.destroyed and one.name not in self.lost]
        return [] if view is None else [one for one in machines if one.node_id in view.dead]

    # What it asks for; from the clock's agenda --------------------------------------------------------------------------------------

    def join(self, name: str) -> None:
        self._taken.add(name)
        self._start(partial(self.cluster.join, name))

    def leave(self, name: str) -> None:
        self._let_go.add(name)
        self._start(partial(self.cluster.leave, name, unsafe=self.least < N))

    def replace(self, old: str, new: str) -> None:
        self._let_go.add(old)
        self._taken.add(new)
        self._start(partial(self.cluster.replace, old, new))

    def exchange(self, pairs: Sequence[tuple[str, str]], joining: Sequence[str]) -> None:
        """In one step, the second of each pair takes the places of the first, and others join."""
        self._let_go.update(old for old, _ in pairs)
        self._taken.update([*(new for _, new in pairs), *joining])
        self._start(partial(self.cluster.exchange, pairs, joining))

    def rejoin(self, name: str) -> None:
        """A machine is asked to join that may have departed: who has heard of that refuses."""
        self._start(partial(self.cluster.join, name))

    def weigh(self, name: str, weight: int) -> None:
        self._start(partial(self.cluster.set_weight, name, weight))

    def move(self, name: str, zone: str) -> None:
        self._start(partial(self.cluster.set_zone, name, zone))

    def lose(self, name: str, *, destroyed: bool) -> bool:
        """A machine loses its power, and everything that it holds if it is destroyed; False: that would be more than the promises allow.

        It is given up by `bury`, sooner or later.
        """
        unburied = [one for one in self.lost if not self._buried(one)]
        if unburied or self.cluster[name].destroyed or not self.guard.may_lose(name):
            return False
        self.lost[name] = None
        machine = self.cluster[name]
        if destroyed:
            machine.destroy()
        else:
            machine.cut_power()
        return True

    def give_up(self, name: str) -> bool:
        """A member is declared dead though it runs; False as for `lose`."""
        unburied = [one for one in self.lost if not self._buried(one)]
        if unburied or self.cluster[name].destroyed or not self.guard.may_lose(name):
            return False
        self.lost[name] = None
        self._given_up.add(name)
        self.bury(name)
        return True

    def bury(self, name: str) -> None:
        """The members are told that a machine is dead, unless it has come back; another one takes its place where too few would be left.

        What is dead is dead: it is insisted on, though some nodes will have more to hold than they should.
        """
        back = self.cluster[name].up and name not in self._given_up
        if self._buried(name) or back or self.cluster[name].node_id is None:
            return
        heir = self._heirs.get(name)
        if heir is None and self.cluster[name] in members_of(self.cluster.machines.values()) and len(self.staying()) < N:
            heir = self.spare(urgent=True)
        self._let_go.add(name)
        if heir is None:
            self._start(partial(self.cluster.leave, name, dead=True, unsafe=True))
        else:
            self._taken.add(heir)
            self._heirs[name] = heir
            self._start(partial(self.cluster.replace, name, heir, dead=True, unsafe=True))

    async def bury_all(self) -> list[str]:
        """Returns once all requests have ended and every machine that was lost is known to be dead; the names of others after BURY_S."""
        with trio.move_on_after(BURY_S):
            while True:
                while self.busy:  # noqa: ASYNC110  time is what passes
                    await trio.sleep(AGAIN_S)
                for name in [name for name in self.lost if self.cluster[name].up and not self._buried(name) and name not in self._given_up]:
                    del self.lost[name]  # it came back before anybody was told that it is dead
                left = [name for name in self.lost if not self._buried(name)]
                if not left:
                    break
                for name in left:
                    self.bury(name)
                await trio.sleep(AGAIN_S)
        return [name for name in self.lost if not self._buried(name)]

    def _buried(self, name: str) -> bool:
        """Whether some member knows that the machine is dead, or that it is no member and never was."""
        view, node_id = newest_view(self.cluster.machines.values()), self.cluster[name].node_id
        return view is not None and node_id not in view.members and (node_id in view.dead or node_id not in view.departed)

    def _start(self, request: Callable[[], Awaitable[ChangeReply]]) -> None:
        self.busy += 1
        self.cluster.nursery.start_soon(self._ask, request)

    async def _ask(self, request: Callable[[], Awaitable[ChangeReply]]) -> None:
        outcome = "change not answered"
        for _ in range(ATTEMPTS):
            try:
                await request()
                outcome = "change accepted"
                break
            except BadRequest:  # unsafe, or asked for before and answered in vain
                outcome = "change refused"
                break
            except (DynamoError, trio.TooSlowError):
                await trio.sleep(AGAIN_S)
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        self.busy -= 1
