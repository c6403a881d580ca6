"""What one seed of the core tier tries. As in the other tier's `swarm.py` seeds differ in kind, and many each lack something."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from dynamo_fast.testing.changes import MEMBERS, PEACEFUL
from dynamo_fast.testing.faults import CLOCK, DISK, NETWORK, PROCESS
from dynamo_fast.testing.swarm import DESTRUCTIVE, Mix, draw_habits


@dataclass(frozen=True)
class CoreMix(Mix):
    """A Mix, and what only this tier draws. `repair_every_s`: 0 for never before the end; `way_s`, `look_s`: see repair.py and
    change.py; `twice`, `shared_ids`: see clients.py."""

    repair_every_s: float = 0.0
    pass_s: float = 0.0
    suspect_ms: int = 300
    ask_all_every: int = 16
    twice: float = 0.0
    shared_ids: float = 0.0
    way_s: float = 0.002
    members: int = 0  # of the nodes, how many are members at first, the others may become some; 0: all are, and stay so
    look_s: float = 0.01

    def __str__(self) -> str:
        repair = f"repair every {self.repair_every_s:g} s" if self.repair_every_s else "repair in the end"
        members = f", {self.members} members at first that look every {self.look_s:g} s" if self.members else ""
        return (
            f"{super().__str__()}; {repair} on a way of {self.way_s:g} s, passes of {self.pass_s:g} s"
            f"{', two nodes a host' * self.shared_hosts}{members}"
        )


def draw(seed: int) -> CoreMix:
    """The mix of one seed."""
    chance = random.Random(f"{seed} core")
    every = sorted(kind.__name__ for kind in (*NETWORK, *PROCESS, *DISK, *CLOCK))
    kinds = tuple(sorted(chance.sample(every, chance.choice([1, 2, 4, 8, len(every)]))))
    habits = draw_habits(
        chance,
        carts=0,
        cart=0.0,
        sessions=chance.choice([0.0, 0.0, 0.5]),
        value_bytes=chance.choice([8, 20, 100]),
        pause_s=chance.choice([0.0005, 0.002, 0.01]),
        deadline_s=chance.choice([0.1, 0.3, 1.0]),
    )
    nodes = chance.choice([3, 3, 4, 5, 6, 7])
    return with_changes(CoreMix(
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


def with_changes(mix: CoreMix) -> CoreMix:
    """The same with changes of members, in a third of the seeds. How long a step takes differs from seed to seed as much as what a request
    takes, so that in some each request sees several steps, and in others each step many requests."""
    chance = random.Random(f"{mix.seed} members")
    if chance.random() > 1 / 3:
        return mix
    changes = sorted(kind.__name__ for kind in MEMBERS)
    kinds = {*chance.sample(changes, chance.choice([1, 2, 4, len(changes)]))}
    others = {*mix.kinds}
    # With few keys each is written anew before anybody could miss anything.
    habits = replace(mix.habits, keys=chance.choice([8, 30]), last_write_wins=0)
    if chance.random() < 0.6:
        # What a strict read could miss: most homes of a partition are others at once, and nothing is destroyed that would excuse it.
        # But a backup of one node is, which does not know how far the others are.
        backup = {"stale_backup"} if chance.random() < 0.4 else set()
        kinds, others = (kinds | {"many_in_one_step"}) - DESTRUCTIVE | backup, others - DESTRUCTIVE
        habits = replace(habits, writes=chance.choice([((2, 1),), ((2, 0),), ((2, 0), (2, 2))]), reads=(2,), strict=1.0)
    else:
        # Hints are on their way while the homes that they are for become others.
        others |= {*chance.sample(["kill", "isolated", "pause", "halves"], 2)}
        habits = replace(habits, strict=chance.choice([0.0, 0.3]), writes=chance.choice([habits.writes, ((1, 0),)]))
    if chance.random() < 0.15:
        kinds, others = kinds & PEACEFUL | {"many_in_one_step"}, set()  # and then every request is answered
    members = chance.choice([3, 3, 4, 5])
    return replace(
        mix, kinds=tuple(sorted(others | kinds)), habits=habits, members=members, nodes=members + chance.choice([2, 3, 4]),
        look_s=chance.choice([0.003, 0.01, 0.04]), way_s=chance.choice([0.002, 0.01, 0.05]), round_s=max(mix.round_s, 1.0),
        fault_every_s=min(mix.fault_every_s, 0.1), shared_hosts=chance.random() < 0.25,
        least=3 if (others | kinds) & DESTRUCTIVE else chance.choice([2, 3]),
    )  # fmt: skip
