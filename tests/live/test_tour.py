"""The README's five-minute tour, run as written against a cluster of three: every command, in order, and what it prints.

In a console block a line that starts with "$ " is run; the lines under it are its whole output, where "..." stands for any text. A
line "# exit 4" after them gives an exit code that is not 0. A python block is run as a script.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.cluster import Cluster

pytestmark = pytest.mark.live
ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
# Where `make dev` listens, in the tour's own words.
USUAL = "127.0.0.1:7400"


class Step(NamedTuple):
    command: str
    output: str
    exit_code: int


def tour() -> Iterator[tuple[str, str]]:
    """The (language, text) of each block of the tour that is to be run."""
    section = re.search(r"(?ms)^## Five minutes\n(.*?)^## ", README)
    assert section, "the README has no tour"
    blocks = re.findall(r"(?s)```(\w+)\n(.*?)```", section[1])
    yield from ((language, text) for language, text in blocks if language in ("console", "python"))


def steps(block: str) -> Iterator[Step]:
    for part in re.split(r"(?m)^\$ ", block)[1:]:
        command, _, output = part.partition("\n")
        exit_code = 0
        if found := re.search(r"(?m)^# exit (\d+)\n", output):
            exit_code = int(found[1])
            output = output.replace(found[0], "")
        yield Step(command, output, exit_code)


def pattern(output: str) -> str:
    """The output as a regular expression in which "..." stands for anything."""
    return ".*".join(re.escape(piece) for piece in output.split("..."))


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with a `dynamo-fast` that is this Python's."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / "dynamo-fast"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dynamo_fast "$@"\n')
    script.chmod(0o755)
    return directory


def test_tour(tmp_path: Path, tools: Path) -> None:
    blocks = list(tour())
    assert blocks
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.wait_ready()
        seed = cluster.addresses[0]
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "DYNAMO_FAST_SEEDS": seed, "PYTHONPATH": str(ROOT)}
        for language, block in blocks:
            text = block.replace(USUAL, seed)
            if language == "python":
                run(Step(f"{sys.executable} - <<'END'\n{text}\nEND", "", 0), tmp_path, environment)
                continue
            for step in steps(text):
                run(step, tmp_path, environment)


def run(step: Step, directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(["sh", "-c", step.command], cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    happened = f"$ {step.command}\n{done.stdout}{done.stderr}\nwanted exit {step.exit_code} and:\n{step.output}"
    assert done.returncode == step.exit_code, happened
    # A value is printed as it is; only a terminal gets a newline after it.
    assert re.fullmatch(pattern(step.output.rstrip("\n")), done.stdout.rstrip("\n"), re.DOTALL), happened
