"""Which runs make up one round of the comparison, and in which order they are interleaved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.cluster import BenchCluster
from bench.compare.sides import Measurement, Side, check, measure, measure_with_checkpoints, prepare
from bench.compare.storage import storage_figures
from bench.redis_server import RedisServer
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.target import DynamoTarget, RespTarget
from dynamo_fast.load.workload import Workload

KEYS = 100_000
VALUE_BYTES = 100
WARMUP_S = 1.0


@dataclass(frozen=True)
class Servers:
    """All that runs during the comparison, by the name of its side, and the idle memory of our nodes."""

    sides: Mapping[str, Side]
    idle_bytes: list[int]


@contextmanager
def started(directory: Path) -> Iterator[Servers]:
    """Every server, on ports of its own below `directory`, filled and quiet; all are gone when the block ends."""
    with ExitStack() as stack:
        def redis(name: str, appendfsync: str = "everysec", replica_of: RedisServer | None = None) -> RedisServer:
            return stack.enter_context(RedisServer(directory / name, appendfsync=appendfsync, replica_of=replica_of))

        cluster = stack.enter_context(BenchCluster(directory / "cluster"))
        idle_bytes = cluster.resident_bytes()
        one, always, primary = redis("redis"), redis("redis-always", "always"), redis("redis-primary")
        replicas = [redis(f"redis-replica-{number}", replica_of=primary) for number in (1, 2)]
        primary.wait_replicas(len(replicas))

        def keys() -> KeySpace:
            return KeySpace(KEYS, VALUE_BYTES, VALUE_BYTES)

        ours = Side("put", DynamoTarget(cluster.servers, w=2, dw=0, r=2), keys(), cluster.pids, lambda: storage_figures(cluster))
        sides = {
            "put": ours,
            "put dw=2": replace(ours, name="put dw=2", target=DynamoTarget(cluster.servers, w=2, dw=2, r=2)),
            "redis": Side("redis", RespTarget([one.address]), keys(), [one.pid]),
            "redis always": Side("redis always", RespTarget([always.address]), keys(), [always.pid]),
            "redis wait": Side("redis wait", RespTarget([primary.address], wait_replicas=2), keys(),
                               [primary.pid, *(replica.pid for replica in replicas)]),
        }
        yield Servers(sides, idle_bytes)


@dataclass(frozen=True)
class Run:
    side: str
    workload: Workload
    puts_to_us: bool = False         # must span checkpoints


def runs(seconds: float, warmup_s: float) -> dict[str, Run]:
    """One round: name -> run. What is compared stands next to each other, so that the machine's moods hit both."""
    def workload(depth: int, gets: float = 0.0, connections: int = 50) -> Workload:
        return Workload(connections=connections, depth=depth, gets=gets, seconds=seconds, warmup_s=warmup_s)

    found: dict[str, Run] = {}
    for depth in (1, 16):
        at, put, get = f"depth {depth}", workload(depth), workload(depth, gets=1.0)
        found |= {f"put {at}": Run("put", put, True), f"redis set {at}": Run("redis", put)}
        if depth == 1:
            found["redis wait set depth 1"] = Run("redis wait", put)
        found |= {
            f"put dw=2 {at}": Run("put dw=2", put, True),
            f"redis always set {at}": Run("redis always", put),
            f"get {at}": Run("put", get),
            f"redis get {at}": Run("redis", get),
        }
    one = workload(1, connections=1)
    return found | {"put one connection": Run("put", one, True), "redis set one connection": Run("redis", one)}


def play(servers: Servers, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, list[Measurement]]:
    """All rounds, every second one backwards, then every key of every side read back. Raises ComparisonFailed.

    A single round is for trying things out: its runs may be too short for checkpoints.
    """
    plan = runs(seconds, WARMUP_S)
    measurements: dict[str, list[Measurement]] = {name: [] for name in plan}
    for name in ("put", "redis", "redis always", "redis wait"):
        say(f"filling {name}")
        prepare(servers.sides[name], Workload())
    for number in range(rounds):
        for name in list(plan) if number % 2 == 0 else list(reversed(plan)):
            run = plan[name]
            measurement = (measure_with_checkpoints if run.puts_to_us and rounds > 1 else measure)(servers.sides[run.side], run.workload)
            # A window that had to be longer stays so: the next round need not find that out again.
            plan[name] = replace(run, workload=replace(run.workload, seconds=measurement.seconds))
            measurements[name].append(measurement)
            say(f"round {number + 1} of {rounds}: {name}: {measurement.report.rate_per_s:,.0f}/s, "
                f"server CPU {measurement.server_cpu_us:.1f} us per request")
    for name in ("put", "redis", "redis always", "redis wait"):
        check(servers.sides[name], Workload())
    return measurements
