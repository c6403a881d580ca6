"""`make bench` prints a table per group. What does one thing in several ways is put into a group by its test (`benchmark.group`, or the
mark's `group`), and there the ratios in parentheses say something; the rest is in a table per noun, for the figures alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath
from typing import Any


def pytest_benchmark_group_stats(benchmarks: list[Any]) -> list[tuple[str, list[Any]]]:
    """pytest-benchmark's own hook: the tables, in order, each with its title."""
    compared: defaultdict[str, list[Any]] = defaultdict(list)
    others: defaultdict[str, list[Any]] = defaultdict(list)
    for one in benchmarks:
        noun = PurePath(one["fullname"].partition("::")[0]).stem.removeprefix("bench_")
        tables, title = (compared, f"{noun}: {one['group']}") if one["group"] else (others, noun)
        tables[title].append(one)
    for table in (*compared.values(), *others.values()):
        table.sort(key=lambda one: one["median"])
    return [*sorted(compared.items()), *((f"{noun}, unlike things", table) for noun, table in sorted(others.items()))]
