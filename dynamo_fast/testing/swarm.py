"""What one seed tries: sizes, options, habits of the clients and kinds of faults, drawn anew for each, so that seeds differ in kind.

A mix that always had everything in it would rarely let anything finish; many that each lack something reach further (Groce et al., "Swarm
Testing", 2012).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from dynamo_fast.testing import faults
from dynamo_fast.testing.changes import MEMBERS
from dynamo_fast.testing.user import Habits

WRITES = (  # the (W, DW) that a run's writes choose among
    ((2, 1),), ((2, 2),), ((2, 1), (2, 2), (3, 1)), ((1, 1), (2, 1)), ((2, 0),), ((3, 3), (2, 2)), ((1, 0), (1, 1), (2, 0)), ((3, 2),),
)  # fmt: skip
READS = ((2,), (1, 2, 3), (1,), (2, 3))
DESTRUCTIVE = {"power_cut", "failed_fsync", "rot", "wiped_disk", "stale_backup", "lost_member", "given_up_alive", "lost_newcomer"}


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
    goes_on: bool = False  # clients do while what was healed settles, for as long again as a round at most
    shared_hosts: bool = False  # two nodes on each machine; in the tier of whole nodes only those that come later
    least: int = 3  # members that stay, whoever is asked to leave
    outlives: bool = False  # after each round all machines but N are gone for a while, and those left must do
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        habits = self.habits
        writes = " ".join(f"W={w},DW={dw}" for w, dw in habits.writes)
        then = ", and clients go on" * self.goes_on + ", then N machines are left" * self.outlives
        return (
            f"{self.nodes} nodes, Q={self.partitions}, {self.actors} actors on {self.clients} clients, {habits.keys} keys, {writes},"
            f" R={','.join(map(str, habits.reads))}, {self.rounds} rounds of {self.round_s:g} s, faults every {self.fault_every_s:g} s"
            f" for {self.fault_lasts_s:g} s{then}: {' '.join(self.kinds)}"
        )


def draw_habits(chance: random.Random, **own: Any) -> Habits:
    """Of the users of one seed; `own` is what its tier has drawn besides."""
    return Habits(
        keys=chance.choice([1, 3, 8, 30]),
        writes=chance.choice(WRITES),
        reads=chance.choice(READS),
        strict=chance.choice([0.0, 0.3, 1.0]),
        blind=chance.choice([0.0, 0.05, 0.2]),
        old_context=chance.choice([0.0, 0.15, 0.5]),
        delete=chance.choice([0.0, 0.05, 0.3]),
        read=chance.choice([0.2, 0.35, 0.6]),
        last_write_wins=chance.choice([0, 0, 0, 0, 1, 8]),
        stray_context=chance.choice([0.0, 0.0, 0.03]),
        **own,
    )


def draw(seed: int) -> Mix:
    """The mix of one seed."""
    chance = random.Random(f"{seed} swarm")
    changes = sorted(kind.__name__ for kind in MEMBERS)
    every = sorted(set(faults.KINDS) - set(changes))
    kinds = tuple(sorted(chance.sample(every, chance.choice([1, 2, 4, 8, len(every)]))))
    habits = draw_habits(
        chance,
        carts=chance.choice([1, 3]),
        cart=chance.choice([0.0, 0.1, 0.3]),
        value_bytes=chance.choice([8, 20, 20, 400]),
        pause_s=chance.choice([0.005, 0.02, 0.1]),
        deadline_s=chance.choice([0.2, 0.5, 1.0, 3.0]),
    )
    nodes = chance.choice([3, 3, 4, 5, 5, 6, 7])
    mix = Mix(
        seed=seed,
        nodes=nodes,
        partitions=chance.choice([16, 16, 32, 64]),
        actors=chance.choice([3, 6, 12]),
        clients=chance.choice([1, 2]),
        rounds=chance.choice([1, 1, 2]),
        round_s=chance.choice([1.0, 2.0, 5.0]),
        fault_every_s=chance.choice([0.04, 0.1, 0.2, 0.4]),
        fault_lasts_s=chance.choice([0.2, 1.0, 4.0]),
        kinds=kinds,
        habits=habits,
        outlives=nodes > 3 and chance.random() < 0.2,
        settings={"anti_entropy.round_s": chance.choice([1, 3, 10])},
    )
    if chance.random() < 0.25:
        # Deletes are forgotten while things go wrong, now and then, and for longer than the grace: they need a moment in which all are
        # there, and a key that nobody writes for a while. A directory older than that must not come back, as README says.
        kinds = tuple(sorted({*mix.kinds, *chance.sample(["kill", "pause", "isolated", "resets"], 2)} - {"stale_backup"}))
        habits = replace(habits, delete=0.3, keys=chance.choice([30, 100]), read=0.5, pause_s=chance.choice([0.02, 0.1]))
        mix = replace(
            mix, nodes=chance.choice([3, 3, 4, 5]), outlives=False, kinds=kinds, habits=habits, rounds=2,
            settings=mix.settings | {"limits.grace_s": chance.choice([1, 2])}, round_s=chance.choice([5.0, 10.0]),
            fault_every_s=chance.choice([0.4, 1.0, 3.0]), fault_lasts_s=chance.choice([1.0, 4.0]),
        )  # fmt: skip
    # Not in all: there are things that need peace, as the forgetting of deletes.
    mix = replace(mix, goes_on=not mix.outlives and random.Random(f"{seed} going on").random() < 0.75)
    return with_changes(mix, changes)


def with_changes(mix: Mix, changes: list[str]) -> Mix:
    """The same with changes of members, in a third of the seeds; drawn apart, so that the others stay what they were."""
    chance = random.Random(f"{mix.seed} members")
    if chance.random() > 1 / 3:
        return mix
    kinds = {*chance.sample(changes, chance.choice([1, 2, 4, len(changes)]))}
    # A rotten record is found by a scrub alone where nobody reads it, as on a node that is no home any more; and there is none here.
    others = {*mix.kinds} - {"rot"} if chance.random() < 0.75 else set()
    # Where nothing is wrong a change takes a third of a second: requests have to be as close together as that, and some links slow.
    round_s = chance.choice([2.0, 5.0, 10.0])
    habits = replace(
        mix.habits,
        keys=chance.choice([8, 30, 100]),  # with few, each is written anew before anybody could miss anything
        read=chance.choice([0.35, 0.7]),
        pause_s=chance.choice([0.01, 0.02, 0.05]) if round_s < 10 else 0.05,
    )
    least = 3
    if chance.random() < 0.5:
        # What a strict read could miss: most homes of a partition are others at once, and nothing is destroyed that would excuse it.
        kinds, others = (kinds | {"many_in_one_step"}) - DESTRUCTIVE, others - DESTRUCTIVE
        least = chance.choice([2, 3])
        writes = chance.choice([((2, 1),), ((2, 2),), ((2, 1), (2, 2) if least < 3 else (3, 1))])
        habits = replace(habits, writes=writes, reads=(2,), strict=1.0, keys=chance.choice([30, 100]), last_write_wins=0)
    return replace(
        mix, kinds=tuple(sorted(others | kinds)), round_s=round_s, fault_every_s=chance.choice([0.05, 0.15, 0.4]), habits=habits,
        shared_hosts=chance.random() < 0.3, least=least,
    )  # fmt: skip
