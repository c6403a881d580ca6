"""One machine: a disk that outlives its processes, a power cord, and at most one process at a time, which runs the real node.

What happens to a machine happens between two passes of its process, except that a process can be told to die inside its next pass,
before or after the log write: that is where `kill -9` hurts. Everything here that is not async is called from the clock's agenda.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.node.config import Config, load_config
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.node.identity import open_directory
from dynamo_fast.node.node import Node
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.testing.disk import VirtualDisk
from dynamo_fast.testing.environment import VirtualEnv
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.testing.private import Life
from dynamo_fast.testing.reactor import Listener, VirtualReactor
from dynamo_fast.testing.state import State

if TYPE_CHECKING:
    from dynamo_fast.testing.cluster import Cluster

DATA = Path("/data")
WALL_MS = 1_700_000_000_000
RESTART_S = 1.0  # after a failed fsync, as `dynamo-fast serve` does
PORT = 7400


class Machine:
    """A machine of a Cluster, named as its host. `node` is the running Node, None while there is none."""

    def __init__(self, cluster: Cluster, name: str, settings: dict[str, Any]) -> None:
        self.cluster, self.name = cluster, name
        self.address = f"{name}:{PORT}"
        self.settings = settings  # of the node, by name with its section, over those of the cluster
        self.disk = VirtualDisk()
        self.engine = FaultyEngine(MemoryEngine(partitions=cluster.partitions), journal=True, dots=cluster.dots)
        self.forgive()  # a first start has lost nothing
        self.state = State.STOPPED
        self.node: Node | None = None
        self.node_id: bytes | None = None  # once its directory was opened
        self.starts = 0
        self.failure: BaseException | None = None  # why the last process ended by itself
        self.errors: list[Exception] = []  # bugs: what handling a frame has raised, in any of its processes
        self.wall_offset_ms = 0  # how far its clock on the wall is ahead
        self.sync_s = 0.0005  # what an fdatasync takes, in the mean
        self.pass_s = 0.00005  # what a pass of the loop takes, in the mean
        self.fail_next_sync: str | None = None
        self.die_in_pass: str | None = None  # "before the log write" or "after the log write" of its next pass that stores
        self._tail_in_doubt = False  # an fsync failed: what was written since the last one may be gone when the process is
        self._life = Life()
        self._scopes: list[tuple[Life, trio.CancelScope]] = []
        self._chance = random.Random(f"{cluster.seed} {name}")
        self._stop = trio.Event()
        self._succeeded = False  # whether another process is to follow the one that drains
        self._reactor: VirtualReactor | None = None
        self._ended = trio.Event()

    @property
    def config(self) -> Config:
        given = {"node.listen": self.address, "node.insecure_listen": True, "node.host": self.name} | self.cluster.settings | self.settings
        return load_config(flags=given)

    @property
    def entry(self) -> NodeEntry:
        """How its node presents itself, once its directory was opened."""
        assert self.node_id is not None, f"{self.name} has not started yet"
        own = self.config.node
        return NodeEntry(id=self.node_id, address=self.address, host=own.host, zone=own.zone, weight=own.weight)

    @property
    def up(self) -> bool:
        return self.state is State.RUNNING

    @property
    def destroyed(self) -> bool:
        return self.state is State.DESTROYED

    @property
    def reactor(self) -> VirtualReactor:
        """Of the process that runs."""
        assert self._reactor is not None, f"{self.name} is {self.state.value}"
        return self._reactor

    def reset_connections(self, chance: random.Random) -> bool:
        """Some of its connections break, at both ends; whether there were any."""
        return self._reactor is not None and self._reactor.reset(chance)

    def wall_ms(self) -> int:
        return max(0, WALL_MS + self.wall_offset_ms + int(self.cluster.clock.now * 1000))

    # Its process ----------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on whatever the disk holds; nothing if there is one, but that one that drains still has a successor. What was
        destroyed stays so.
        """
        if self.state is State.DESTROYED:
            return
        if self.state in (State.RUNNING, State.FROZEN):
            self._succeeded = self._stop.is_set()
            return
        if self.state is State.DARK:
            self.cluster.network.lighten(self.name)
        lost = self._chance.choice([self.engine.durable, *self.engine.positions()]) if self._tail_in_doubt else self.engine.written_to
        if self._tail_in_doubt:
            self.suspect()  # it is written down when an fsync fails
        self._tail_in_doubt = False
        self.engine.reopen(min(lost, self.engine.written_to))
        self.state, self.failure = State.RUNNING, None
        self.starts += 1
        self._stop, self._ended, self._succeeded = trio.Event(), trio.Event(), False
        life = self._life = Life()
        life.context.run(self.cluster.nursery.start_soon, self._process, life)

    async def _process(self, life: Life) -> None:
        cluster = self.cluster
        chance = random.Random(f"{cluster.seed} {self.name} {self.starts}")
        env = VirtualEnv(cluster.clock, cluster.network, self.name, self.disk, chance, self.wall_ms, cluster.rarely)
        config = self.config
        again = False
        with trio.CancelScope() as scope:
            self._scopes.append((life, scope))
            try:
                directory = await env.offload(open_directory, DATA, env)
                self.node_id = directory.node_id
                self.engine.on_sync = lambda: self._start_sync(life)
                self.node = Node(config, env, directory, self.entry, self.engine, self._builder(life, chance))  # type: ignore[arg-type]
                self.cluster.on_node(self, self.node)
                again = await self.node.run(Listener(self.address), self._stop, lambda address: None)  # type: ignore[arg-type]
            except Exception as error:
                self.failure = error
                cluster.process_failed(self, error)
        if life is self._life and self.state is State.RUNNING:
            self._gone(State.STOPPED)
            if again or self._succeeded:
                cluster.clock.after(RESTART_S, self._start_again, self.starts)

    def _start_again(self, starts: int) -> None:
        if self.starts == starts and self.state is State.STOPPED:
            self.start()

    def _builder(self, life: Life, chance: random.Random) -> Callable[..., tuple[DataPlane, VirtualReactor]]:
        def build(config: Config, env: VirtualEnv, node_id: bytes, engine: FaultyEngine, control: Any, storage_failed: Any) -> Any:
            plane = DataPlane(
                node_id=node_id, nonce=int.from_bytes(env.random_bytes(8), "little"), engine=engine, limits=config.limits,
                requests=config.requests, cluster_defaults=config.defaults, random_bytes=env.random_bytes,
                now_ms=int(env.now() * 1000), control=control, storage_failed=storage_failed,
            )  # fmt: skip
            cluster = self.cluster
            self._reactor = VirtualReactor(
                plane, cluster.network, cluster.clock, self.name, life, config.limits, self.wall_ms, chance, self.pass_s
            )
            self._reactor.before_pass, self._reactor.before_send = self._before_pass, self._before_send
            self._reactor.errors = self.errors
            return plane, self._reactor

        return build

    def add_up(self) -> None:
        """The counters of the process that ends here go to the cluster's totals."""
        if self.node is not None:
            totals = self.cluster.totals
            for name, value in self.node.data_plane.statistics().items():
                if type(value) is int and value:
                    totals[name] = totals.get(name, 0) + value

    def _gone(self, state: State) -> None:
        self.add_up()
        if self.node is not None:
            self.node.data_plane.close()
        self.state, self.node, self._reactor = state, None, None
        self.disk.forget_locks()
        self._ended.set()

    # Its disk -------------------------------------------------------------------------------------------------------------------------

    def _start_sync(self, life: Life) -> None:
        took_s = self._chance.expovariate(1.0) * self.sync_s
        self.cluster.clock.after(took_s, self._finish_sync, life, self.engine.written_to)

    def _finish_sync(self, life: Life, position: int) -> None:
        if life is not self._life or self.state not in (State.RUNNING, State.FROZEN):
            return
        if self.fail_next_sync is not None:
            self.engine.fail_sync(self.fail_next_sync)
            self.fail_next_sync, self._tail_in_doubt = None, True
        else:
            self.engine.finish_syncs(position)
        if self._reactor is not None:
            self._reactor.synced()

    def _before_send(self) -> bool:
        """Between a pass's log write and its sends."""
        if self.die_in_pass is None or self.engine.position == self._stored_at:
            return True
        before = self.die_in_pass == "before the log write"
        self.die_in_pass = None
        self.cluster.clock.at(0, self.kill, self._stored_at if before else None)
        return False

    def _before_pass(self) -> None:
        self.cluster.dots.now_s = self.cluster.clock.now
        self._stored_at = self.engine.position  # what tasks have stored between passes they have written

    _stored_at = 0  # log position before this pass

    def own_records(self) -> list[bytes]:
        """The store keys of what it holds as a home; none while it knows of no placement."""
        if self.node is None or self.node.cluster.placement is None:
            return []
        homes = self.cluster.homes_of_partitions()
        records = self.engine.scan(bytes(24), b"\xff" * 24, 1000)
        return [store_key for store_key, _ in records if self in homes[self.engine.forest.place(store_key[:16])[0]]]

    # What can happen to it ----------------------------------------------------------------------------------------------------------

    def kill(self, written_to: int | None = None) -> None:
        """kill -9: no task of it runs any more, its kernel closes its connections, what the log was given is in the page cache.

        written_to: the log write of its last pass did not happen, and the log ends there.
        """
        if self.state not in (State.RUNNING, State.FROZEN):
            return
        if self._reactor is not None:
            self._reactor.die(silently=False)
        self._life.freeze()
        if written_to is not None and written_to >= self.engine.durable:
            self.engine.reopen(written_to)
        self._gone(State.STOPPED)

    def cut_power(self, *, at_worst: bool = False) -> None:
        """Nothing is said any more, and of what was not synced a prefix survives, down to a record in the middle of a pass.

        at_worst: nothing of it survives.
        """
        if self.state in (State.DARK, State.DESTROYED):
            return
        if self._reactor is not None:
            self._reactor.die(silently=True)
        self._life.freeze()
        self.cluster.network.darken(self.name)
        written = [position for position in self.engine.positions() if position <= self.engine.written_to]
        self.engine.reopen(self.engine.durable if at_worst else self._chance.choice([self.engine.durable, *written]))
        self.suspect()
        self._gone(State.DARK)

    def destroy(self) -> None:
        """The machine is gone for good, with all that it held, and nobody is told."""
        self.cut_power()
        self.disk.files = {}
        self.engine.replace_disk({})
        self.state = State.DESTROYED

    def freeze(self) -> None:
        """SIGSTOP: its kernel still takes what is sent to it."""
        if self.state is State.RUNNING:
            self.state = State.FROZEN
            self._life.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.state is State.FROZEN:
            self.state = State.RUNNING
            self._life.thaw()
            if self._reactor is not None:
                self._reactor.resume()

    def stop(self) -> None:
        """SIGTERM: it drains, then ends."""
        self._stop.set()

    async def wait_ended(self) -> None:
        """Returns when there is no process."""
        await self._ended.wait()

    def snapshot(self) -> tuple[dict[Path, bytes], dict[bytes, bytes]]:
        """All that the disk holds, as a backup."""
        return dict(self.disk.files), self.engine.surviving(self.engine.written_to)

    def restore(self, backup: object) -> None:
        """The disk of a machine that is off holds what a backup held."""
        assert self.state in (State.STOPPED, State.DARK), "restore a machine that runs"
        assert isinstance(backup, tuple), "a backup is what `snapshot` has made"
        self.disk.files = dict(backup[0])
        self.engine.replace_disk(backup[1])

    def wipe(self) -> None:
        """The records are gone; the identity and what is known of the cluster were kept elsewhere."""
        assert self.state in (State.STOPPED, State.DARK), "wipe a machine that runs"
        self.engine.replace_disk({})
        self.suspect()

    def suspect(self) -> None:
        """The engine knows that it may have lost something of everything, as the one on a disk knows after a cut of power."""
        for partition in range(self.cluster.partitions):
            self.engine.suspect(partition)

    def forgive(self) -> None:
        """All that it may have lost is there again."""
        for partition in range(self.cluster.partitions):
            self.engine.forgive(partition)

    def fill_disk(self) -> None:
        """No write finds room any more, until `empty_disk`."""
        self.engine.failure = "no space left on device"
        self.disk.refusal = OSError(28, "No space left on device")

    def empty_disk(self) -> None:
        self.disk.refusal = None
        self.engine.heal()

    def finish(self) -> None:
        """The simulation is over and judged: whatever was dead or stood still may now end, unheard."""
        for life, scope in self._scopes:
            scope.cancel()
            if life.frozen:
                life.thaw()
