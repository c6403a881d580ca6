"""python -m bench.gate: instructions per operation of the hot paths, outside +-5 % of the recorded ones is a failure.

Instructions are steadier than seconds, on any machine at any load. They depend on the Python and the compiler, so
baselines stand per Python version in baselines.json; after a change that is meant, `make gate-renew`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

BASELINES = Path(__file__).parent / "baselines.json"
TOLERANCE = 0.05
ROOT = Path(__file__).parent.parent.parent


def count_instructions() -> dict[str, float]:
    """Instructions per operation of every piece, measured under valgrind. Raises FileNotFoundError without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as directory:
        command = [valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={directory}/out",
                   sys.executable, "-m", "bench.gate.driver"]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        if done.returncode != 0:
            raise ChildProcessError(f"the driver failed under valgrind:\n{done.stdout}\n{done.stderr}")
        dumps = sorted(Path(directory).glob("out*"), key=lambda path: int(path.suffix[1:] or 0) if path.suffix else 1 << 30)
        stretches = [total(path) for path in dumps]
        pieces = [line.split("\t") for line in done.stdout.splitlines()]
    counts = {}
    for number, (name, times) in enumerate(pieces):
        _, once, _, twice = stretches[4 * number:4 * number + 4]   # what lies between is preparation
        counts[name] = (twice - once) / int(times)
    return counts


def total(dump: Path) -> int:
    """The instructions of one dump file."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def compare(counts: dict[str, float], recorded: dict[str, float]) -> bool:
    """Print what was counted beside what was recorded; whether every piece is recorded and within the tolerance."""
    table = Table("piece", "instructions", "recorded", "change", "", title=f"per operation, Python {python_version()}")
    good = set(counts) == set(recorded)
    for name, count in counts.items():
        before = recorded.get(name)
        change = count / before - 1 if before else float("inf")
        within = abs(change) <= TOLERANCE
        good = good and within
        table.add_row(name, f"{count:,.0f}", f"{before:,.0f}" if before else "none", f"{change:+.1%}",
                      "ok" if within else "[bold]no[/bold]")
    Console(width=120).print(table)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="record what is counted now as this Python version's baseline")
    renew = parser.parse_args().renew
    baselines = json.loads(BASELINES.read_text()) if BASELINES.exists() else {}
    counts = count_instructions()
    if renew:
        instructions = {name: round(count, 1) for name, count in counts.items()}
        baselines[python_version()] = {"compiler": platform.python_compiler(), "instructions": instructions}
        BASELINES.write_text(json.dumps(baselines, indent=2, sort_keys=True) + "\n")
    if python_version() not in baselines:
        print(f"gate: nothing is recorded for Python {python_version()}: make gate-renew", file=sys.stderr)
        return 1
    if compare(counts, baselines[python_version()]["instructions"]):
        return 0
    print("gate: instruction counts left +-5 % of the recorded ones; if that is meant: make gate-renew", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
