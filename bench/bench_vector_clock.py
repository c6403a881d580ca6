"""Vector clocks of five entries: each operation, and compare and merge against the plain-Python model in the same run."""

from typing import Any

import pytest

from bench.ratio import nanoseconds
from dynamo_fast.core.vector_clock import Order, VectorClock
from tests.models.vector_clock import ModelClock

NODES = [bytes([17 * number, 255 - number]) * 8 for number in range(5)]
# Each has seen an event that the other has not: nothing can be answered before the last entry.
ONE = VectorClock((node, 2**60 + number, 3 + (number == 1), 1_700_000_000_000) for number, node in enumerate(NODES))
TWO = VectorClock((node, 2**60 + number, 3 + (number == 4), 1_700_000_000_000) for number, node in enumerate(NODES))
MODEL_ONE, MODEL_TWO = ModelClock.of(ONE), ModelClock.of(TWO)

TIMES_FASTER = 20


def test_compare(benchmark: Any) -> None:
    assert benchmark(ONE.compare, TWO) is Order.CONCURRENT


def test_descends(benchmark: Any) -> None:
    assert benchmark(ONE.descends, ONE)


def test_merge(benchmark: Any) -> None:
    assert len(benchmark(ONE.merge, TWO)) == 5


def test_advance(benchmark: Any) -> None:
    assert len(benchmark(ONE.advance, NODES[2], 2**60 + 2, 1_700_000_000_001)) == 5


@pytest.mark.parametrize("entries", [50, 1024])
def test_merge_of_long_clocks(benchmark: Any, entries: int) -> None:
    one, two = (VectorClock((bytes([n % 256, n // 256]) * 8, side, 1, 0) for n in range(0, entries, 2)) for side in (0, 1))
    assert len(benchmark(one.merge, two)) == entries


@pytest.mark.benchmark(group="compare and merge")
def test_compare_and_merge_of_the_model(benchmark: Any) -> None:
    benchmark(lambda: (MODEL_ONE.compare(MODEL_TWO), MODEL_ONE.merge(MODEL_TWO)))


@pytest.mark.benchmark(group="compare and merge")
def test_compare_and_merge_against_the_model(benchmark: Any) -> None:
    """The claim: a compare and a merge together take a twentieth of what the plain-Python model takes for them."""
    names: dict[str, object] = {"a": ONE, "b": TWO, "m": MODEL_ONE, "n": MODEL_TWO}
    compare, model_compare, merge, model_merge = nanoseconds(names, "a.compare(b)", "m.compare(n)", "a.merge(b)", "m.merge(n)")
    both = (model_compare + model_merge) / (compare + merge)
    benchmark.extra_info.update(
        compare_ns=compare, merge_ns=merge, model_compare_ns=model_compare, model_merge_ns=model_merge, times_faster=both
    )
    print(f"\ncompare {compare:.0f} ns, model {model_compare:.0f}; merge {merge:.0f} ns, model {model_merge:.0f}; {both:.0f} times faster")
    benchmark(lambda: (ONE.compare(TWO), ONE.merge(TWO)))
    assert both >= TIMES_FASTER
