"""Real processes under faults, with users at work; then healing, rest, and judgement (judge.py). Longer than `make test` has time for:

    python -m tests.live.torment --minutes 10 --nodes 5 --network namespaces

A fault is drawn again and again: a node is killed with SIGKILL or paused, the network is split in halves, one node is isolated, or unheard,
or is the only bridge, connections are reset, one node's disk is full. After each there is some peace, and then the next; at the end of each
round everything is healed and judged. A failure is told with its seed; real processes do not repeat themselves to the byte, though.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import trio

import dynamo_fast
from bench.compare.rows import Row
from dynamo_fast.testing.checkers import Violation
from tests.live import judge, namespaces
from tests.live.cluster import Cluster, Node
from tests.live.namespaces import Namespaces
from tests.live.network import Network, Proxies
from tests.live.users import Record, User
from tests.reliability.rows import Measured, arguments, report

# Small bounds, so that checkpoints and new log segments are under way as well; members compare what they hold every second.
CONFIG = """
[storage]
log_bytes_max = 8388608
log_segment_bytes = 1048576
write_buffer_bytes_max = 4194304
[anti_entropy]
round_s = 1
"""
USERS = 24
ROUND_S = 60.0
DISK_BYTES = 24 << 20


class World:
    """A cluster, its network, users at work, and what may be done to them."""

    def __init__(self, cluster: Cluster, network: Network, seed: int) -> None:
        self.cluster, self.network, self.seed = cluster, network, seed
        self.chance = random.Random(f"{seed} faults")
        self.record = Record()
        self.faults: Counter[str] = Counter()
        self.rest_s = 0.0  # the longest time until all was well again without anybody's help

    @contextlib.asynccontextmanager
    async def clients(self) -> AsyncIterator[list[dynamo_fast.Client]]:
        """Two, so that not all users share put ids, latencies and routes."""
        async with contextlib.AsyncExitStack() as stack:
            connect = dynamo_fast.connect
            yield [await stack.enter_async_context(connect(self.cluster.addresses, dial=self.network.dial)) for _ in range(2)]

    async def round(self, mischief: Callable[[World], Awaitable[None]]) -> list[Violation]:
        """Users work while `mischief(world)` runs. Then: what is wrong, if anything. The cluster runs again when this returns."""
        stopped = False
        async with self.clients() as clients:
            async with trio.open_nursery() as nursery:
                for number in range(USERS):
                    chance = random.Random(f"{self.seed} user {number} {len(self.record.history.writes)}")
                    user = User(f"user{number}", clients[number % 2], self.record, chance)
                    nursery.start_soon(user.run, lambda: stopped)
                await mischief(self)
                stopped = True
            await self.heal()
            self.rest_s = max(self.rest_s, await judge.come_to_rest(self.cluster, clients[0]))
            placement = await clients[0].cluster.placement()
        codes = await trio.to_thread.run_sync(self.cluster.terminate)
        found = [Violation("no process dies of an error", b"", f"node {one} ended with {code}") for one, code in enumerate(codes) if code]
        found += judge.diverged(self.cluster, placement)
        self.cluster.start()
        await trio.to_thread.run_sync(self.cluster.wait_ready)
        async with self.clients() as clients:
            found += judge.broken_promises(self.record, await judge.final_versions(self.record, clients[0]))
        logs = [node.index for node in self.cluster if "Traceback" in node.log()]
        return found + [Violation("no bug", b"", f"node {one} logged a traceback") for one in logs]

    async def heal(self) -> None:
        """Whatever was done to them is undone; returns when all nodes serve and see each other."""
        self.network.heal()
        for node in self.cluster:
            if node.running:
                node.resume()
            else:
                node.start()
        await trio.to_thread.run_sync(self.cluster.wait_ready)

    # Faults. Each lasts until some writes have been acknowledged, whatever the time that takes, and says how many.

    async def kill(self, node: Node, acknowledged: int) -> None:
        node.kill()
        await self.record.more(acknowledged)
        node.start()
        await trio.to_thread.run_sync(self.cluster.wait_ready)

    async def pause(self, node: Node, acknowledged: int) -> None:
        node.pause()
        try:
            await self.record.more(acknowledged)
        finally:
            node.resume()

    async def cut(self, how: str, acknowledged: int) -> None:
        """halves, isolated, one-way or bridge: then so many writes, while it lasts."""
        order = list(range(len(self.cluster)))
        self.chance.shuffle(order)
        half = len(order) // 2
        if how == "halves":
            self.network.split(order[:half], order[half:])
        elif how == "isolated":
            self.network.isolate(order[0])
        elif how == "bridge":
            self.network.split(order[: half + 1], order[half:])
        elif how == "one-way":
            for other in order[1:]:
                self.network.cut(order[0], other)
        else:
            raise ValueError(how)
        await self.record.more(acknowledged)
        self.network.heal()

    async def fill_disk(self, node: Node, acknowledged: int) -> None:
        """The file system under the node's data has no room left, for so many writes."""
        ballast = node.data_dir / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        try:
            await self.record.more(acknowledged)
        finally:
            ballast.unlink()


