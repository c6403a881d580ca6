"""The table of targets: what was measured, what was aimed at, and whether it was reached."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.compare.sides import Measurement

# The measurements of each run, one per round.
Rounds = Mapping[str, Sequence[Measurement]]


@dataclass(frozen=True)
class Row:
    """One line of the table. `at_most` turns the target's direction."""

    name: str
    figure: float
    unit: str
    target: float
    at_most: bool = False

    @property
    def ok(self) -> bool:
        return self.figure <= self.target if self.at_most else self.figure >= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def rate(measurement: Measurement) -> float:
    return measurement.report.rate_per_s


def server_cpu(measurement: Measurement) -> float:
    return measurement.server_cpu_us


def latency(measurement: Measurement) -> dict[str, float]:
    """The latencies of a run of puts only or gets only, in ns."""
    summary = measurement.report.puts or measurement.report.gets
    assert summary is not None
    return {"p50": summary["p50"], "p99": summary["p99"], "p999": summary["p999"]}


def p50(measurement: Measurement) -> float:
    return latency(measurement)["p50"]


def ratio(rounds: Rounds, ours: str, theirs: str, figure: Callable[[Measurement], float] = rate) -> float:
    """The median over the rounds of ours / theirs, each pair from one round."""
    pairs = zip(rounds[ours], rounds[theirs], strict=True)
    return statistics.median(figure(a) / figure(b) for a, b in pairs)


def server_rows(rounds: Rounds) -> list[Row]:
    """The rows about servers, from the rounds of plan.py."""
    rows = []
    for depth, put, durable, cpu in ((1, 0.7, 0.75, 2.4), (16, 0.8, 0.85, 2.0)):
        at = f"depth {depth}"
        rows += [
            Row(f"put, N=3 R=W=2 DW=0, {at} / redis SET everysec", ratio(rounds, f"put {at}", f"redis set {at}"), "x", put),
            Row(f"get, R=2, {at} / redis GET", ratio(rounds, f"get {at}", f"redis get {at}"), "x", 0.7),
            Row(f"put DW=2, {at} / redis SET always", ratio(rounds, f"put dw=2 {at}", f"redis always set {at}"), "x", durable),
            Row(f"server CPU per put, {at} / redis SET", ratio(rounds, f"put {at}", f"redis set {at}", server_cpu), "x", cpu, at_most=True),
        ]
    rows += [
        Row("put DW=0, depth 1 / redis with two replicas, SET + WAIT 2", ratio(rounds, "put depth 1", "redis wait set depth 1"), "x", 1.4),
        Row("one connection: put p50 / redis SET p50",
            ratio(rounds, "put one connection", "redis set one connection", p50), "x", 1.5, at_most=True),
    ]
    return rows


def print_runs(console: Console, rounds: Rounds) -> None:
    """Medians over the rounds of every run, ours and theirs."""
    table = Table("run", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "server CPU us", title="medians over the rounds")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, measurements in rounds.items():
        latencies = [statistics.median(latency(m)[key] for m in measurements) / 1e6 for key in ("p50", "p99", "p999")]
        table.add_row(name, f"{statistics.median(map(rate, measurements)):,.0f}", *(f"{ms:.3f}" for ms in latencies),
                      f"{statistics.median(map(server_cpu, measurements)):.1f}")
    console.print(table)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    table = Table("what", "figure", "target", "")
    table.columns[1].justify = table.columns[2].justify = "right"
    for row in rows:
        table.add_row(row.name, f"{row.figure:.2f} {row.unit}", f"{'at most' if row.at_most else 'at least'} {row.target:g} {row.unit}",
                      "ok" if row.ok else "[bold]below[/bold]" if not row.at_most else "[bold]above[/bold]")
    console.print(table)


def write_json(path: Path, rows: Sequence[Row], rounds: Rounds, machine: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine,
        "rows": [row.as_dict() for row in rows],
        "runs": {name: [measurement.as_dict() for measurement in measurements] for name, measurements in rounds.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
