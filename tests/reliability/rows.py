"""The rows of build/reliability.json: a figure, its target, and what was done to get it. Commands append; nobody rewrites.

A row is a dict with `name`, `figure`, `unit`, `target`, `at_most` (which way the target points) and `ok`, and beside them `command`,
`commit`, `seconds`, `began` and `evidence`: how much was done (requests, kills, seeds), so that a figure from almost nothing shows.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.compare.rows import Row, print_rows

ROOT = Path(__file__).parent.parent.parent
OUTPUT = Path("build/reliability.json")
Evidence = Mapping[str, Any]
Measured = Sequence[tuple[Row, Evidence]]


def commit() -> str:
    """The commit that is measured, with a + when files differ from it; empty outside a clone."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--abbrev=12", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return told.stdout.strip()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of earlier commands; none when there is no such file yet."""
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Two commands that end at once both append."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def append(path: Path, measured: Measured, seconds: float) -> None:
    """Adds rows to the file, which is made if it is not there. The file is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {"command": " ".join(["python", "-m", module_name(), *sys.argv[1:]]), "commit": commit(), "seconds": round(seconds, 1),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))}  # fmt: skip
    with alone(path):
        rows = read_rows(path) + [{**row.as_dict(), **done, "evidence": dict(evidence)} for row, evidence in measured]
        machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
        written.replace(path)


def module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every command takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file that the rows are appended to")
    return parser


def report(output: Path, measure: Callable[[], Measured]) -> int:
    """Measures, prints the rows, appends them; the exit code of the command. SIGTERM is as Ctrl-C, so that nodes are not left behind."""
    # By way of SIGINT, which trio takes where it can: an exception in the middle of its own code would leave every `with` unfinished.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()
    measured = measure()
    append(output, measured, time.monotonic() - began)
    print_rows(Console(), [row for row, _ in measured])
    for row, evidence in measured:
        print(f"{row.name}: " + ", ".join(f"{name} {value}" for name, value in evidence.items()), flush=True)
    return 0 if all(row.ok for row, _ in measured) else 1
