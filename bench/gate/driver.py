"""What runs under callgrind: each piece K times, then 2K times, with a mark before and after.

The mark is a call of getppid(), which nothing else makes: callgrind dumps and zeroes its counters there, so each
stretch has a file of its own. The difference of the two stretches is the cost of K times and nothing else.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.gate.node_core import Requests
from dynamo_fast.core.merkle import Forest
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.vector_clock import VectorClock

# Makes ready so many repetitions, and returns what does them.
Stretch = Callable[[int], Callable[[], None]]


def each(function: Callable[..., object], *arguments: list[Any]) -> None:
    """Calls it once per argument. The loop is C, since interpreters of one version, differently compiled, differ by more than 5 %."""
    deque(map(function, *arguments), maxlen=0)


def ring_lookup() -> Stretch:
    """The preference list of one key, from Python."""
    members = [Member(bytes([number]) * 16, f"host{number}", "", 100) for number in range(3)]
    ring = first_placement(members, 1024, 3).ring()

    return lambda count: partial(each, ring.preference_list, [f"key:{number:012d}".encode() for number in range(count)])


def clock_merge() -> Stretch:
    """Two concurrent clocks of the same five actors."""
    nodes = [bytes([number]) * 16 for number in range(5)]
    left = VectorClock((node, 1, 3 + (node is nodes[1]), 1_700_000_000_000) for node in nodes)
    right = VectorClock((node, 1, 3 + (node is nodes[4]), 1_700_000_000_000) for node in nodes)

    return lambda count: partial(each, left.merge, [right] * count)


def merkle_update() -> Stretch:
    """One entry's hash out, another in."""
    forest = Forest(1024, 256)

    def stretch(count: int) -> Callable[[], None]:
        positions = [bytes([at & 255, at * 7 & 255, at * 31 & 255]) + bytes(13) for at in range(count)]
        return partial(each, forest.replace, positions, [1 << 40] * count, [1 << 41] * count)

    return stretch


PIECES: dict[str, tuple[Callable[[], Stretch], int]] = {
    "ring lookup": (ring_lookup, 2000),
    "clock merge": (clock_merge, 2000),
    "merkle update": (merkle_update, 2000),
    "put through the node core": (lambda: Requests().put_stretch, 500),
    "get through the node core": (lambda: Requests().get_stretch, 500),
}


def main() -> None:
    """Run every piece; the names and K go to stdout, one per line, in the order of the dumps."""
    gc.disable()
    for name, (prepare, count) in PIECES.items():
        stretch = prepare()
        stretch(count)()     # once for whatever is done at first use only
        for times in (count, 2 * count):
            work = stretch(times)
            os.getppid()
            work()
            os.getppid()
        sys.stdout.write(f"{name}\t{count}\n")


if __name__ == "__main__":
    main()
