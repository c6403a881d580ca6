"""Figure 6 of the paper: the fraction of nodes out of balance over a day, against the load.

A node is out of balance in a half hour when its requests differ from the nodes' mean by more than 15 %. The paper saw 20 % of the nodes
out of balance when load was low and 10 % when it was high, and says why: many popular keys spread their load evenly, few do not.

So here a day is simulated on our placement: the requests of a half hour go to the keys of so many customers as are awake, by Zipf's
law, and each request to all homes of its key. At night an eighth of them is awake, as the paper has it. The paper does not give its
distribution, so what is judged is the direction.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from bench.paper.rows import Row
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.ring import Ring

NODES = 30
REPLICAS = 3
PARTITIONS = 1024
HALF_HOURS = 48
CUSTOMERS = 40_000           # awake at the busiest half hour
REQUESTS_PER_CUSTOMER = 5
ZIPF_EXPONENT = 0.7
THRESHOLD = 0.15
LOWEST = 1 / 8               # of the load at the peak
PAPER_LOW, PAPER_HIGH = 0.20, 0.10


@dataclass(frozen=True)
class HalfHour:
    load: float              # of the peak
    out_of_balance: float    # fraction of the nodes


def measure(seed: int = 1, customers: int = CUSTOMERS) -> list[HalfHour]:
    """A day from midnight on, as a sine between the lowest load and the peak."""
    rng = random.Random(seed)
    ring = first_placement([Member(rng.randbytes(16), f"host-{node}", "") for node in range(NODES)], PARTITIONS, REPLICAS).ring()
    day = []
    for half_hour in range(HALF_HOURS):
        phase = (1 - math.cos(2 * math.pi * half_hour / HALF_HOURS)) / 2
        load = LOWEST + (1 - LOWEST) * phase
        day.append(HalfHour(load, out_of_balance(loads(ring, round(customers * load), rng))))
    return day


def loads(ring: Ring, customers: int, rng: random.Random) -> list[int]:
    """Requests that each node sees; who is awake, and who of them shops most, is drawn anew."""
    keys = [b"cart-%016x" % rng.getrandbits(64) for _ in range(customers)]
    weights = itertools.accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(customers))
    found = [0] * NODES
    homes = ring.preference_lists(keys)
    for asked in rng.choices(homes, cum_weights=list(weights), k=customers * REQUESTS_PER_CUSTOMER):
        for node in asked:
            found[node] += 1
    return found


def out_of_balance(found: list[int]) -> float:
    mean = sum(found) / len(found)
    return sum(abs(load - mean) > THRESHOLD * mean for load in found) / len(found)


def rows(day: list[HalfHour]) -> list[Row]:
    """The lowest and the highest quarter of the day, by load."""
    by_load = sorted(day, key=lambda half_hour: half_hour.load)
    low, high = by_load[: HALF_HOURS // 4], by_load[-HALF_HOURS // 4 :]
    at_low, at_high = (sum(half_hour.out_of_balance for half_hour in part) / len(part) for part in (low, high))
    judged = "more at low load"
    return [
        Row("Figure 6", "nodes out of balance, low load", at_low, PAPER_LOW, at_low > at_high, judged),
        Row("Figure 6", "nodes out of balance, high load", at_high, PAPER_HIGH, at_low > at_high, judged),
    ]
