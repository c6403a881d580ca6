"""One seed from birth to verdict: a cluster, clients, mischief, healing, and every promise looked after.

After each round of mischief all is healed, and the members get done with their changes, in many seeds while clients go on. Then the
cluster has to come to rest by itself, without a client: hints go home, and homes compare their trees and bring each other what they lack.
What remains, and what a client can then read of it, is judged together with everything that clients were told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import trio

from dynamo_fast.client.bucket import Bucket
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.testing import checkers, cluster, rest
from dynamo_fast.testing.agenda import Stuck
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.faults import Faults
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.history import Fate, History, Write
from dynamo_fast.testing.judgement import applied_twice, final_versions, judge
from dynamo_fast.testing.members import members_of, unsettled
from dynamo_fast.testing.operator import Operator
from dynamo_fast.testing.rare import Rare
from dynamo_fast.testing.swarm import Mix
from dynamo_fast.testing.user import Probes, key_of
from dynamo_fast.testing.verdict import Verdict
from dynamo_fast.testing.witness import Witness
from dynamo_fast.testing.workload import Actor, PutIds

N = 3
RECOVERY_S = 60.0  # from healing until every node is connected, and from then until the homes agree
SETTLED_S = 120.0  # from then until the changes of members are over, and those that leave are gone
LOOK_S = 0.5
OUTLIVE_S = 20.0  # until those that are left have found out
OUTLIVE_WRITES = 10
LAST_WRITE_WINS = "lww"


class Simulation:
    """The parts of one run."""

    def __init__(self, mix: Mix, cluster: Cluster) -> None:
        self.mix, self.cluster = mix, cluster
        self.history, self.probes, self.put_ids = History(), Probes(), PutIds()
        self.guard = Guard((max(w, dw), dw) for w, dw in mix.habits.writes)
        self.operator = Operator(cluster, self.guard, random.Random(f"{mix.seed} operator"), mix.least, mix.shared_hosts)
        self.faults = Faults(cluster, self.guard, random.Random(f"{mix.seed} faults"), mix.kinds, mix.fault_every_s, mix.fault_lasts_s,
                             self.operator)  # fmt: skip
        self.rare = cluster.rare = Rare(mix.seed)
        self.violations: list[Violation] = []
        self._listed: list[bytes] = []  # by a client, once all has come to rest
        self.witness = Witness(cluster, self.guard, self.operator.lost, self.probes, self.violations)
        self.history.forgets = "limits.grace_s" in mix.settings
        self.history.last_write_wins.update(map(key_of, range(mix.habits.last_write_wins)))

    async def run(self) -> None:
        mix, cluster = self.mix, self.cluster
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(cluster.connect(host=f"client{number}")) for number in range(mix.clients)]
            for client in clients:
                self.put_ids.note(client)
            if self.history.last_write_wins:
                await clients[0].cluster.set_bucket(LAST_WRITE_WINS, BucketSettings(reconcile="last-write-wins"))
            cluster.on_removal = self.witness.removed
            actors = [self._actor(number, clients[number % mix.clients]) for number in range(mix.actors)]
            for _ in range(mix.rounds):
                if await self._round(actors):
                    async with cluster.connect(host="judge", deadline_s=10.0) as judge:
                        await self._come_to_rest(judge)
                    self._judge()
                if self.violations:
                    return
                self.guard.healed()

    def _actor(self, number: int, client: Client) -> Actor:
        chance = random.Random(f"{self.mix.seed} actor {number}")
        return Actor(f"actor{number}", client, self.history, self.mix.habits, self.cluster.dots, self.probes, self.put_ids, chance)

    async def _round(self, actors: list[Actor]) -> bool:
        """Clients at work while things go wrong, and some while what was healed settles. Whether it has."""
        clock, mix = self.cluster.clock, self.mix
        heal_s = clock.now + mix.round_s
        end_s = heal_s + mix.round_s * mix.goes_on
        settled = False
        await clock.moment(self.faults.begin)
        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(actor.run, lambda: settled or clock.now >= end_s)
            await trio.sleep_until(heal_s)
            await clock.moment(self.faults.heal)
            if mix.outlives:
                await self._outlive()
            settled = await self._settle()
        return settled

    async def _outlive(self) -> None:
        """All but N machines are gone, for all that anybody knows for ever: those that are left take every write, and show it.

        How they are gone differs: killed, frozen, or alone on the other side of a cut; that is over when the round's rest begins.
        """
        cluster, chance = self.cluster, self.cluster.chance
        members = lasting(cluster)
        if len(members) < N:
            return
        chance.shuffle(members)
        core = sorted(members[:N])
        gone = [name for name, machine in cluster.machines.items() if name not in core and not machine.destroyed]
        for name in gone:
            how = chance.choice([cluster.kill, cluster.freeze, None])
            if how is not None:
                await how(name)
            else:
                for other in (*core, "survivor"):
                    cluster.network.cut(name, other)
        await trio.sleep(OUTLIVE_S)
        habits = replace(self.mix.habits, blind=0.0, old_context=0.0, stray_context=0.0, deadline_s=5.0, strict=0.0)
        if any(one.node is not None and one.node.cluster.change is not None for one in map(cluster.__getitem__, core)):
            self.probes.hit("outlived the others in the middle of a change")
        async with cluster.connect(*core, host="survivor") as client:
            self.put_ids.note(client)
            name = f"survivor at {cluster.clock.now:.0f} s"
            actor = Actor(name, client, self.history, habits, cluster.dots, self.probes, self.put_ids, chance)
            for number in range(OUTLIVE_WRITES):
                key = b"after the end %d" % number
                write, read = await actor.write(key), await actor.read(key)
                if write.fate is not Fate.OK or read.fate is not Fate.OK:
                    # Homes that fell silent are suspected once something was wanted of them; the next try finds that out.
                    self.probes.hit("survivors needed a second try")
                    write, read = await actor.write(key), await actor.read(key)
                for fate, what in ((write.fate, f"write {write.number}: {write.told}"), (read.fate, f"read {read.number}")):
                    if fate is not Fate.OK:
                        self.violations.append(Violation("always writable", key, f"only {core} were left, and could not do {what}"))
        self.probes.hit("outlived the others")
        await cluster.clock.moment(self.faults.heal)

    # Rest ---------------------------------------------------------------------------------------------------------------------------

    async def _settle(self) -> bool:
        """False when the nodes do not find each other again, or do not come to an end with the changes of members."""
        cluster, operator = self.cluster, self.operator
        try:
            await cluster.until(lambda: rest.well(cluster), RECOVERY_S)
        except trio.TooSlowError:
            states = ", ".join(f"{one.name} {one.state.value} ({one.failure or 'no failure'})" for one in cluster.machines.values())
            self.violations.append(Violation("recovery", b"", f"{RECOVERY_S:g} s after healing the nodes are not connected: {states}"))
            return False
        if unburied := await operator.bury_all():
            self.violations.append(Violation("recovery", b"", f"nobody takes it that {', '.join(unburied)} is dead"))
        with trio.move_on_after(SETTLED_S):
            while unsettled(cluster.machines.values()):  # noqa: ASYNC110  time is what has to pass
                await trio.sleep(LOOK_S)
        if left := unsettled(cluster.machines.values()):
            text = f"{SETTLED_S:g} s after healing the members are not done with their changes: {'; '.join(left)}"
            self.violations.append(Violation("membership changes come to an end", b"", text))
        return not left

    async def _come_to_rest(self, judge: Client) -> None:
        """Returns when all homes of all keys should hold the same, on disk."""
        cluster, operator = self.cluster, self.operator
        with trio.move_on_after(RECOVERY_S):
            while (rest.strays(cluster, operator.lost) or rest.diverged_trees(cluster) or rest.in_doubt(cluster)  # noqa: ASYNC110
                   or rest.company(cluster)):  # fmt: skip
                await trio.sleep(LOOK_S)
        self.violations += rest.company(cluster)
        if hints := rest.strays(cluster, operator.lost):
            self.violations.append(Violation("convergence", b"", f"{RECOVERY_S:g} s after healing hints are left on {hints}"))
        if in_doubt := rest.in_doubt(cluster):
            self.violations.append(Violation("recovery", b"", f"{RECOVERY_S:g} s after healing {in_doubt} still may have lost data"))
        self.violations += rest.diverged_trees(cluster)
        self.violations += rest.ownership(cluster, N, operator.lost)
        for key, bucket in self._keys(judge).items():
            await self._read_everywhere(key, bucket)
        self._listed = await self._list(judge)
        if self.history.last_write_wins:
            self._listed += await self._list(judge.bucket(LAST_WRITE_WINS))
        await trio.sleep(1)  # repairs come after the answers
        with trio.move_on_after(RECOVERY_S):
            # A repair that crosses the forgetting of a delete brings it back to a home, and it is forgotten anew.
            while rest.diverged_trees(cluster):  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
        for machine in cluster.machines.values():
            machine.engine.finish_syncs()

    def _keys(self, judge: Client) -> dict[bytes, Bucket]:
        history = self.history
        return {key: judge.bucket(LAST_WRITE_WINS) if key in history.last_write_wins else judge for key in history.keys_written()}

    async def _read_everywhere(self, key: bytes, bucket: Bucket) -> None:
        """From one home, which mends a copy that has rotted (nobody has looked at it yet), then from all."""
        for r in (1, min(N, self.cluster.placement().replicas)):
            for attempt in range(3):
                try:
                    await bucket.get(key, r=r)
                    break
                except DynamoError as error:
                    if attempt == 2:
                        self.violations.append(Violation("recovery", key, f"after healing {key!r} cannot be read with R={r}: {error}"))
                await trio.sleep(1)

    async def _list(self, bucket: Bucket) -> list[bytes]:
        """All keys of a bucket."""
        try:
            return [key async for key in bucket.keys()]  # noqa: SIM118  not a dict
        except DynamoError as error:
            self.violations.append(Violation("recovery", b"", f"after healing keys cannot be listed: {error}"))
            return self.history.keys_written()

    # Judgement ----------------------------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        copies = {key: self._copies(key) for key in self.history.keys_written()}
        self.violations += checkers.listed_wrongly(self._listed, final_versions(self.history, copies))
        lossless = self.guard.lossless
        self.violations += judge(self.history, self.cluster.dots, self._dots_of, copies, n=N, lossless=lossless, regular=lossless,
                                 deadline_s=self.mix.habits.deadline_s)  # fmt: skip
        self.violations += rest.diverged_trees(self.cluster)
        for machine in self.cluster.machines.values():
            self.violations += [Violation("no bug meets a frame", b"", f"{machine.name}: {error!r}") for error in machine.errors]
        self.violations += [
            Violation("no process dies of an error", b"", f"{name}: {error!r}")
            for name, error in self.cluster.refused
            if not isinstance(error, OSError)
        ]
        self.probes.hit("writes applied by two coordinators", sum(applied_twice(one, self._dots_of) for one in self.history.writes))

    def _dots_of(self, write: Write) -> list[tuple[bytes, float]]:
        return [(dot, made_s) for _, dot, made_s in self.cluster.dots.dots(write.put_id)] if write.put_id else []

    def _copies(self, key: bytes) -> dict[str, bytes | None]:
        """What each home holds of a key, packed."""
        bucket = LAST_WRITE_WINS.encode() if key in self.history.last_write_wins else b""
        store_key = self.cluster.store_key(key, bucket)
        found: dict[str, bytes | None] = {}
        for machine in self.cluster.homes(key, bucket):
            record = machine.engine.get(store_key)
            found[machine.name] = None if record is None else decode_record(record).packed
        return found


def lasting(cluster: Cluster) -> list[str]:
    """The members that run and are in every placement that any node still works by: who has only been asked for yet is in none of them."""
    nodes = [one.node for one in cluster.machines.values() if one.node is not None]
    placements = [placement for node in nodes for placement in node.cluster.unretired]
    members = [one for one in members_of(cluster.machines.values()) if one.up]
    return [one.name for one in members if all(one.node_id in placement.node_ids for placement in placements)]


def simulate(mix: Mix, watch: Callable[[Cluster], None] = lambda cluster: None) -> Verdict:
    """Runs one seed. `watch` is called with its cluster before anything happens."""
    verdict = Verdict(mix)
    kept: list[Simulation] = []

    async def scenario(cluster: Cluster) -> None:
        simulation = Simulation(mix, cluster)
        kept.append(simulation)
        watch(cluster)
        await simulation.run()

    settings = {name.replace(".", "__"): value for name, value in mix.settings.items()}
    try:
        cluster.run(scenario, seed=mix.seed, nodes=mix.nodes, partitions=mix.partitions, **settings)
    except Exception as error:
        what = "nothing hangs" if isinstance(error, Stuck) else "no bug"
        verdict.violations.append(Violation(what, b"", f"{type(error).__name__}: {error}"))
        if not kept:
            raise
    simulation = kept[0]
    world, history = simulation.cluster, simulation.history
    verdict.violations = simulation.violations + verdict.violations
    verdict.digest, verdict.simulated_s = world.trace.digest, world.clock.now
    verdict.events, verdict.chunks, verdict.acknowledged = world.clock.events, world.network.chunks, history.acknowledged
    verdict.stale_reads = len(checkers.stale_reads(history, N, strict_only=False))
    verdict.faults = simulation.faults.counts
    verdict.rare = simulation.rare.counts
    verdict.probes = simulation.probes.counts | simulation.operator.counts | world.totals
    return verdict
