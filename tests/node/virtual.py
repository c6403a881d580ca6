"""Nodes in virtual time on a virtual network: the real control plane over real connections, whose bytes a task carries.

The data plane is a recorder of what it was told, the disk a dict that can refuse and that outlives its node. Nothing sleeps: trio's
clock jumps ahead whenever all tasks wait.
"""

import random
from collections.abc import Callable
from pathlib import Path, PurePath

import trio
import trio.testing

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.merkle import Forest
from dynamo_fast.env import Env
from dynamo_fast.node.config import Config, load_config
from dynamo_fast.node.identity import open_directory
from dynamo_fast.node.node import Node
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.wire.connection import Connection, PyFrameHandler
from tests.node.virtual_network import CARRY_S, End, Listener, Network, VirtualReactor

WALL_MS = 1_700_000_000_000


class Disk:
    """Files in memory. `refuse` makes every write fail; locks are held by whoever took them."""

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.locks: set[Path] = set()
        self.refuse: OSError | None = None
        self.replaced = 0
        self.after_replace: Callable[[], None] = lambda: None

    def make_directory(self, path: Path) -> None:
        if path in self.files:
            raise FileExistsError(path)

    def list(self, path: Path) -> list[str]:
        return sorted(file.name for file in self.files if file.parent == path)

    def read(self, path: Path) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def replace(self, path: Path, data: bytes) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.files[path] = data
        self.replaced += 1
        self.after_replace()

    def lock(self, path: PurePath) -> "Lock":
        if path in self.locks:
            raise BlockingIOError(11, "locked")
        self.locks.add(path)
        return Lock(self, path)


class Lock:
    def __init__(self, disk: Disk, path: PurePath) -> None:
        self.disk, self.path = disk, path

    def close(self) -> None:
        self.disk.locks.discard(self.path)


class RecordingDataPlane(PyFrameHandler):
    """Remembers what the control plane told it."""

    def __init__(self, control) -> None:
        self.control = control
        self.cluster: tuple[bytes, bytes] | None = None
        self.placement: tuple | None = None
        self.buckets: dict = {}
        self.up: dict[bytes, Connection] = {}
        self.draining = False
        self.requests_in_flight = self.oldest_request_us = 0
        self.hints_kept = 0

    def on_frame(self, connection, type, flags, status, request_id, body) -> None:
        self.control(connection, type, status, request_id, body)

    def on_closed(self, connection) -> None:
        self.control(connection, 0, 0, 0, b"")

    def set_cluster(self, cluster_id, mac_key) -> None:
        self.cluster = (cluster_id, mac_key)

    def set_placement(self, in_force, hosts, labels) -> None:
        self.placement = (in_force.name, in_force.reads.partitions, list(in_force.node_ids), list(hosts), list(labels))

    def set_buckets(self, settings) -> None:
        self.buckets = dict(settings)

    def peer_up(self, node_id, connection) -> None:
        self.up[node_id] = connection

    def peer_down(self, node_id) -> None:
        del self.up[node_id]

    def suspects(self, node_id) -> bool:
        return False

    def count_hints(self, bytes: int) -> None:
        assert bytes == 0

    def drain(self) -> None:
        self.draining = True

    async def wait_durable(self, position: int) -> None:
        await trio.lowlevel.checkpoint()

    def statistics(self) -> dict[str, object]:
        return {"puts": 0, "gets": 0}


