"""How evenly a dead node's load falls on the others: max / mean of the partitions in which each would stand in for it, over the tables
of first placements of ten nodes, the worst of all nodes and of many sets of ids. Pure: nothing is started.

    python -m tests.reliability.substitutes
"""

from __future__ import annotations

import random
import sys
from collections import Counter

from bench.compare.rows import Row
from dynamo_fast.core.placement import Member, Placement, first_placement
from tests.reliability.rows import Measured, arguments, report

NODES, PARTITIONS, REPLICAS = 10, 1024, 3


def unevenness(placement: Placement, dead: int) -> float:
    """max / mean over the other nodes of the partitions in which each is the first substitute for that one."""
    extra = Counter(row[placement.replicas] for row in placement.table if dead in row[: placement.replicas])
    return max(extra.values()) * (len(placement.node_ids) - 1) / extra.total()


def measure(placements: int) -> Measured:
    worst = 0.0
    for seed in range(placements):
        chance = random.Random(seed)
        members = [Member(chance.randbytes(16), f"host-{number}", "", 100) for number in range(NODES)]
        placement = first_placement(members, PARTITIONS, REPLICAS)
        worst = max(worst, *(unevenness(placement, dead) for dead in range(NODES)))
    row = Row(f"extra load of a dead node's substitutes, {NODES} nodes: max / mean", worst, "x", 1.3, at_most=True)
    return [(row, {"placements": placements, "partitions": PARTITIONS})]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--placements", type=int, default=100)
    options = parser.parse_args()
    return report(options.output, lambda: measure(options.placements))


if __name__ == "__main__":
    sys.exit(main())
