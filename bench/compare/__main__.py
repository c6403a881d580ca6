"""python -m bench.compare: every row of the table of targets, written to build/compare.json as well."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench.compare.generator import generator_rows
from bench.compare.pieces import piece_rows
from bench.compare.plan import KEYS, play, started
from bench.compare.rows import Row, print_rows, print_runs, server_rows, write_json
from bench.compare.sides import ComparisonFailed, Measurement
from bench.compare.soak import KEYS as SOAK_KEYS
from bench.compare.soak import soak_rows

MIB = 1 << 20
SOAK_KEYS_QUICK = 100_000
PARTS = ("generator", "servers", "pieces", "soak")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="length of a timed run; default: 6")
    parser.add_argument("--soak-seconds", type=float, help="length of each of the four soak runs; default: 600")
    parser.add_argument("--soak", action="store_true", help="the soak as well")
    parser.add_argument("--only", action="append", choices=PARTS, help="parts to run; default: all but soak")
    parser.add_argument("--directory", type=Path, help="where servers keep their data; default: below build/, removed afterwards")
    parser.add_argument("--output", type=Path, default=Path("build/compare.json"))
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.quick else 5)
    seconds = given.seconds or (2.0 if given.quick else 6.0)
    soak_seconds = given.soak_seconds or (20.0 if given.quick else 600.0)
    parts = given.only or [part for part in PARTS if part != "soak" or given.soak]
    console = Console()
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    given.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.directory or given.output.parent, prefix="compare-") as scratch:
        try:
            rows, measurements = compare(parts, Path(scratch), rounds, seconds, soak_seconds, say)
        except (ComparisonFailed, FileNotFoundError) as error:
            print(f"compare: {error}", file=sys.stderr)
            return 1
    if measurements:
        print_runs(console, measurements)
    print_rows(console, rows)
    write_json(given.output, rows, measurements, machine())
    console.print(f"written to {given.output}; {sum(row.ok for row in rows)} of {len(rows)} targets reached")
    return 0


def compare(parts: Sequence[str], directory: Path, rounds: int, seconds: float, soak_seconds: float,
            say: Callable[[str], None]) -> tuple[list[Row], dict[str, list[Measurement]]]:
    """The chosen parts of the comparison: their rows and their runs."""
    rows: list[Row] = []
    measurements: dict[str, list[Measurement]] = {}
    if "generator" in parts:
        rows += generator_rows(directory, rounds, min(seconds, 3.0), KEYS, say)
    if "servers" in parts:
        with started(directory) as servers:
            rows.append(Row("resident memory of an idle node", max(servers.idle_bytes) / MIB, "MiB", 60, at_most=True))
            measurements = play(servers, rounds, seconds, say)
        rows = server_rows(measurements) + rows
    if "pieces" in parts:
        rows += piece_rows(say, quick=rounds == 1)
    if "soak" in parts:
        soaked, soak_measurements = soak_rows(directory, soak_seconds, say, SOAK_KEYS_QUICK if rounds == 1 else SOAK_KEYS)
        rows += soaked
        measurements |= soak_measurements
    return rows, measurements


def machine() -> dict[str, object]:
    return {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


if __name__ == "__main__":
    sys.exit(main())
