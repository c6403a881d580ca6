"""What one seed of the core tier tries. As in the other tier's `swarm.py` seeds differ in kind, and many each lack something."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from dynamo_fast.testing.faults import CLOCK, DISK, NETWORK, PROCESS
from dynamo_fast.testing.swarm import DESTRUCTIVE, READS, WRITES, Mix
from dynamo_fast.testing.user import Habits

CHANGES = (
    ((0, 1, 2), (0, 1, 3)), ((0, 1, 2), (3, 4, 5)), ((0, 1, 2), (0, 1, 2, 3)), ((0, 1, 2, 3), (1, 2, 3)),
    ((0, 1, 2, 3), (2, 3, 4, 5)), ((0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5)),
)  # fmt: skip


@dataclass(frozen=True)
class CoreMix(Mix):
    """A Mix, and what only this tier draws. `repair_every_s`: 0 for never before the end; `shared_hosts`: two nodes on each machine;
    `twice`, `shared_ids`: see clients.py."""

    repair_every_s: float = 0.0
    pass_s: float = 0.0
    suspect_ms: int = 300
    ask_all_every: int = 16
    shared_hosts: bool = False
    twice: float = 0.0
    shared_ids: float = 0.0
    change: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # the members before and after, numbers from 0 on

    def __str__(self) -> str:
        repair = f"repair every {self.repair_every_s:g} s" if self.repair_every_s else "repair in the end"
        change = f", members {self.change[0]} to {self.change[1]}" if self.change else ""
        return f"{super().__str__()}; {repair}, passes of {self.pass_s:g} s{', two nodes a host' * self.shared_hosts}{change}"


def draw(seed: int) -> CoreMix:
    """The mix of one seed."""
    chance = random.Random(f"{seed} core")
    every = sorted(kind.__name__ for kind in (*NETWORK, *PROCESS, *DISK, *CLOCK))
    kinds = tuple(sorted(chance.sample(every, chance.choice([1, 2, 4, 8, len(every)]))))
    habits = Habits(
        keys=chance.choice([1, 3, 8, 30]),
        carts=0,
        writes=chance.choice(WRITES),
        reads=chance.choice(READS),
        strict=chance.choice([0.0, 0.3, 1.0]),
        blind=chance.choice([0.0, 0.05, 0.2]),
        old_context=chance.choice([0.0, 0.15, 0.5]),
        delete=chance.choice([0.0, 0.05, 0.3]),
        read=chance.choice([0.2, 0.35, 0.6]),
        cart=0.0,
        sessions=chance.choice([0.0, 0.0, 0.5]),
        value_bytes=chance.choice([8, 20, 100]),
        pause_s=chance.choice([0.0005, 0.002, 0.01]),
        deadline_s=chance.choice([0.1, 0.3, 1.0]),
        last_write_wins=chance.random() < 0.25,
    )
    nodes = chance.choice([3, 3, 4, 5, 6, 7])
    return with_change(CoreMix(
        seed=seed,
        nodes=nodes,
        partitions=chance.choice([4, 8, 16]),
        actors=chance.choice([2, 4, 8]),
        clients=2,
        rounds=chance.choice([1, 1, 2]),
        round_s=chance.choice([0.5, 1.0, 2.0]),
        fault_every_s=chance.choice([0.05, 0.1, 0.3]),
        fault_lasts_s=chance.choice([0.02, 0.05, 0.15]),
        kinds=kinds,
        habits=habits,
        repair_every_s=chance.choice([0.0, 0.01, 0.05]),
        pass_s=chance.choice([0.0, 0.0, 0.0002, 0.002]),
        suspect_ms=chance.choice([20, 50, 300]),
        ask_all_every=chance.choice([1, 16, 1000]),
        shared_hosts=nodes > 3 and chance.random() < 0.5,
        twice=chance.choice([0.0, 0.0, 0.1, 0.3]),
        shared_ids=chance.choice([0.0, 0.0, 0.2]),
    ))  # fmt: skip


def with_change(mix: CoreMix) -> CoreMix:
    """The same with a change of members, in a fifth of the seeds. Nothing is destroyed then that would excuse a strict read, and there are
    enough keys that not each is written anew before anybody could miss anything."""
    chance = random.Random(f"{mix.seed} change")
    if chance.random() > 0.2:
        return mix
    before, after = chance.choice(CHANGES)
    kinds = tuple(kind for kind in mix.kinds if kind not in DESTRUCTIVE) or ("isolated",)
    habits = replace(mix.habits, keys=chance.choice([8, 30]), last_write_wins=False)
    if chance.random() < 0.5:
        habits = replace(habits, writes=chance.choice([((2, 1),), ((2, 0), (3, 1))]), reads=(2,), strict=1.0)
    return replace(mix, nodes=len({*before, *after}), kinds=kinds, habits=habits, change=(before, after), shared_hosts=False,
                   round_s=max(mix.round_s, 0.6))  # fmt: skip
