"""What runs under callgrind: each piece K times, then 2K times, with a mark before, between and after.

The mark is a call of getppid(), which nothing else makes: callgrind dumps and zeroes its counters there, so each
stretch has a file of its own. The difference of the two stretches is the cost of K times and nothing else.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable

from dynamo_fast.core.merkle import Forest
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.vector_clock import VectorClock

# A piece prepares itself and returns what does the work so many times.
Work = Callable[[int], None]


def ring_lookup() -> Work:
    """The preference list of one key, from Python."""
    members = [Member(bytes([number]) * 16, f"host{number}", "", 100) for number in range(3)]
    ring = first_placement(members, 1024, 3).ring()
    keys = [f"key:{number:012d}".encode() for number in range(1000)]

    def work(count: int) -> None:
        for at in range(count):
            ring.preference_list(keys[at % 1000])

    return work


def clock_merge() -> Work:
    """Two clocks of five entries, four actors in common."""
    entries = [(bytes([number]) * 16, number, 10 + number, 1_700_000_000_000 + number) for number in range(6)]
    left, right = VectorClock(entries[:5]), VectorClock(entries[1:])

    def work(count: int) -> None:
        for _ in range(count):
            left.merge(right)

    return work


def merkle_update() -> Work:
    """One entry's hash out, another in."""
    forest = Forest(1024, 256)
    positions = [bytes([number & 255, number * 7 & 255, number * 31 & 255]) + bytes(13) for number in range(1000)]

    def work(count: int) -> None:
        for at in range(count):
            forest.replace(positions[at % 1000], at, at + 1)

    return work


PIECES: dict[str, tuple[Callable[[], Work], int]] = {
    "ring lookup": (ring_lookup, 2000),
    "clock merge": (clock_merge, 2000),
    "merkle update": (merkle_update, 2000),
}


def main() -> None:
    """Run every piece; the names and K go to stdout, one per line, in the order of the dumps."""
    gc.disable()
    for name, (prepare, count) in PIECES.items():
        work = prepare()
        work(count)      # once for whatever is done at first use only
        os.getppid()
        work(count)
        os.getppid()
        work(2 * count)
        os.getppid()
        sys.stdout.write(f"{name}\t{count}\n")


if __name__ == "__main__":
    main()
