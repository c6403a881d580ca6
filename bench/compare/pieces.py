"""Pieces of the core against what they stand in for in plain Python: one key's preference list, one pair of clocks."""

from __future__ import annotations

from collections.abc import Callable

from bench import bench_ring
from bench.bench_vector_clock import MODEL_ONE, MODEL_TWO, ONE, TWO
from bench.compare.rows import Row
from bench.ratio import nanoseconds

NODES = 10
ROUND_KEYS = 20_000
Say = Callable[[str], None]


def lookup_rows(key_count: int, say: Say) -> list[Row]:
    """Preference lists of distinct keys, each asked for once, against uhashring's get_node."""
    ns = bench_ring.compare(key_count, NODES, ROUND_KEYS)
    say(f"preference list {ns['one']:.0f} ns, in a batch {ns['batch']:.0f} ns, uhashring get_node {ns['get_node']:.0f} ns")
    return [
        Row("preference list of one key / uhashring get_node", ns["get_node"] / ns["one"], "x faster", 12),
        Row("preference lists, batch of 1000, per key / the same", ns["get_node"] / ns["batch"], "x faster", 40),
    ]


def clock_rows(say: Say) -> list[Row]:
    """Compare and merge of two concurrent clocks of five entries, against the plain-Python model."""
    names: dict[str, object] = {"a": ONE, "b": TWO, "m": MODEL_ONE, "n": MODEL_TWO}
    compare, model_compare, merge, model_merge = nanoseconds(names, "a.compare(b)", "m.compare(n)", "a.merge(b)", "m.merge(n)")
    say(f"clock compare {compare:.0f} ns, plain Python {model_compare:.0f} ns; merge {merge:.0f} ns, plain Python {model_merge:.0f} ns")
    faster = (model_compare + model_merge) / (compare + merge)
    return [Row("vector clock compare and merge, 5 entries / plain Python", faster, "x faster", 20)]


def piece_rows(say: Say, *, quick: bool = False) -> list[Row]:
    """Lookups and clocks."""
    return lookup_rows(200_000 if quick else 1_000_000, say) + clock_rows(say)
