"""What a seed came to, in either tier."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.swarm import Mix


@dataclass
class Verdict:
    """What a seed came to."""

    mix: Mix
    violations: list[Violation] = field(default_factory=list)
    digest: str = ""  # of the trace
    cpu_s: float = 0.0
    simulated_s: float = 0.0
    events: int = 0  # of the agenda
    chunks: int = 0  # of bytes delivered
    acknowledged: int = 0
    stale_reads: int = 0  # of sloppy reads: what linearizability would forbid
    faults: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)  # branches taken on purpose, by site
