"""Pieces of the core against what they stand in for in plain Python: one key's preference list, one pair of clocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from bench.compare.rows import Row
from dynamo_fast.core.placement import Member, first_placement
from dynamo_fast.core.vector_clock import VectorClock
from tests.models.vector_clock import ModelClock

T = TypeVar("T")
ROUNDS = 5
BATCH = 1000
Say = Callable[[str], None]


def each(function: Callable[[T], object], arguments: Iterable[T]) -> None:
    """Calls it once per argument, with as little as Python can do around the call."""
    deque(map(function, arguments), maxlen=0)


def best_ns(works: dict[str, tuple[Callable[[], object], int]], say: Say) -> dict[str, float]:
    """Per name (work, how many operations it does): nanoseconds per operation, the best of some rounds, taken in turn."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, (work, count) in works.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], (time.perf_counter() - began) / count * 1e9)
    for name, ns in best.items():
        say(f"{name}: {ns:.0f} ns")
    return best


def lookup_rows(key_count: int, say: Say) -> list[Row]:
    """Preference lists of distinct keys, each asked for once a round, on a ring of three nodes, against uhashring's get_node."""
    from uhashring import HashRing  # type: ignore[import-untyped]

    names = [f"key:{number:012d}" for number in range(key_count)]
    keys = [name.encode() for name in names]
    batches = [keys[at:at + BATCH] for at in range(0, key_count, BATCH)]
    members = [Member(bytes([number]) * 16, f"host{number}", "", 100) for number in range(3)]
    ring = first_placement(members, 1024, 3).ring()
    theirs = HashRing(nodes=["one", "two", "three"])
    ns = best_ns({
        "uhashring get_node": (partial(each, theirs.get_node, names), key_count),
        "preference list": (partial(each, ring.preference_list, keys), key_count),
        "preference list in a batch": (partial(each, ring.preference_lists, batches), key_count),
    }, say)
    return [
        Row("preference list of one key / uhashring get_node", ns["uhashring get_node"] / ns["preference list"], "x faster", 12),
        Row(f"preference lists, batch of {BATCH}, per key / the same",
            ns["uhashring get_node"] / ns["preference list in a batch"], "x faster", 40),
    ]


def clock_rows(times: int, say: Say) -> list[Row]:
    """Compare and merge of two clocks of five entries that share four actors, against the plain-Python model."""
    entries = [(bytes([number]) * 16, number, 10 + number, 1_700_000_000_000 + number) for number in range(6)]
    left, right = VectorClock(entries[:5]), VectorClock(entries[1:])
    model_left, model_right = ModelClock.of(entries[:5]), ModelClock.of(entries[1:])
    ns = best_ns({
        "plain-Python clock compare": (partial(each, model_left.compare, [model_right] * times), times),
        "clock compare": (partial(each, left.compare, [right] * times), times),
        "plain-Python clock merge": (partial(each, model_left.merge, [model_right] * times), times),
        "clock merge": (partial(each, left.merge, [right] * times), times),
    }, say)
    model_ns = ns["plain-Python clock compare"] + ns["plain-Python clock merge"]
    own_ns = ns["clock compare"] + ns["clock merge"]
    return [Row("vector clock compare and merge, 5 entries / plain Python", model_ns / own_ns, "x faster", 20)]


def piece_rows(say: Say, *, quick: bool = False) -> list[Row]:
    """Lookups and clocks."""
    return lookup_rows(100_000 if quick else 1_000_000, say) + clock_rows(20_000 if quick else 200_000, say)
