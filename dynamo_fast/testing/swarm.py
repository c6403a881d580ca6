"""What one seed tries: sizes, options, habits of the clients and kinds of faults, drawn anew for each, so that seeds differ in kind.

A mix that always had everything in it would rarely let anything finish; many that each lack something reach further (Groce et al., "Swarm
Testing", 2012).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from dynamo_fast.testing import faults
from dynamo_fast.testing.workload import Habits

WRITES = (  # the (W, DW) that a run's writes choose among
    ((2, 1),), ((2, 2),), ((2, 1), (2, 2), (3, 1)), ((1, 1), (2, 1)), ((2, 0),), ((3, 3), (2, 2)), ((1, 0), (1, 1), (2, 0)), ((3, 2),),
)  # fmt: skip
READS = ((2,), (1, 2, 3), (1,), (2, 3))


@dataclass(frozen=True)
class Mix:
    """One seed's run: `rounds` of mischief of `round_s` seconds each, healed and checked after each."""

    seed: int
    nodes: int
    partitions: int
    actors: int
    clients: int
    rounds: int
    round_s: float
    fault_every_s: float
    fault_lasts_s: float
    kinds: tuple[str, ...]
    habits: Habits
    outlives: bool = False  # after each round all machines but N are gone for a while, and those left must do
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        habits = self.habits
        writes = " ".join(f"W={w},DW={dw}" for w, dw in habits.writes)
        return (
            f"{self.nodes} nodes, Q={self.partitions}, {self.actors} actors on {self.clients} clients, {habits.keys} keys, {writes},"
            f" R={','.join(map(str, habits.reads))}, {self.rounds} rounds of {self.round_s:g} s, faults every {self.fault_every_s:g} s"
            f" for {self.fault_lasts_s:g} s{', then N machines are left' * self.outlives}: {' '.join(self.kinds)}"
        )


def draw(seed: int) -> Mix:
    """The mix of one seed."""
    chance = random.Random(f"{seed} swarm")
    every = sorted(faults.KINDS)
    kinds = tuple(sorted(chance.sample(every, chance.choice([1, 2, 4, 8, len(every)]))))
    habits = Habits(
        keys=chance.choice([1, 3, 8, 30]),
        carts=chance.choice([1, 3]),
        writes=chance.choice(WRITES),
        reads=chance.choice(READS),
        strict=chance.choice([0.0, 0.3, 1.0]),
        blind=chance.choice([0.0, 0.05, 0.2]),
        old_context=chance.choice([0.0, 0.15, 0.5]),
        delete=chance.choice([0.0, 0.05, 0.3]),
        read=chance.choice([0.2, 0.35, 0.6]),
        cart=chance.choice([0.0, 0.1, 0.3]),
        value_bytes=chance.choice([8, 20, 20, 400]),
        pause_s=chance.choice([0.01, 0.05, 0.2]),
        deadline_s=chance.choice([0.2, 0.5, 1.0, 3.0]),
        last_write_wins=chance.random() < 0.25,
    )
    nodes = chance.choice([3, 3, 4, 5, 5, 6, 7])
    mix = Mix(
        seed=seed,
        nodes=nodes,
        partitions=chance.choice([16, 16, 32, 64]),
        actors=chance.choice([2, 3, 6]),
        clients=chance.choice([1, 2]),
        rounds=chance.choice([1, 1, 2]),
        round_s=chance.choice([1.0, 2.0, 5.0]),
        fault_every_s=chance.choice([0.2, 0.5, 2.0]),
        fault_lasts_s=chance.choice([0.2, 1.0, 4.0]),
        kinds=kinds,
        habits=habits,
        outlives=nodes > 3 and chance.random() < 0.2,
        settings={"anti_entropy.round_s": chance.choice([1, 3, 10])},
    )
    if chance.random() < 0.25:
        # Deletes are forgotten while things go wrong. A directory older than that must not come back, as README says.
        kinds = tuple(kind for kind in mix.kinds if kind != "stale_backup") or ("isolated",)
        settings = mix.settings | {"limits.grace_s": chance.choice([1, 2])}
        mix = replace(mix, kinds=kinds, settings=settings, habits=replace(habits, delete=0.3))
    return mix
