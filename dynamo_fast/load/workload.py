"""What to load and how hard: the parameters of a run, their bounds, and the run itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from dynamo_fast.load.draw import Draw
from dynamo_fast.load.generator import Generator
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import Report, report_of
from dynamo_fast.load.target import Target

CONNECTIONS_MAX = 10_000


@dataclass(frozen=True)
class Workload:
    """One run over one key space. Raises ValueError for values outside their bounds."""

    connections: int = 50            # 1..10000, spread evenly over the servers
    depth: int = 1                   # requests in flight per connection, 1..65536
    gets: float = 0.0                # share of gets, 0..1; the rest are puts
    order: str = "uniform"           # how keys are drawn: uniform, zipf, or once (each key once, then the run ends)
    zipf_exponent: float = 0.99      # above 0, at most 4
    rate_per_s: float = 0.0          # 0: closed loop; above: open loop with so many requests due per second
    warmup_s: float = 1.0            # at the start, not counted
    seconds: float = 10.0            # length of the window, 0..86400; 0: until `operations` are done
    operations: int = 0              # 0: no bound
    silence_s: float = 10.0          # without any answer for so long a run is given up
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= CONNECTIONS_MAX:
            raise ValueError(f"a load has 1..{CONNECTIONS_MAX} connections, not {self.connections}")
        if not 0 <= self.seconds <= 86400 or not 0 <= self.warmup_s <= 86400:
            raise ValueError("a window and its warm-up last 0..86400 s each")
        if self.order == "once" and self.rate_per_s:
            raise ValueError("each key once is a closed loop: it takes no rate")
        if self.order != "once" and not self.seconds and not self.operations:
            raise ValueError("a run ends after some seconds or some operations: give one of them")


def run(target: Target, keys: KeySpace, workload: Workload, progress: Callable[[int], None] | None = None) -> Report:
    """Run one workload against one target; contexts and values stay in `keys` for the next run.

    Raises LoadError when the run breaks, OSError when a server cannot be reached. What went wrong inside replies is in
    the report's `problems`.
    """
    draw = Draw(keys, workload.order, exponent=workload.zipf_exponent, seed=workload.seed,
                group_of=target.group_of(keys), groups=len(target.servers))
    connections = target.connect(workload.connections)
    try:
        generator = Generator(target.protocol, keys, draw, connections, depth=workload.depth, gets=workload.gets,
                              rate_per_s=workload.rate_per_s, seed=workload.seed + 1)
        cpu_before_s = time.process_time()
        generator.run(warmup_s=workload.warmup_s, seconds=workload.seconds, operations=workload.operations,
                      silence_s=workload.silence_s, progress=progress)
        return report_of(generator.score, target.status_names, time.process_time() - cpu_before_s)
    finally:
        for socket, _ in connections:
            socket.close()


def fill(target: Target, keys: KeySpace, workload: Workload, progress: Callable[[int], None] | None = None) -> Report:
    """Put every key once, as fast as the workload's connections allow."""
    return run(target, keys, each_once(target, workload, gets=0.0), progress)


def verify(target: Target, keys: KeySpace, workload: Workload, progress: Callable[[int], None] | None = None) -> Report:
    """Get every key once: siblings and values that are not the last ones written show in the report."""
    return run(target, keys, each_once(target, workload, gets=1.0), progress)


def each_once(target: Target, workload: Workload, gets: float) -> Workload:
    # A server without a connection would keep the keys that go through it to itself.
    connections = max(workload.connections, len(target.servers))
    return replace(workload, connections=connections, order="once", gets=gets, depth=min(workload.depth, 16), rate_per_s=0.0, warmup_s=0.0,
                   seconds=0.0, operations=0)
