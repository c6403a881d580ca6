"""`make reliability MINUTES=60`: every promise attacked for its share of the time, all rows in build/reliability.json.

    python -m tests.reliability --minutes 60 [--only NAME ...]

Each part is a command of its own, which can be run alone and for longer; it is told how much to do so that it fits its share on two
cores. Exit code 1 when a row missed its target, or a part did not finish. docs/reliability.md says what each part attacks.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.compare.rows import Row
from tests.reliability.rows import ROOT, append, arguments, read_rows

GRACE = 3.0  # times its share, and
GRACE_S = 300.0  # so much more, until a part is given up


@dataclass(frozen=True)
class Part:
    """One command. `share` of the whole time; `words(seconds)` are its arguments. `tells`: how its rows come to us."""

    name: str
    share: float
    module: str
    words: Callable[[float], Sequence[object]]
    tells: str = "appends"  # or "json": a list of rows in the file after --json, or "exit": its exit code alone

    def command(self, seconds: float) -> list[str]:
        return [sys.executable, "-m", self.module, *map(str, self.words(seconds))]


PARTS = (
    Part("substitutes", 0.01, "tests.reliability.substitutes", lambda s: []),
    Part("two-of-five", 0.05, "tests.reliability.availability", lambda s: ["two-of-five", "--requests", int(20 * s)]),
    Part("one-of-three", 0.08, "tests.reliability.availability", lambda s: ["one-of-three", "--requests", min(1_000_000, int(3_000 * s))]),
    Part("handoff", 0.05, "tests.reliability.handoff", lambda s: ["--outage", max(2, min(60, int(s / 2.5)))]),
    Part("long-handoff", 0.13, "tests.reliability.handoff", lambda s: ["--outage", max(5, min(300, int(s / 2.2)))]),
    Part("members", 0.05, "tests.reliability.members", lambda s: ["correctness", "--keys", max(100, min(20_000, int(60 * s)))]),
    Part("simulator", 0.07, "dynamo_fast.testing.sim", lambda s: ["--seeds", max(1, int(2.5 * s)), "--jobs", 2], tells="exit"),
    Part("simulator-core", 0.03, "dynamo_fast.testing.sim",
         lambda s: ["--tier", "core", "--seeds", max(1, int(20 * s)), "--jobs", 2], tells="exit"),
    Part("kills", 0.15, "tests.live.crash", lambda s: ["--kills", max(5, int(s / 2.2)), "--nodes", 3, "--nodes", 5]),
    Part("torment", 0.10, "tests.live.torment", lambda s: ["--nodes", 5, "--minutes", round(0.8 * s / 60, 2)]),
    Part("torment-of-three", 0.10, "tests.live.torment",
         lambda s: ["--nodes", 3, "--network", "proxies", "--minutes", round(0.8 * s / 60, 2)]),
    Part("images", 0.05, "tests.storage.images", lambda s: ["--count", max(100, int(100 * s)), "--jobs", 2], tells="json"),
    Part("corruption", 0.04, "tests.storage.corruption", lambda s: ["--count", max(10, int(15 * s))], tells="json"),
    Part("anti-entropy", 0.04, "bench.anti_entropy", lambda s: ["--rounds", max(1, int(s / 40)), "--keys", 50_000], tells="json"),
    Part("fuzz", 0.05, "tests.fuzz.run", lambda s: ["--seconds", max(1, int(s / 3.5))], tells="exit"),
)  # fmt: skip


def play(part: Part, seconds: float, output: Path) -> None:
    """Runs one part, which leaves at least one row in the output, whatever becomes of it."""
    before, began = len(read_rows(output)), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        rows_file = Path(scratch) / "rows.json"
        command = part.command(seconds)
        command += {"appends": ["--output", str(output.absolute())], "json": ["--json", str(rows_file)], "exit": []}[part.tells]
        print(f"\n---- {part.name}: {shlex.join(['python', *command[1:]])}", flush=True)
        code = run(command, GRACE * seconds + GRACE_S)
        spent_s = time.monotonic() - began
        if rows_file.exists():
            told = [row for row in json.loads(rows_file.read_text()) if row["target"] is not None]
            evidence = {"part": shlex.join(command[1:])}
            append(output, [(row_of(part, row), evidence) for row in told], spent_s)
        if part.tells == "exit" or len(read_rows(output)) == before:
            row = Row(f"{part.name}: runs that failed", float(code != 0), "runs", 0.0, at_most=True)
            append(output, [(row, {"exit code": code, "part": shlex.join(command[1:])})], spent_s)


def row_of(part: Part, told: Mapping[str, Any]) -> Row:
    """A row as another command writes it. Where it does not say which way its target points, a target of 0 counts what must not be."""
    target = told["target"]
    return Row(f"{part.name}: {told['name']}", told["figure"], told["unit"], target, told.get("at_most", target == 0))


def run(command: Sequence[str], timeout_s: float) -> int:
    """The exit code; -SIGTERM for a command that had to be stopped, which takes down what it has started (rows.py)."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        print(f"given up after {timeout_s:.0f} s", flush=True)
        return -signal.SIGTERM
    finally:
        process.terminate()
        process.wait()


def show(output: Path) -> bool:
    """All rows as a table; whether every target was reached."""
    rows = read_rows(output)
    table = Table("what", "figure", "target", "")
    for row in rows:
        direction = "at most" if row["at_most"] else "at least"
        table.add_row(row["name"], f"{row['figure']:g} {row['unit']}", f"{direction} {row['target']:g}", "ok" if row["ok"] else "MISSED")
    Console().print(table)
    missed = [row["name"] for row in rows if not row["ok"]]
    print(f"{output}: {len(rows) - len(missed)} of {len(rows)} targets reached" + "".join(f"\nmissed: {name}" for name in missed))
    return bool(rows) and not missed


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="for all parts together, about (default: 60)")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="these parts alone; each keeps its share")
    given = parser.parse_args()
    given.output.unlink(missing_ok=True)
    for part in PARTS:
        if not given.only or part.name in given.only:
            play(part, part.share * given.minutes * 60, given.output)
    return 0 if show(given.output) else 1


if __name__ == "__main__":
    sys.exit(main())
