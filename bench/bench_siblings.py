"""Objects as replication meets them: equal bytes, one side that knows it all, truly concurrent sides, a put, a check."""

from typing import Any

from bench.ratio import nanoseconds
from dynamo_fast.core.siblings import Siblings

NODES = [bytes([17 * number, 255 - number]) * 8 for number in range(5)]
VALUE = bytes(100)
NOW_MS = 1_700_000_000_000


def written(times: int, at: int = 0, before: Siblings | None = None) -> Siblings:
    """An object of one sibling after so many puts, each with the context of the last, coordinated in turn by five nodes."""
    state = before or Siblings()
    for number in range(at, at + times):
        state = state.put(VALUE, node=NODES[number % 5], epoch=2**60, timestamp_ms=NOW_MS + number, context=state.clock)
    return state


OLD = written(5)
NEW = written(1, at=5, before=OLD)
OTHER = written(1, at=6, before=OLD)
FRESH_MERGE_NS_MAX = 200


def test_merge_of_equal_objects(benchmark: Any) -> None:
    twin = Siblings(bytes(bytearray(NEW.packed)))
    assert benchmark(NEW.merge, twin) is NEW


def test_merge_where_one_side_knows_it_all(benchmark: Any) -> None:
    """What nearly every replicated put is: five entries, one sibling, the newer side seen first or second."""
    assert OLD.merge(NEW) is NEW
    (first, second) = nanoseconds({"old": OLD, "new": NEW}, "new.merge(old)", "old.merge(new)")
    benchmark.extra_info.update(newer_first_ns=first, newer_second_ns=second)
    print(f"\nmerge of a newer version: {first:.0f} ns, of an older one {second:.0f} ns, from Python")
    assert benchmark(NEW.merge, OLD) is NEW
    assert max(first, second) < FRESH_MERGE_NS_MAX


def test_merge_of_concurrent_objects(benchmark: Any) -> None:
    assert len(benchmark(NEW.merge, OTHER)) == 2


def test_merge_of_a_hundred_siblings(benchmark: Any) -> None:
    one, two = Siblings(), Siblings()
    for _ in range(50):
        one, two = one.put(VALUE, node=NODES[0]), two.put(VALUE, node=NODES[1])
    assert len(benchmark(one.merge, two)) == 100


def test_put_with_context(benchmark: Any) -> None:
    context = OLD.clock
    state = benchmark(lambda: OLD.put(VALUE, node=NODES[0], epoch=2**60, timestamp_ms=NOW_MS, context=context))
    assert len(state) == 1


def test_check(benchmark: Any) -> None:
    assert len(benchmark(Siblings, NEW.packed)) == 1
