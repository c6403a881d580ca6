"""Figure 8 of the paper: how evenly three ways of partitioning share the load out, by the size of what every node must know.

Thirty nodes, three replicas. The load of a node is its share of all (arc or partition, replica) pairs when keys are uniform; load
balancing efficiency is the mean load over the greatest.

Strategy 1: T random tokens per node; a key belongs to the first token after it.
Strategy 2: the same tokens, and Q equal partitions; a partition belongs to the first nodes after its end.
Strategy 3: S * T equal partitions, T of them per node in random order; the replicas are the next nodes along the ring.

All three walk the paper's ring (`core.ring.BasicRing`). Beside them stands our placement, which has no chance in it: homes are dealt
out by quota instead of found by walking.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from bench.paper.rows import Row, near
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.ring import BasicRing

NODES = 30
REPLICAS = 3
PARTITIONS_OF_STRATEGY_2 = 1024
TOKENS = (60, 120, 240, 480, 960, 1920, 3840, 7680)   # S * T, on the figure's horizontal axis
SEEDS = 1000

PAPER: dict[int, tuple[float, ...]] = {
    1: (0.52, 0.61, 0.69, 0.76, 0.82, 0.87, 0.91, 0.93),
    2: (0.53, 0.61, 0.70, 0.76, 0.82, 0.85, 0.88, 0.87),
    3: (0.86, 0.87, 0.90, 0.92, 0.94, 0.96, 0.97, 0.98),
}
TOLERANCE = 0.02
TOLERANCE_OF_THE_SMALLEST = 0.03   # strategy 3, the first three sizes


def at(numerator: int, denominator: int) -> bytes:
    """The position so far around the ring, 16 bytes."""
    return ((numerator << 128) // denominator).to_bytes(16, "big")


def efficiency(loads: Sequence[float]) -> float:
    return sum(loads) / len(loads) / max(loads)


def random_tokens(tokens: int, rng: random.Random) -> BasicRing:
    return BasicRing.random([tokens // NODES] * NODES, rng.randbytes)


def strategy_1(tokens: int, rng: random.Random) -> float:
    ring = random_tokens(tokens, rng)
    positions = [position for position, _ in ring.tokens()]
    loads = [0] * NODES
    before = int.from_bytes(positions[-1], "big") - (1 << 128)
    for previous, position in zip([positions[-1], *positions], positions, strict=False):
        here = int.from_bytes(position, "big")
        for node in ring.preference_list_at(previous, REPLICAS):
            loads[node] += here - before
        before = here
    return efficiency(loads)


def strategy_2(tokens: int, rng: random.Random) -> float:
    ring = random_tokens(tokens, rng)
    ends = (at(partition, PARTITIONS_OF_STRATEGY_2) for partition in range(PARTITIONS_OF_STRATEGY_2))
    return counted(ring, ends)


def strategy_3(tokens: int, rng: random.Random) -> float:
    owners = [node for node in range(NODES) for _ in range(tokens // NODES)]
    rng.shuffle(owners)
    positions = [at(partition, tokens) for partition in range(tokens)]
    return counted(BasicRing(list(zip(positions, owners, strict=True))), iter(positions))


def counted(ring: BasicRing, positions: Iterator[bytes]) -> float:
    """The efficiency when each position stands for as many keys as any other."""
    loads = [0] * NODES
    for position in positions:
        for node in ring.preference_list_at(position, REPLICAS):
            loads[node] += 1
    return efficiency(loads)


STRATEGIES = {1: strategy_1, 2: strategy_2, 3: strategy_3}


def once(seed: int) -> list[list[float]]:
    """By strategy and size, the efficiency of one draw."""
    return [[strategy(tokens, random.Random(f"{seed} {number} {tokens}")) for tokens in TOKENS] for number, strategy in STRATEGIES.items()]


def partitions_of(tokens: int) -> int:
    """The next power of two: what our placement, whose partitions any number of nodes may share, is compared at."""
    return 1 << (tokens - 1).bit_length()


def ours(tokens: int) -> float:
    members = [Member(bytes([node + 1]) * 16, f"host-{node}", "") for node in range(NODES)]
    placement = first_placement(members, partitions_of(tokens), REPLICAS)
    return efficiency(list(placement.loads().values()))


def measure(seeds: int = SEEDS, processes: int | None = None) -> dict[int, list[float]]:
    """By strategy, the mean efficiency at each size over seeds 0 .. seeds-1."""
    if processes == 1 or seeds < 8:
        draws = [once(seed) for seed in range(seeds)]
    else:
        with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
            draws = list(pool.map(once, range(seeds), chunksize=4))
    return {
        number: [sum(draw[index][size] for draw in draws) / seeds for size in range(len(TOKENS))]
        for index, number in enumerate(STRATEGIES)
    }


def rows(found: dict[int, list[float]]) -> list[Row]:
    made = []
    for number, efficiencies in found.items():
        for size, (tokens, mean, paper) in enumerate(zip(TOKENS, efficiencies, PAPER[number], strict=True)):
            tolerance = TOLERANCE_OF_THE_SMALLEST if number == 3 and size < 3 else TOLERANCE
            ok = near(mean, paper, tolerance)
            made.append(Row("Figure 8", f"strategy {number}, S*T = {tokens}", mean, paper, ok, f"to within {tolerance}"))
    for tokens, best in zip(TOKENS, PAPER[3], strict=True):
        mean, partitions = ours(tokens), partitions_of(tokens)
        made.append(Row("Figure 8", f"our placement, Q = {partitions}", mean, best, mean >= best, "at least strategy 3"))
    return made
