"""One machine: a disk that outlives its processes, and at most one process at a time, which is a data plane.

What can happen to it is what can happen to a machine of the other tier (`machine.py`), by the same names, so that the same faults strike
both. A pass takes all that has arrived while the machine was busy or stood still.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from dynamo_fast.node.exchange import Trust
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.testing.planes import End, PlaneNode, new_engine
from dynamo_fast.testing.reactor import TICK_S
from dynamo_fast.testing.state import State
from dynamo_fast.wire.connection import Connection

if TYPE_CHECKING:
    from dynamo_fast.testing.core.world import World

RESTART_S = 0.5  # after a failed fsync
DRAIN_S = 0.2
ALL = (bytes(24), b"\xff" * 24, 1 << 40)  # of the store keys


class Machine:
    """The machine of a World with that number; it starts out with a process that has held nothing yet."""

    def __init__(self, world: World, number: int, name: str) -> None:
        self.world, self.number, self.name = world, number, name
        self.engine = new_engine(world.partitions, journal=True, dots=world.dots)
        self.state = State.STOPPED
        self.destroyed = False
        self.life = 0  # counts processes: what belongs to an earlier one happens no more
        self.wall_offset_ms = 0
        self.sync_s = 0.0005
        self.pass_s = world.pass_s
        self.fail_next_sync: str | None = None
        self.die_in_pass: str | None = None
        self.errors: list[Exception] = []  # what handling a frame has raised, in any of its processes
        self.trust = Trust(2)
        self._chance = random.Random(f"{world.seed} {name}")
        self._arrived: list[tuple[Connection, bytes]] = []
        self._ended: list[tuple[End, str]] = []  # connections of which it has not read yet that they are over
        self._pass_ahead = self._ticking = self._synced = False
        self._busy_until_s = 0.0
        self._tail_in_doubt = self._draining = self._succeeded = False
        self._durable: list[tuple[int, Callable[[], None]]] = []  # log position, and whom to call when the disk has come that far

    @property
    def node(self) -> PlaneNode:
        return self.world.nodes[self.number]

    @property
    def up(self) -> bool:
        return self.state is State.RUNNING

    @property
    def well(self) -> bool:
        """Whether its process runs and is not about to end: it neither drains nor is it to restart because an fsync failed."""
        return self.up and not self._draining and not self.engine.failed_fsync

    # Its process ----------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on whatever the disk holds; nothing if there is one, but that one that drains has a successor. What was destroyed
        stays so."""
        if self.destroyed:
            return
        if self.state in (State.RUNNING, State.FROZEN):
            self._succeeded = self._draining
            return
        lost = self._chance.choice([self.engine.durable, *self.engine.positions()]) if self._tail_in_doubt else self.engine.written_to
        if self._tail_in_doubt:
            self.suspect()  # it is written down when an fsync fails
        self._tail_in_doubt = self._draining = self._succeeded = False
        self.engine.reopen(min(lost, self.engine.written_to))
        self.state = State.RUNNING
        self.life += 1
        self._pass_ahead = self._ticking = self._synced = False
        self._busy_until_s = 0.0
        self.trust = Trust(2)
        self.engine.on_sync = self._start_sync
        self.world.open(PlaneNode(self.world, self.number, self.engine, self._chance.getrandbits(64)))

    def receive(self, connection: Connection, data: bytes) -> None:
        self._arrived.append((connection, data))
        if self.state is State.RUNNING and not self._pass_ahead:
            self._soon()

    def hear_end(self, end: End, reason: str) -> None:
        """A connection is over; the process finds that out when it has read what came before."""
        self._ended.append((end, reason))
        self._soon()

    def _soon(self) -> None:
        """A pass, now if the process is free."""
        if self._pass_ahead or self.state is not State.RUNNING:
            return
        if self._busy_until_s > self.world.clock.now:
            self._pass_ahead = True
            self.world.clock.at(self._busy_until_s, self._pass_then, self.life)
        else:
            self._pass()

    def _pass_then(self, life: int) -> None:
        if life == self.life:
            self._pass_ahead = False
            if self.state is State.RUNNING:
                self._pass()

    def _pass(self) -> None:
        world, node = self.world, self.node
        arrived, self._arrived = self._arrived, []
        synced, self._synced = self._synced, False
        stored_at = self.engine.position if self.die_in_pass is not None else 0
        world.look_at_the_clock()
        world.make_pass(node, arrived, wall_offset_ms=self.wall_offset_ms, synced=synced)
        if self.die_in_pass is not None and self.engine.position != stored_at:
            before, self.die_in_pass = self.die_in_pass == "before the log write", None
            self.kill(stored_at if before else None)
            return
        world.collect(node)
        while self._ended:
            world.lose(*self._ended.pop(0))
        if self.pass_s:
            self._busy_until_s = world.clock.now + self._chance.random() * 2 * self.pass_s
        if not self._ticking and node.plane.needs_ticks:
            self._ticking = True
            world.clock.after(TICK_S, self._tick, self.life)

    def _tick(self, life: int) -> None:
        if life == self.life:
            self._ticking = False
            self._soon()

    # Its disk -------------------------------------------------------------------------------------------------------------------------

    def _start_sync(self) -> None:
        self.world.clock.after(self._chance.expovariate(1.0) * self.sync_s, self._finish_sync, self.life, self.engine.written_to)

    def _finish_sync(self, life: int, position: int) -> None:
        if life != self.life or self.state not in (State.RUNNING, State.FROZEN):
            return
        if self.fail_next_sync is not None:
            self.engine.fail_sync(self.fail_next_sync)
            self.fail_next_sync, self._tail_in_doubt = None, True
            self.world.clock.after(RESTART_S, self._restart, life)
        else:
            self.engine.finish_syncs(position)
        self._synced = True
        self._soon()
        while self._durable and self._durable[0][0] <= self.engine.durable:
            self._durable.pop(0)[1]()

    def _restart(self, life: int) -> None:
        if life != self.life:
            return
        if self.state is State.FROZEN:
            self.world.clock.after(RESTART_S, self._restart, life)
            return
        self.kill()
        self.start()

    def when_durable(self, then: Callable[[], None]) -> None:
        """Calls when everything that has been stored so far is on disk; never, if the process ends before."""
        self._durable.append((self.engine.position, then))
        self.engine.sync()

    # What can happen to it ------------------------------------------------------------------------------------------------------------

    def kill(self, written_to: int | None = None) -> None:
        """kill -9: its kernel closes its connections, what the log was given is in the page cache.

        written_to: the log write of its last pass did not happen, and the log ends there.
        """
        if self.state not in (State.RUNNING, State.FROZEN):
            return
        if written_to is not None and written_to >= self.engine.durable:
            self.engine.reopen(written_to)
        self._gone(State.STOPPED)

    def cut_power(self) -> None:
        """Nothing is said any more, and of what was not synced a prefix survives, down to a record in the middle of a pass."""
        if self.state is State.DARK:
            return
        written = [position for position in self.engine.positions() if position <= self.engine.written_to]
        self.engine.reopen(self._chance.choice([self.engine.durable, *written]))
        self.suspect()
        self._gone(State.DARK)

    def destroy(self) -> None:
        """The machine is gone for good, with all that it held, and nobody is told."""
        self.cut_power()
        self.engine.replace_disk({})
        self.destroyed = True

    def retire(self) -> None:
        """Its node has found out that it was declared dead, and serves nothing any more."""
        self.kill()
        self.destroyed = True

    def _gone(self, state: State) -> None:
        if self.state in (State.RUNNING, State.FROZEN):
            self.errors += self.node.errors
            self.world.add_up(self.node)
        self.state = state
        self.life += 1
        self._arrived.clear()
        self._ended.clear()
        self._durable.clear()
        self.world.end_process(self, silently=state is State.DARK)

    def freeze(self) -> None:
        """SIGSTOP: its kernel still takes what is sent to it."""
        if self.state is State.RUNNING:
            self.state = State.FROZEN

    def thaw(self) -> None:
        """SIGCONT."""
        if self.state is State.FROZEN:
            self.state = State.RUNNING
            self._soon()

    def stop(self) -> None:
        """SIGTERM: it drains, then ends."""
        if self.state is State.RUNNING:
            self.node.plane.drain()
            self._draining = True
            self.world.clock.after(DRAIN_S, self._drained, self.life)

    def _drained(self, life: int) -> None:
        if life == self.life:
            again = self._succeeded
            self.kill()
            if again:
                self.start()

    def reset_connections(self, chance: random.Random) -> bool:
        """Some of its connections break, at both ends; whether there were any."""
        return self.world.reset(self.number, chance)

    def snapshot(self) -> object:
        """All that the disk holds, as a backup."""
        return self.engine.surviving(self.engine.written_to), self.world.members[self.number].known.copy()

    def restore(self, backup: object) -> None:
        """The disk of a machine that is off holds what a backup held; its node finds out that others have seen it start more often."""
        assert isinstance(backup, tuple), "a backup is what `snapshot` has made"
        records, known = backup
        self.engine.replace_disk(records)
        self.world.members[self.number].known = known.copy()
        self.suspect()

    def wipe(self) -> None:
        """The records are gone; the identity and what is known of the cluster were kept elsewhere."""
        self.engine.replace_disk({})
        self.suspect()

    def suspect(self) -> None:
        for partition in range(self.world.partitions):
            self.engine.suspect(partition)

    def fill_disk(self) -> None:
        """No write finds room any more, until `empty_disk`."""
        self.engine.failure = "no space left on device"

    def empty_disk(self) -> None:
        self.engine.heal()

    # What it holds ------------------------------------------------------------------------------------------------------------------

    def own_records(self) -> list[bytes]:
        """The store keys of what it holds as a home."""
        world, forest = self.world, self.engine.forest
        return [key for key, _ in self.engine.scan(*ALL) if self.number in world.ring.homes_of(forest.place(key[:16])[0])]

    def packed_on_disk(self, store_key: bytes) -> bytes | None:
        """What the worst loss of power would leave of a record, as replicas exchange it."""
        record = self.engine.on_disk(store_key)
        return None if record is None else decode_record(record).packed

    def scrub(self) -> None:
        """The trees are told of every record that cannot be read any more."""
        for store_key in sorted(self.engine.rotten):
            self.engine.recompute(*self.engine.forest.place(store_key[:16]))
