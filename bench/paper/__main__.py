"""python -m bench.paper: the paper's figures from this code, as a table, as plots in build/paper/, and in build/paper.json.

    python -m bench.paper --only figure8 --seeds 100

Figures 6 and 8 are computed, the latter in about a minute on two free cores; figure 5, section 6.3 and table 2 start clusters of
processes on loopback, for some ten seconds each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.paper import figure5, figure6, figure8, plots, table2, versions
from bench.paper.rows import Row, print_rows, write_json

PARTS = ("figure5", "figure6", "versions", "table2", "figure8")


def main() -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description=__doc__, formatter_class=plain)
    parser.add_argument("--only", action="append", choices=PARTS, help="figures to make; default: all")
    parser.add_argument("--seeds", type=int, default=figure8.SEEDS, help="draws of Figure 8; default: %(default)s")
    parser.add_argument("--no-plots", action="store_true", help="tables only; does without matplotlib")
    parser.add_argument("--output", type=Path, default=Path("build/paper.json"))
    given = parser.parse_args()
    console = Console()
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    pictures = given.output.parent / "paper"
    pictures.mkdir(parents=True, exist_ok=True)
    made: list[Row] = []
    for part in given.only or PARTS:
        rows, draw = make(part, given.seeds, say)
        made += rows
        if not given.no_plots:
            try:
                draw(pictures / f"{part}.png")
            except ImportError:
                say(f"{part}: no plot without matplotlib: pip install 'dynamo-fast[paper]'")
        say(f"{part}: done")
    print_rows(console, made)
    write_json(given.output, made)
    agreed = sum(row.ok for row in made)
    console.print(f"written to {given.output} and {pictures}/; {agreed} of {len(made)} rows agree with the paper")
    return 0


def make(part: str, seeds: int, say: Callable[[str], None]) -> tuple[list[Row], Callable[[Path], None]]:
    """One figure: its rows, and what draws it."""
    if part == "figure5":
        slices = figure5.measure(say)
        return figure5.rows(slices), lambda path: plots.plot_figure5(slices, path)
    if part == "figure6":
        day = figure6.measure()
        return figure6.rows(day), lambda path: plots.plot_figure6(day, path)
    if part == "versions":
        seen = versions.measure()
        return versions.rows(seen), lambda path: plots.plot_versions(seen, path)
    if part == "table2":
        latencies = table2.measure(say)
        return table2.rows(latencies), lambda path: plots.plot_table2(latencies, path)
    found = figure8.measure(seeds)
    return figure8.rows(found), lambda path: plots.plot_figure8(found, path)


if __name__ == "__main__":
    sys.exit(main())