class EmptyEngine:
    """An engine for nodes that are given no puts; tests of listing give another `records`."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.forest = Forest(64)
        self.read_only: str | None = None
        self.fullness = 0
        self.failed_fsync = False
        self.position = 0
        self.synced = self.closed = False
        self.suspects: set[int] = set()

    def suspect(self, partition: int) -> None:
        self.suspects.add(partition)

    def forgive(self, partition: int) -> None:
        self.suspects.discard(partition)

    def is_suspect(self, partition: int) -> bool:
        return partition in self.suspects

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [one for one in self.records if start <= one[0] < end][:limit]

    def holds(self, partition: int) -> bool:
        return False

    def recompute(self, partition: int, leaf: int, mac_key: bytes | None = None) -> LeafFindings:
        return LeafFindings()

    def sync_fileno(self) -> int | None:
        return None

    async def run(self, offload) -> None:
        await trio.sleep_forever()

    def flush(self) -> None:
        assert not self.closed

    def sync(self) -> None:
        self.synced = True

    def statistics(self) -> dict[str, object]:
        return {"records": len(self.records)}

    def close(self) -> None:
        self.closed = True


class VirtualEnv(Env):
    """Time from trio's clock, chance from a seed, sockets from the network, one disk."""

    def __init__(self, network: Network, address: str, seed: int, disk: Disk) -> None:
        self.network, self.address, self.disk = network, address, disk
        self.rng = random.Random(f"{seed} {address}")

    def now(self) -> float:
        return trio.current_time()

    def wall_ms(self) -> int:
        return WALL_MS + int(trio.current_time() * 1000)

    def random_bytes(self, n: int) -> bytes:
        return self.rng.randbytes(n)

    def random(self) -> float:
        return self.rng.random()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        await trio.lowlevel.checkpoint()
        if host.startswith("nowhere"):
            raise OSError(-2, "Name or service not known")
        return self.network.names.get(host, [(host, port)])

    async def dial(self, host: str, port: int) -> End:
        await trio.sleep(CARRY_S)
        return self.network.dial(f"{host}:{port}", self.address)

    def listen(self, host: str, port: int) -> Listener:
        return Listener(f"{host}:{port}")

    def machine_name(self) -> str:
        return "machine"

    def process_statistics(self) -> dict[str, float]:
        return {"resident_bytes": 1}

    async def offload(self, function, *args):
        await trio.sleep(CARRY_S)
        return function(*args)


class VirtualNode:
    """One node that can be stopped like a crash and started again on the same disk."""

    def __init__(self, world: "World", address: str, **flags: object) -> None:
        self.world, self.address = world, address
        self.flags = flags
        self.disk = Disk()
        self.starts = 0
        self.scope: trio.CancelScope | None = None
        self.stop = trio.Event()
        self.node: Node | None = None
        self.failure: Exception | None = None
        self.ended: bool | None = None  # what `run` returned

    @property
    def config(self) -> Config:
        given = {"node.listen": self.address, "node.insecure_listen": True, "node.host": f"at {self.address}", "cluster.partitions": 64}
        return load_config(flags=given | {key.replace("__", "."): value for key, value in self.flags.items()})

    async def run(self, task_status=trio.TASK_STATUS_IGNORED) -> None:
        """Until it is stopped, drained or fails to start."""
        self.starts += 1
        self.stop, self.node, self.failure = trio.Event(), None, None
        env = VirtualEnv(self.world.network, self.address, self.world.seed + 1000 * self.starts, self.disk)
        self.engine = self.make_engine()
        with trio.CancelScope() as self.scope:
            directory = None
            try:
                directory = open_directory(Path("/data"), env)
                own = NodeEntry(id=directory.node_id, address=self.address, host=self.config.node.host, zone="", weight=100)
                self.node = Node(self.config, env, directory, own, self.engine, self.build_loop)
                task_status.started()
                self.ended = await self.node.run(Listener(self.address), self.stop, lambda address: None)
            except Exception as error:
                self.failure = error
                if self.node is None:
                    task_status.started()
            finally:
                if directory is not None:
                    directory.close()

    def make_engine(self):
        return EmptyEngine()

    def build_loop(self, config, env, node_id, engine, control, storage_failed):
        data_plane = RecordingDataPlane(control)
        return data_plane, VirtualReactor(data_plane, self.world.network)

    def crash(self) -> None:
        assert self.scope is not None
        self.scope.cancel()

    @property
    def id(self) -> bytes:
        return self.node.cluster.node_id

    @property
    def view(self):
        return self.node.cluster.view

    @property
    def peers(self) -> set[bytes]:
        return set(self.node.peers.up)

    @property
    def told(self) -> RecordingDataPlane:
        return self.node.data_plane


class World:
    """Some nodes, one network, one nursery."""

    def __init__(self, nursery: trio.Nursery, seed: int) -> None:
        self.nursery, self.seed = nursery, seed
        self.network = Network()

    async def start(self, *nodes: VirtualNode) -> None:
        for node in nodes:
            await self.nursery.start(node.run)

    async def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        """Virtual time passes until the condition holds; fails the test when it does not in time."""
        with trio.fail_after(within_s):
            while not condition():  # noqa: ASYNC110  whatever the condition is about, time is what passes
                await trio.sleep(0.01)


def in_virtual_time(scenario: Callable[..., object], *args: object, seed: int = 1) -> None:
    """Runs `scenario(world, *args)` under a clock that jumps."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scenario(World(nursery, seed), *args)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