@contextlib.contextmanager
def small_disk(node: Node) -> Iterator[None]:
    """The node's data directory is a small file system of its own. CalledProcessError where mounting is not allowed."""
    node.data_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", node.data_dir], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", node.data_dir], check=True)


async def mischief(world: World, seconds: float, with_disk: bool) -> None:
    """Fault after fault, until the time is over."""
    chance, cluster = world.chance, world.cluster
    end = time.monotonic() + seconds
    kinds = ["kill", "pause", "pause briefly", "halves", "isolated", "one-way", "bridge", "two away"]
    kinds += ["reset"] if isinstance(world.network, Proxies) else ["unplugged"]
    kinds += ["full disk"] if with_disk else []
    while time.monotonic() < end:
        kind, node, acknowledged = chance.choice(kinds), chance.choice(cluster.nodes), chance.choice((50, 200, 1000))
        world.faults[kind] += 1
        if kind == "kill":
            await world.kill(node, acknowledged)
        elif kind == "pause":
            await world.pause(node, acknowledged)
        elif kind == "pause briefly":
            node.pause()
            await trio.sleep(chance.uniform(0.05, 0.5))
            node.resume()
        elif kind == "two away":
            other = chance.choice([one for one in cluster if one is not node])
            async with trio.open_nursery() as nursery:
                for one in (node, other):
                    nursery.start_soon(world.pause, one, 50)
        elif kind == "reset":
            assert isinstance(world.network, Proxies)
            world.network.reset()
        elif kind == "unplugged":
            assert isinstance(world.network, Namespaces)
            world.network.unplug(node.index)
            await world.record.more(acknowledged)
            world.network.heal()
        elif kind == "full disk":
            await world.fill_disk(cluster[0], acknowledged)
        else:
            await world.cut(kind, acknowledged)
        await world.record.more(chance.choice((0, 100, 500)))


async def rounds(world: World, minutes: float, with_disk: bool) -> list[Violation]:
    """Rounds of a minute each, until something is wrong."""
    found: list[Violation] = []
    end = time.monotonic() + 60 * minutes
    while not found and (left_s := end - time.monotonic()) > 0:
        async def one(world: World, seconds: float = min(ROUND_S, left_s)) -> None:
            await mischief(world, seconds, with_disk)

        found = await world.round(one)
        print(f"{world.record.acknowledged} writes acknowledged, {world.faults.total()} faults, {len(found)} wrong", flush=True)
    return found


def torment(minutes: float, nodes: int, network: Network, seed: int) -> Measured:
    print(f"seed {seed}: {nodes} nodes, {type(network).__name__}", flush=True)
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-torment-") as directory, network, contextlib.ExitStack() as stack:
        cluster = Cluster(Path(directory), nodes, config=CONFIG, network=network)
        with_disk = True
        try:
            stack.enter_context(small_disk(cluster[0]))
        except (FileNotFoundError, subprocess.CalledProcessError):
            with_disk = False
        world = World(cluster, network, seed)
        with cluster:
            cluster.wait_ready()
            found = trio.run(rounds, world, minutes, with_disk)
            if found:
                print(f"seed {seed}:", *found[:50], cluster.log_ends(), sep="\n", flush=True)
    evidence = {
        "nodes": nodes, "network": type(network).__name__, "small disk": with_disk, "seed": seed, "acknowledged": world.record.acknowledged,
        "faults": dict(world.faults), "longest until at rest, s": round(world.rest_s, 1), "requests": dict(world.record.outcomes),
    }  # fmt: skip
    name = f"real processes under faults, {nodes} nodes: broken promises"
    return [(Row(name, float(len(found)), "violations", 0.0, at_most=True), evidence)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--network", choices=["namespaces", "proxies"], help="default: namespaces where they are allowed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    real = given.network == "namespaces" if given.network else namespaces.allowed()
    return report(given.output, lambda: torment(given.minutes, given.nodes, Namespaces() if real else Proxies(), given.seed))


if __name__ == "__main__":
    sys.exit(main())
