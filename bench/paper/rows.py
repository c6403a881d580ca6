"""What is printed and written to build/paper.json: one row per figure of ours beside the paper's."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One comparison. `ok` is what `judged` says: a tolerance, or a direction where the paper's hardware was another."""

    source: str          # the figure, table or section of the paper
    name: str
    figure: float        # ours
    paper: float | None  # the paper's; None where it gives none
    ok: bool
    judged: str
    unit: str = ""


def near(figure: float, paper: float, tolerance: float) -> bool:
    return abs(figure - paper) <= tolerance


def shown(figure: float | None, unit: str) -> str:
    return "-" if figure is None else f"{figure:.6g}{' ' + unit if unit else ''}" if abs(figure) < 0.01 else f"{figure:.4g} {unit}".strip()


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    table = Table("paper", "what", "here", "paper's", "judged", "ok", box=None)
    for row in rows:
        table.add_row(row.source, row.name, shown(row.figure, row.unit), shown(row.paper, row.unit), row.judged, "yes" if row.ok else "NO")
    console.print(table)


def write_json(path: Path, rows: Sequence[Row]) -> None:
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    path.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
