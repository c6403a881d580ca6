"""How a long target tells what it measured: a table for people, and rows {name, figure, unit, target, ok} as JSON for a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One figure. `target` None: told, and promised by nobody."""

    name: str
    figure: int
    unit: str
    target: int | None
    ok: bool


def at_least(name: str, figure: int, unit: str, target: int) -> Row:
    return Row(name, figure, unit, target, figure >= target)


def none_of(name: str, figure: int, unit: str) -> Row:
    return Row(name, figure, unit, 0, figure == 0)


def told(name: str, figure: int, unit: str) -> Row:
    return Row(name, figure, unit, None, True)


def report(rows: list[Row], file: Path | None) -> int:
    """Prints the rows; the exit code, 1 when a target was missed."""
    for row in rows:
        target = "" if row.target is None else f"  target {row.target:,}" + ("" if row.ok else "  MISSED")
        print(f"{row.name:<52}{row.figure:>12,} {row.unit}{target}")
    if file is not None:
        file.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    return 0 if all(row.ok for row in rows) else 1
